"""The command line: thin requests to a daemon, the daemon itself, and the demo.

Results go to stdout, everything else to stderr; docs/command-line.md has the exit codes.
"""

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
import sys
import threading
from typing import Annotated, Any

import uvloop
from cyclopts import App, CycloptsError, CycloptsPanel, Parameter, validators

from domain.result import Failure, Success
from runtime import VERSION
from runtime.cli.asking import (
    EXIT_CODES_HELP,
    EXIT_ERROR,
    EXIT_USAGE,
    Asking,
    CommandError,
    Place,
    StreamOrFile,
    as_token,
    ask,
    exit_for,
    read_json,
    run_and_show,
    show_done,
    to_stderr,
    with_one_name,
)
from runtime.cli.bulk_verbs import add_bulk_verbs
from runtime.cli.client import CommandClient
from runtime.cli.connecting import connect
from runtime.cli.demo import run_demo
from runtime.cli.doctor import add_doctor
from runtime.cli.explaining import explain, history
from runtime.cli.fake_provider import fake_provider_command
from runtime.cli.listing import list_command
from runtime.cli.no_core import leave_no_core
from runtime.cli.provider_commands import provider
from runtime.cli.schema_verb import add_schema_verb
from runtime.cli.setup_verbs import add_setup_verbs
from runtime.cli.status_verbs import add_status_verbs
from runtime.cli.tables import event_head, show_event, show_fields
from runtime.cli.top import add_top
from runtime.cli.usage import usage_words
from runtime.logs import configure_logs, log
from runtime.reloading import Place as ConfigPlace
from runtime.serving import serve

Many = Annotated[int, Parameter(validator=validators.Number(gte=1))]

app = App(
    name="refreshd",
    help="Owns OAuth grants: one actor per connection, so concurrent token refreshes never race.",
    help_epilogue=EXIT_CODES_HELP,
    version=VERSION,
)
_SOMEWHERE = Place()
_REPEATS_MAX = 20
_HERE = Asking()
_OVERRUN_S = 0.5
"""How much longer than its grace a stop may take before the process ends all the same."""


app.command(fake_provider_command, name="fake-provider")
app.command(provider)
app.command(connect)
app.command(list_command, name="list")
app.command(explain)
app.command(history)
add_doctor(app)
add_status_verbs(app)
add_top(app)
add_bulk_verbs(app)
add_setup_verbs(app)
add_schema_verb(app)


