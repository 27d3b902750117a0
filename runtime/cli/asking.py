"""How the command line asks a daemon: where it is, what went wrong, and the exit code for it."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
import uvloop
from cyclopts import Parameter, validators

from actors.ports import PartitionLostError
from domain.result import Failure, FailureCode, Success
from runtime.cli.client import CommandClient
from runtime.cli.unreached import Whereabouts, unreached
from runtime.config import Config, config_file, default_data_dir, load_config
from runtime.data_folder import DataFolderError
from runtime.ending import DaemonError
from runtime.gateway.living import LivingDaemonError
from runtime.ledger.restore_mark import HalfRestoredError
from runtime.ledger.sealing import KeyringError
from runtime.ledger.spill import SpillError
from runtime.ledger.streams import StreamsError
from runtime.logs import configure_logs
from runtime.nats.embedded import CONTEXT_FILE, EmbeddedNatsError, read_context
from runtime.nats.errors import (
    LinkError,
    NotAllowedError,
    TooLargeError,
)
from runtime.nats.jetstream_api import JetStreamError
from runtime.nats.link import PLAIN_INBOX, LinkLimits, Login, NatsLink, open_link
from runtime.provider.secret_files import ConfigError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_CONFLICT = 4
EXIT_REAUTH_REQUIRED = 5
EXIT_UNAVAILABLE = 69
EXIT_TRY_AGAIN = 75
EXIT_CODES_HELP = (
    "Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 not found, 4 conflict, "
    "5 the user must sign in again, 69 no daemon or no answer, 75 try again, "
    "141 nobody reads the output."
)

Output = Annotated[Literal["table", "json", "jsonl"], Parameter(name=["--output", "-o"])]
StreamOrFile = Annotated[str | Path, Parameter(allow_leading_hyphen=True)]
"""A path, or - for a standard stream. It is always a text; by the other type shells complete it."""

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
    FailureCode.TIMED_OUT: EXIT_TRY_AGAIN,
}

_WORDS = {
    EXIT_ERROR: "ERROR",
    EXIT_USAGE: "USAGE",
    EXIT_NOT_FOUND: "NOT_FOUND",
    EXIT_CONFLICT: "CONFLICT",
    EXIT_UNAVAILABLE: "UNAVAILABLE",
    EXIT_TRY_AGAIN: "TRY_AGAIN",
}
"""The codes of errors that no daemon answered, in JSON."""

_T = TypeVar("_T")


class CommandError(Exception):
    """Ends the process with a message and an exit code."""

    def __init__(
        self, message: str, code: int = EXIT_ERROR, *, failure: Failure | None = None
    ) -> None:
        """Keep the exit code; the message is one line for stderr.

        Args:
            message: For people.
            code: The exit code.
            failure: What the daemon answered, for programs.
        """
        super().__init__(message)
        self.code = code
        self.failure = failure


class UnreachedError(CommandError):
    """No daemon has answered."""

    def __init__(self, text: str, mend: str) -> None:
        """Keep what is wrong and its mend; the message has both."""
        super().__init__(f"{text}: {mend}", EXIT_UNAVAILABLE)
        self.text, self.mend = text, mend


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

    def file(self) -> Path | None:
        """Return the configuration's file, if there is one."""
        return self.config or config_file(os.environ)

    def settings(self) -> Config:
        """Return the configuration."""
        return load_config(self.config, nats_url=self.nats)

    def login(self, settings: Config) -> Login:
        """Return how a client gets in: the configured server, or the embedded one's context."""
        if settings.nats.url is not None:
            return settings.login()
        context = read_context(self.folder() / CONTEXT_FILE)
        if context is None:
            raise UnreachedError(
                f"no daemon: {self.folder() / CONTEXT_FILE} is not there",
                f"{self.how_to_start()}, or say where it is: --nats or --data-dir",
            )
        return context.login()

    def how_to_start(self) -> str:
        """Return what to type for a daemon to be there."""
        # Not the URL: it may hold a password.
        url = None if self.nats is None else "URL"
        options = {"--config": self.config, "--data-dir": self.data_dir, "--nats": url}
        given = "".join(f" {name} {value}" for name, value in options.items() if value is not None)
        return f"start one with `refreshd serve{given}`"

    def whereabouts(self, login: Login, settings: Config, timeout_s: float) -> Whereabouts:
        """Return where the daemon is looked for, in words."""
        context = self.folder() / CONTEXT_FILE if settings.nats.url is None else None
        prefix = settings.service.prefix
        return Whereabouts(login.address, prefix, self.how_to_start(), context, timeout_s)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking(Place):
    """Where the daemon is, and how to show what it says."""

    output: Output = "table"
    "table for people, json for programs, jsonl with one value a line."
    timeout_s: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=60))] = 4.0
    "How long to wait for the daemon; at most 60."


