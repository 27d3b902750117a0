"""The command line: thin requests to a daemon, the daemon itself, and the demo.

Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 error, 2 usage or
configuration, 3 not found, 4 conflict, 5 re-authorisation required, 69 unavailable, 75 try again.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import uvloop
from cyclopts import App, CycloptsError, Parameter

from domain.result import Failure, FailureCode, Success
from runtime import VERSION
from runtime.client import CommandClient
from runtime.config import Config, ConfigError, default_data_dir, load_config
from runtime.daemon import DaemonError, serve
from runtime.demo import run_demo
from runtime.embedded_nats import CONTEXT_FILE, EmbeddedNatsError, read_context
from runtime.jetstream_api import JetStreamError
from runtime.logs import configure_logs
from runtime.nats_link import LinkError, LinkLimits, Login, NoRespondersError, open_link
from runtime.sealing import KeyringError
from runtime.streams import StreamsError
from runtime.tables import show_connections, show_event, show_fields

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_CONFLICT = 4
EXIT_REAUTH_REQUIRED = 5
EXIT_UNAVAILABLE = 69
EXIT_TRY_AGAIN = 75

_EXIT_CODES = {
    FailureCode.INVALID_COMMAND: EXIT_USAGE,
    FailureCode.INVALID_CREDENTIALS: EXIT_USAGE,
    FailureCode.TOO_LARGE: EXIT_USAGE,
    FailureCode.UNKNOWN_PROVIDER: EXIT_USAGE,
    FailureCode.NOT_OWNED_BY_USER: EXIT_ERROR,
    FailureCode.CONNECTION_NOT_FOUND: EXIT_NOT_FOUND,
    FailureCode.NOT_ACTIVE: EXIT_CONFLICT,
    FailureCode.INVALID_TRANSITION: EXIT_CONFLICT,
    FailureCode.NOT_REFRESHABLE: EXIT_CONFLICT,
    FailureCode.REAUTH_REQUIRED: EXIT_REAUTH_REQUIRED,
    FailureCode.OVERLOADED: EXIT_TRY_AGAIN,
    FailureCode.DATABASE_ERROR: EXIT_TRY_AGAIN,
    FailureCode.PROVIDER_UNAVAILABLE: EXIT_TRY_AGAIN,
    FailureCode.PROVIDER_MISCONFIGURED: EXIT_TRY_AGAIN,
    FailureCode.SHUTTING_DOWN: EXIT_TRY_AGAIN,
    FailureCode.REFRESH_IN_PROGRESS: EXIT_TRY_AGAIN,
}

app = App(
    name="refreshd",
    help="Owns OAuth grants: one actor per connection, so concurrent token refreshes never race.",
    version=VERSION,
)
_T = TypeVar("_T")


class _CommandError(Exception):
    """Ends the process with a message and an exit code."""

    def __init__(self, message: str, code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.code = code


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the daemon, or its NATS, is."""

    config: Path | None = None
    "The TOML file; $REFRESHD_CONFIG."
    data_dir: Path | None = None
    "Default $REFRESHD_DATA_DIR, else $XDG_STATE_HOME/refreshd."
    nats: str | None = None
    "An external server's URL; without it, the embedded one."

    def folder(self) -> Path:
        """Return the data folder."""
        return self.data_dir or default_data_dir(os.environ)

    def settings(self) -> Config:
        """Return the configuration."""
        return load_config(self.config, nats_url=self.nats)

    def login(self, settings: Config) -> Login:
        """Return how a client gets in: the configured server, or the embedded one's context."""
        if settings.nats.url is not None:
            return settings.login()
        context = read_context(self.folder() / CONTEXT_FILE)
        if context is None:
            raise _CommandError(
                f"no daemon: {self.folder() / CONTEXT_FILE} is not there "
                "(start one with `refreshd serve`, or give --nats or --data-dir)",
                EXIT_UNAVAILABLE,
            )
        return context.login()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking(Place):
    """Where the daemon is, and how to show what it says."""

    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table"
    "table for people, json for programs."
    timeout_s: float = 4.0
    "How long to wait for the daemon."


_SOMEWHERE = Place()
_HERE = Asking()


