"""Who else serves a prefix: a daemon does not start beside a living one."""

import asyncio
import secrets

from runtime.gateway.subjects import SERVICE_NAME
from runtime.logs import log
from runtime.nats.discoverable import discovered
from runtime.nats.link import NatsLink

DRAINING = "draining"
"""The metadata of a daemon that stops, and takes no commands any more."""
_ANSWER_S = 1.0
_PAUSE_S = 0.25


class LivingDaemonError(Exception):
    """Another daemon serves the prefix; the text names it."""


async def alone_on(prefix: str, link: NatsLink, *, inbox_prefix: str, patience_s: float) -> None:
    """Return when no living daemon serves ``prefix``; one that drains is waited for.

    A daemon that does not answer within a second is taken for dead: the ledger's claim keeps it
    from doing harm.

    Args:
        prefix: Of the commands' subjects.
        link: To the NATS that both use.
        inbox_prefix: The answers come in under ``<inbox_prefix>-start.>``: daemons give no answer
            to their own inbox.
        patience_s: How long a daemon that drains is waited for.

    Raises:
        LivingDaemonError: One serves it, or goes on draining.
        LinkError: Nobody can be asked.
    """
    until_s = asyncio.get_running_loop().time() + patience_s
    is_told = False
    while True:
        inbox = f"{inbox_prefix}-start.{secrets.token_urlsafe(12)}"
        answers = await discovered(link, SERVICE_NAME, inbox=inbox, within_s=_ANSWER_S)
        living = [one.metadata for one in answers if one.metadata.get("prefix") == prefix]
        if not living:
            return
        serving = [one for one in living if DRAINING not in one]
        daemon = (serving or living)[0].get("daemon", "one without a name")
        if serving or asyncio.get_running_loop().time() >= until_s:
            raise LivingDaemonError(
                f"daemon {daemon} serves {prefix} already: stop it first, or take its partitions "
                "with --take-over"
            )
        if not is_told:
            is_told = True
            log.info("waiting_for_a_daemon_that_drains", daemon=daemon)
        await asyncio.sleep(_PAUSE_S)