def ask(asking: Asking, subject: str, body: object, show: Callable[[Any], str | None]) -> None:
    """Make one request and show its value, or exit with its failure's code."""
    run_and_show(asking, lambda client: client.call(subject, body), show)


def run_and_show(
    asking: Asking,
    work: Callable[[CommandClient], Awaitable[Success[Any] | Failure]],
    show: Callable[[Any], str | None],
    *,
    prints: bool = True,
) -> None:
    """Do ``work`` with a client, then print its value or exit with its failure."""

    async def ask_there(link: NatsLink, settings: Config) -> Success[Any] | Failure:
        prefix = settings.service.prefix
        return await work(CommandClient(link, prefix=prefix, timeout_s=asking.timeout_s))

    match run_linked(asking, ask_there):
        case Success(value):
            if prints:
                show_value(asking, value, show)
        case Failure() as failure:
            raise_failure(failure)


def raise_failure(failure: Failure) -> NoReturn:
    """End with what a daemon has refused, and its exit code."""
    raise CommandError(_told(failure), _EXIT_CODES[failure.code], failure=failure)


def run_linked(
    asking: Asking,
    work: Callable[[NatsLink, Config], Awaitable[_T]],
    *,
    inbox_prefix: str = PLAIN_INBOX,
    settings: Config | None = None,
) -> _T:
    """Return what ``work`` does with a link to where the daemon is, and the configuration.

    Args:
        asking: Says where.
        work: Whatever is to be done.
        inbox_prefix: Where answers come in unless that is configured.
        settings: In place of the configuration that is named.
    """
    configure_logs(level="error", as_json=False)
    settings = settings or _settings_to_ask_by(asking)
    login = asking.login(settings)

    async def run() -> _T:
        async with open_link(
            login,
            name="refreshd cli",
            limits=LinkLimits(connect_timeout_s=asking.timeout_s),
            inbox_prefix=settings.nats.inbox_prefix or inbox_prefix,
            is_patient=False,
        ) as link:
            return await work(link, settings)

    return _run(run(), asking.whereabouts(login, settings, asking.timeout_s))


def _settings_to_ask_by(asking: Asking) -> Config:
    """Return the configuration; where the file cannot be used, say how to ask without it."""
    try:
        return asking.settings()
    except ConfigError as error:
        file = asking.file()
        if file is None or not str(error).startswith(f"{file}:"):
            raise
        raise ConfigError(
            f"{error}; to ask without this file: --config /dev/null, and --nats or "
            "$REFRESHD_NATS_* where NATS is an external server"
        ) from None


def show_value(asking: Asking, value: Any, show: Callable[[Any], str | None]) -> None:  # noqa: ANN401 -- any JSON
    """Print a result."""
    text = show(value) if asking.output == "table" else json_text(value, asking.output)
    if text:
        print(text)


def json_text(value: Any, output: str) -> str:  # noqa: ANN401 -- any JSON
    """Return a value as JSON; for ``jsonl`` in one line, or a line each where there are several."""
    if output == "json":
        return json.dumps(value, indent=2)
    return "\n".join(map(json.dumps, value)) if isinstance(value, list) else json.dumps(value)