@app.command(name="serve")
def serve_command(*, place: Place = _SOMEWHERE) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; a second signal ends it at once."""
    settings = place.settings()
    as_json = {"auto": None, "json": True, "text": False}[settings.log.format]
    configure_logs(level=settings.log.level, as_json=as_json)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(EXIT_ERROR)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await serve(settings, place.folder(), announce=_to_stderr, stop=stop)

    uvloop.run(run())


@app.command
def connect(
    *,
    user_id: str,
    provider_id: str,
    provider_slug: str,
    credentials_file: str | None = None,
    connection_id: str | None = None,
    alias: str | None = None,
    param: tuple[str, ...] = (),
    pending: bool = False,
    asking: Asking = _HERE,
) -> None:
    """Create a connection, or give one that is not active new credentials.

    Parameters
    ----------
    user_id
        The owner's UUID.
    provider_id
        The provider's UUID.
    provider_slug
        1-50 of a-z, 0-9, _ and -.
    credentials_file
        JSON: {"credential_type", "expires_at"?, "secret" or "encrypted_data"}; - for stdin.
    connection_id
        Its UUID; the daemon chooses one without it.
    alias
        A name for people, at most 100 characters.
    param
        NAME=VALUE for the templates of the provider's profile; may be repeated.
    pending
        Create it without credentials.
    """
    body: dict[str, Any] = {
        "user_id": user_id,
        "provider_id": provider_id,
        "provider_slug": provider_slug,
        "connection_id": connection_id,
        "alias": alias,
        "pending": pending,
    }
    if credentials_file is not None:
        body["credentials"] = _read_json(credentials_file)
    if param:
        body["params"] = dict(_pair(text) for text in param)
    _ask(asking, "connect", body, show_fields)


@app.command
def refresh(connection_id: str, *, credentials_file: str, asking: Asking = _HERE) -> None:
    """Replace an active connection's credentials.

    Parameters
    ----------
    connection_id
        Its UUID.
    credentials_file
        JSON, as for connect; - for stdin.
    """
    body = {"credentials": _read_json(credentials_file)}
    _ask(asking, f"connection.{_token(connection_id)}.refresh", body, _show_nothing)


@app.command
def get(connection_id: str, *, asking: Asking = _HERE) -> None:
    """Show a connection; never its credentials."""
    _ask(asking, f"connection.{_token(connection_id)}.get", None, show_fields)


@app.command(name="list")
def list_command(
    *,
    user_id: str | None = None,
    provider_slug: str | None = None,
    status: str | None = None,
    limit: int | None = None,
    asking: Asking = _HERE,
) -> None:
    """List connections.

    Parameters
    ----------
    user_id
        Only this owner's.
    provider_slug
        Only at this provider.
    status
        Only pending, active, expired, revoked, failed or disconnected ones.
    limit
        At most so many; all without it.
    """
    query: dict[str, Any] = {"user_id": user_id, "provider_slug": provider_slug, "status": status}

    async def pages(client: CommandClient) -> Success[Any] | Failure:
        found: dict[str, Any] = {}
        cursor: str | None = None
        while True:
            left = 1000 if limit is None else min(1000, limit - len(found))
            page = await client.call(
                "connections.list", {**query, "cursor": cursor, "limit": max(left, 1)}
            )
            if isinstance(page, Failure):
                return page
            found.update((connection["id"], connection) for connection in page.value["connections"])
            cursor = page.value["cursor"]
            if cursor is None or (limit is not None and len(found) >= limit):
                return Success(list(found.values()))

    _run_and_show(asking, pages, show_connections)


@app.command
def expire(connection_id: str, *, reason: str | None = None, asking: Asking = _HERE) -> None:
    """Mark an active connection as expired; its credentials are kept."""
    _ask(asking, f"connection.{_token(connection_id)}.expire", {"reason": reason}, _show_nothing)


@app.command
def revoke(connection_id: str, *, reason: str | None = None, asking: Asking = _HERE) -> None:
    """Mark an active connection as revoked; its credentials are kept for audit."""
    _ask(asking, f"connection.{_token(connection_id)}.revoke", {"reason": reason}, _show_nothing)


@app.command
def disconnect(connection_id: str, *, user_id: str, asking: Asking = _HERE) -> None:
    """End a connection for good and clear its credentials.

    Parameters
    ----------
    connection_id
        Its UUID.
    user_id
        The owner's UUID; nobody else may.
    """
    _ask(
        asking,
        f"connection.{_token(connection_id)}.disconnect",
        {"user_id": user_id},
        _show_nothing,
    )


@app.command
def events(
    *,
    connection_id: str | None = None,
    provider_slug: str | None = None,
    since: int = 1,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"])] = False,
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

    async def show(client: CommandClient) -> Success[None]:
        async for sequence, event in client.events(
            connection_id=None if connection_id is None else _token(connection_id),
            provider_slug=None if provider_slug is None else _token(provider_slug),
            start_seq=max(since, 1),
            follow=follow,
        ):
            print(json.dumps(event) if asking.output == "json" else show_event(sequence, event))
        return Success(None)

    _run_and_show(asking, show, _show_nothing, prints=False)


@app.command
def status(*, asking: Asking = _HERE) -> None:
    """Show how the daemon is; exit 69 where none can be reached."""
    _ask(asking, "status", None, show_fields)


@app.command
def demo(*, connections: int = 1000, refreshes: int = 6000, callers: int = 200) -> None:
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
    passed = uvloop.run(run_demo(connections=connections, refreshes=refreshes, callers=callers))
    if not passed:
        raise _CommandError("the demo found a broken promise", EXIT_ERROR)


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        app(print_error=True, exit_on_error=False)
    except CycloptsError:
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except Exception as error:  # noqa: BLE001 -- the edge: known errors become one line
        _exit_for(error)


def _exit_for(error: Exception) -> None:
    """Print one line for an expected error and exit; let a bug show its traceback."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    match error:
        case _CommandError(code=code):
            pass
        case ConfigError() | KeyringError():
            code = EXIT_USAGE
        case LinkError() | EmbeddedNatsError() | StreamsError() | JetStreamError():
            code = EXIT_UNAVAILABLE
        case DaemonError() | OSError():
            code = EXIT_ERROR
        case _:
            raise error
    _to_stderr(f"refreshd: {error}")
    sys.exit(code)