@app.command(name="serve")
def serve_command(
    *, take_over: Annotated[bool, Parameter(negative=())] = False, place: Place = _SOMEWHERE
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; a second one ends it at once. SIGHUP reloads.

    Parameters
    ----------
    take_over
        Start beside a living daemon of the same prefix, too; that one ends with exit code 75.
        It hands over what its providers still answer; one that works is better stopped first, by
        SIGTERM: then this one waits for it.
    """
    settings = place.settings()
    as_json = {"auto": None, "json": True, "text": False}[settings.log.format]
    configure_logs(level=settings.log.level, as_json=as_json, repeats_max=_REPEATS_MAX)
    # Until the loop takes signals, a hang-up must not end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    leave_no_core()
    collect_garbage_seldom()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(EXIT_ERROR)
            stop.set()
            end_at_last(settings.service.drain_grace_s + _OVERRUN_S)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        hang_up = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hang_up.set)
        await serve(
            settings,
            place.folder(),
            announce=to_stderr,
            stop=stop,
            hang_up=hang_up,
            came_from=ConfigPlace(place.file(), place.folder(), place.nats),
            takes_over=take_over,
        )

    uvloop.run(run())


def end_at_last(within_s: float) -> None:
    """End the process after so many seconds, whatever holds it up; all that is stored is synced."""

    def end() -> None:
        log.critical("stop_overran")
        os._exit(EXIT_ERROR)

    timer = threading.Timer(within_s, end)
    timer.daemon = True
    timer.start()


def collect_garbage_seldom() -> None:
    """Spare the collector what was imported, and let it look for cycles less often.

    Commands make no cycles; counting references frees them. Worth 5-10 % of the daemon's CPU.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@app.command
def refresh(connection_id: str, *, credentials_file: StreamOrFile, asking: Asking = _HERE) -> None:
    """Replace an active connection's credentials.

    Parameters
    ----------
    connection_id
        Its UUID.
    credentials_file
        JSON, as for connect; - for stdin.
    """
    body = {"credentials": read_json(credentials_file)}
    ask(asking, f"connection.{as_token(connection_id)}.refresh", body, show_done)


@app.command
def token(
    connection_id: str,
    *,
    min_ttl_s: float = 60.0,
    if_generation: int | None = None,
    force: bool = False,
    header: bool = False,
    asking: Asking = _HERE,
) -> None:
    """Print an access token that lives; it is refreshed at the provider where needed.

    Parameters
    ----------
    connection_id
        Its UUID.
    min_ttl_s
        How long the token must still live.
    if_generation
        The generation whose token was rejected (401): refresh only if it is still the current one.
    force
        Refresh whatever the token's age, unless the provider must not be asked yet.
    header
        Print the whole Authorization header.
    """
    body = {"min_ttl_s": min_ttl_s, "if_generation": if_generation, "force": force}

    def show(value: dict[str, Any]) -> str:
        if value["stale"]:
            to_stderr(f"refreshd: this token is stale: {value.get('detail', 'not refreshed')}")
        bare = str(value["access_token"])
        return f"Authorization: {value['token_type']} {bare}" if header else bare

    ask(asking, f"connection.{as_token(connection_id)}.token", body, show)


@app.command
def get(connection_id: str, *, asking: Asking = _HERE) -> None:
    """Show a connection; never its credentials."""
    subject = f"connection.{as_token(connection_id)}.get"

    async def shown(client: CommandClient) -> Success[Any] | Failure:
        got = await client.call(subject)
        return got if isinstance(got, Failure) else Success(with_one_name(got.value))

    run_and_show(asking, shown, show_fields)


@app.command
def events(
    *,
    connection_id: str | None = None,
    provider_slug: str | None = None,
    since: int = 1,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    asking: Asking = _HERE,
) -> None:
    """Show what has happened, oldest first.

    Parameters
    ----------
    connection_id
        Only this connection's.
    provider_slug
        Only at this provider.
    since
        From this sequence of the event stream on.
    follow
        Go on until Ctrl-C.
    """
    is_json = asking.output != "table"

    async def show(client: CommandClient) -> Success[None]:
        found = client.events(
            connection_id=None if connection_id is None else as_token(connection_id),
            provider_slug=None if provider_slug is None else as_token(provider_slug),
            start_seq=max(since, 1),
            follow=follow,
        )
        if not is_json:
            print(event_head(), flush=follow)
        async with contextlib.aclosing(found):
            async for sequence, event in found:
                # Who follows through a pipe wants each event when it comes.
                text = json.dumps(event) if is_json else show_event(sequence, event)
                print(text, flush=follow)
        return Success(None)

    run_and_show(asking, show, show_done, prints=False)


@app.command
def demo(
    *, connections: Many = 1000, refreshes: Many = 6000, callers: Many = 200, herd: Many = 10_000
) -> None:
    """Show the main job on a daemon of its own: many callers, one truth.

    Parameters
    ----------
    connections
        How many connections to make.
    refreshes
        How many refreshes to make, a fifth of them on one connection.
    callers
        How many of them at once.
    """
    configure_logs(level="error", as_json=False)
    passed = uvloop.run(
        run_demo(connections=connections, refreshes=refreshes, callers=callers, herd=herd)
    )
    if not passed:
        raise CommandError("the demo found a broken promise", EXIT_ERROR)


def main() -> None:
    """Run the command line, and exit with its code."""
    as_json = asks_for_json(sys.argv[1:])
    try:
        for argument in sys.argv:
            argument.encode()
        app(
            print_error=not as_json,
            error_formatter=lambda error: CycloptsPanel(usage_words(app, error)),
            exit_on_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except UnicodeEncodeError:
        exit_for(CommandError("an argument is not UTF-8", EXIT_USAGE), as_json=as_json)
    except CycloptsError as error:
        if as_json:
            exit_for(CommandError(usage_words(app, error), EXIT_USAGE), as_json=True)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Nobody reads on, as behind ``head``: end as a program does that the signal ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:  # noqa: BLE001 -- the edge: known errors become one line
        exit_for(error, as_json=as_json)


def asks_for_json(arguments: list[str]) -> bool:
    """Whether an error is for a program to read, also where the arguments cannot be parsed."""
    told = " ".join(arguments)
    return re.search(r"(^| )(-o|--output)[ =]?jsonl?( |$)", told) is not None