def _told(failure: Failure) -> str:
    """Return a failure as one line for people."""
    after_s = failure.retry_after_s
    detail = "" if failure.detail is None else f": {failure.detail}"
    retry = "" if after_s is None else f" (retry after {after_s:g} s)"
    return f"{failure.code}: {failure.message}{detail}{retry}"


def _run(work: Coroutine[Any, Any, _T], at: Whereabouts) -> _T:
    """Run ``work``; where it reached no daemon, say how far it got."""
    try:
        return uvloop.run(work)
    except NotAllowedError as error:
        raise CommandError(f"{error}: its permissions on the NATS server say so") from None
    except TooLargeError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    except LinkError as error:
        if (why := unreached(error, at)) is None:
            raise
        raise UnreachedError(*why) from None


def exit_for(error: Exception, *, as_json: bool = False) -> NoReturn:
    """Tell an expected error on stderr and exit with its code; let a bug show its traceback.

    Args:
        error: One line for people.
        as_json: Whether to tell it as an object for programs: ``{"error": {"code", "message",
            "needs_user_action", "retry_after_s", ...}}``.
    """
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    failure = error.failure if isinstance(error, CommandError) else None
    code = _exit_code(error)
    to_stderr(_error_body(error, code, failure) if as_json else f"refreshd: {error}")
    sys.exit(code)


def _error_body(error: Exception, code: int, failure: Failure | None) -> str:
    """Return an error as JSON in one line; what the daemon did not say has a word of ours."""
    body: dict[str, object] = {"needs_user_action": None, "retry_after_s": None}
    if failure is None:
        body = {"code": _WORDS[code], "message": str(error), **body}
    else:
        told = msgspec.structs.asdict(failure).items()
        body |= {name: value for name, value in told if value is not None}
    return json.dumps({"error": {**body, "exit_code": code}})


def _exit_code(error: Exception) -> int:
    """Return the exit code of an expected error; raise any other."""
    match error:
        case CommandError(code=code):
            return code
        case ConfigError() | KeyringError():
            return EXIT_USAGE
        case HalfRestoredError():
            return EXIT_CONFLICT
        case LinkError() | EmbeddedNatsError() | StreamsError() | JetStreamError():
            return EXIT_UNAVAILABLE
        case PartitionLostError() | LivingDaemonError() | SpillError():
            return EXIT_TRY_AGAIN
        case DaemonError() | DataFolderError() | OSError():
            return EXIT_ERROR
        case _:
            raise error


def read_json(file: str | Path) -> Any:  # noqa: ANN401 -- whatever JSON it is; the daemon checks it
    """Return the JSON in a file, or on standard input for ``-``."""
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return msgspec.json.decode(text)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", EXIT_USAGE) from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # The parser's text would quote what it read.
        raise CommandError(f"{file}: not JSON", EXIT_USAGE) from None


def read_pair(text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``."""
    name, separator, value = text.partition("=")
    if not separator:
        raise CommandError(f"--param {text}: NAME=VALUE is needed", EXIT_USAGE)
    return name, value


def as_token(text: str) -> str:
    """Return ``text`` when it can be one token of a subject."""
    if not re.fullmatch(r"[!-~]+", text) or any(character in ".*>" for character in text):
        raise CommandError(f"{text!r} is no id", EXIT_USAGE)
    return text


def with_one_name(connection: dict[str, Any]) -> dict[str, Any]:
    """Return a connection as the command line shows it: ``connection_id``, as everywhere else.

    On the wire it is ``id`` in ``get`` and ``list``, which is the event's own in an event.
    """
    return {"connection_id" if name == "id" else name: connection[name] for name in connection}


def show_done(_value: object) -> str:
    """Say that a command which has no value was carried out."""
    return "ok"


def to_stderr(line: str) -> None:
    """Print a line for people; stdout is for results."""
    with contextlib.suppress(OSError, ValueError):
        # Where both go to one place they are read in the order in which they were said.
        sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