def _ask(asking: Asking, subject: str, body: object, show: Callable[[Any], str | None]) -> None:
    """Make one request and show its value, or exit with its failure's code."""
    _run_and_show(asking, lambda client: client.call(subject, body), show)


def _run_and_show(
    asking: Asking,
    work: Callable[[CommandClient], Awaitable[Success[Any] | Failure]],
    show: Callable[[Any], str | None],
    *,
    prints: bool = True,
) -> None:
    """Do ``work`` with a client, then print its value or exit with its failure."""
    configure_logs(level="error", as_json=False)
    settings = asking.settings()
    login = asking.login(settings)

    async def run() -> Success[Any] | Failure:
        limits = LinkLimits(connect_timeout_s=asking.timeout_s)
        async with open_link(login, name="refreshd cli", limits=limits) as link:
            client = CommandClient(link, prefix=settings.service.prefix, timeout_s=asking.timeout_s)
            return await work(client)

    match _run(run()):
        case Success(value):
            if prints:
                text = json.dumps(value, indent=2) if asking.output == "json" else show(value)
                if text is not None:
                    print(text)
        case Failure() as failure:
            retry = (
                ""
                if failure.retry_after_s is None
                else f" (retry after {failure.retry_after_s:g} s)"
            )
            raise _CommandError(
                f"{failure.code}: {failure.message}{retry}", _EXIT_CODES[failure.code]
            )


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run ``work``; nobody listening means that the daemon is not there."""
    try:
        return uvloop.run(work)
    except NoRespondersError:
        raise _CommandError("no refreshd answers there", EXIT_UNAVAILABLE) from None


def _read_json(file: str) -> Any:  # noqa: ANN401 -- whatever JSON it is; the daemon checks it
    """Return the JSON in a file, or on standard input for ``-``."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        return json.loads(text)
    except OSError as error:
        raise _CommandError(f"{file}: {error.strerror}", EXIT_USAGE) from None
    except ValueError:
        # The parser's text would quote what it read.
        raise _CommandError(f"{file}: not JSON", EXIT_USAGE) from None


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise _CommandError(f"--param {text}: NAME=VALUE is needed", EXIT_USAGE)
    return name, value


def _token(text: str) -> str:
    """Return ``text`` when it can be one token of a subject."""
    if not text or any(character in ".*> \t\r\n" for character in text):
        raise _CommandError(f"{text!r} is no id", EXIT_USAGE)
    return text


def _show_nothing(_value: object) -> None:
    return None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
