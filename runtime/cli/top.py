"""``refreshd top``: what a cluster does, live; one frame where nobody looks at a terminal."""

import asyncio
import sys
import time
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter, validators
from rich.console import Console
from rich.live import Live
from rich.text import Text

from domain.result import Failure
from runtime.cli.asking import Asking, raise_failure, run_linked, show_value
from runtime.cli.client import CommandClient
from runtime.cli.rates import Look, Rates, rates
from runtime.cli.top_frame import frame
from runtime.config import Config
from runtime.gateway.subjects import SERVICE_NAME
from runtime.nats.discoverable import counted
from runtime.nats.errors import LinkError
from runtime.nats.link import NatsLink

_HERE = Asking()
_STATS_S = 0.5
"""How long the members' counts are waited for: all answer at once, or may not be asked."""

Interval = Annotated[float, Parameter(validator=validators.Number(gte=0.2, lte=60))]


def add_top(app: App) -> None:
    """Make the verb known to the command line."""
    app.command(top)


def top(*, interval_s: Interval = 2.0, asking: Asking = _HERE) -> None:
    """Show live what a cluster does: rates, what is late, circuits, lags, owners; Ctrl-C ends it.

    Without a terminal, and with -o json, one frame is shown, of one interval.

    Parameters
    ----------
    interval_s
        How often to look.
    """
    is_live = asking.output == "table" and sys.stdout.isatty()

    async def watch(link: NatsLink, settings: Config) -> tuple[Look, Rates]:
        client = CommandClient(link, prefix=settings.service.prefix, timeout_s=asking.timeout_s)
        before = await _look(link, client)
        if is_live:
            await _live(link, client, before, interval_s)
        await asyncio.sleep(interval_s)
        now = await _look(link, client)
        return now, rates(before, now)

    now, seen = run_linked(asking, watch)
    value = {"rates": msgspec.to_builtins(seen), "status": now.status}
    show_value(asking, value, lambda _: frame(now.status, seen))


async def _look(link: NatsLink, client: CommandClient) -> Look:
    """Look once.

    Raises:
        CommandError: The daemon refuses.
        LinkError: No daemon answers.
    """
    answer = await client.call("status")
    if isinstance(answer, Failure):
        raise_failure(answer)
    status: dict[str, Any] = answer.value
    members = len(status["cluster"]["members"])
    services = await counted(link, SERVICE_NAME, services=members, within_s=_STATS_S)
    return Look(time.monotonic(), status, services)


async def _live(link: NatsLink, client: CommandClient, before: Look, interval_s: float) -> None:
    """Show one frame after another until Ctrl-C; that no daemon answers for a while is said."""
    console = Console(highlight=False)
    shown = "the first rates take one interval"
    with Live(Text(shown), console=console, screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(interval_s)
            try:
                now = await _look(link, client)
            except LinkError as error:
                live.update(Text(f"no answer now: {error}\n\n{shown}"), refresh=True)
                continue
            shown = frame(now.status, rates(before, now))
            before = now
            live.update(Text(shown), refresh=True)
