"""Structured logs on stderr: JSON lines, or readable ones on a terminal.

Log calls name an event and give plain fields. Nothing logs a payload, a credential or an
exception's text from outside; the processor below is the second net, not the first.
"""

import atexit
import contextlib
import logging
import select
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from domain.credentials import Opaque, Sealed, Secret, Unsealed

_SECRET_KEYS = frozenset(
    {"access_token", "refresh_token", "client_secret", "password", "secret", "token", "credentials"}
    | {"encrypted_data", "authorization", "payload", "body", "ciphertext"}
)

_PERIOD_S = 10.0

log: Any = structlog.get_logger("refreshd")


def configure_logs(
    *, level: str = "info", as_json: bool | None = None, repeats_max: int | None = None
) -> None:
    """Set up logging for the process.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        as_json: None chooses readable lines on a terminal and JSON lines elsewhere.
        repeats_max: How many lines of one event are shown in ten seconds; None for all.
    """
    if as_json is None:
        as_json = not sys.stderr.isatty()
    exceptions = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    renderers = (
        [exceptions, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    few: list[Processor] = []
    if repeats_max is not None:
        repeats = FewRepeats(repeats_max)
        atexit.register(repeats.tell)
        few = [repeats]
    structlog.configure(
        processors=[
            *few,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            hide_secrets,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=_Lossy(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    # nats-py logs through the standard library; its texts can quote what it received.
    for name in ("nats", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _OfLibraries)]
    root.addHandler(_OfLibraries())


def set_level(level: str) -> None:
    """Show lines from another level on; see ``configure_logs``."""
    number = getattr(logging, level.upper())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))


class _OfLibraries(logging.Handler):
    """Makes lines of ours of what libraries log: where, and never a text, which may quote anything.

    Else Python prints them bare, between lines that a program reads as JSON.
    """

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name}
        fields["where"] = f"{record.filename}:{record.lineno}"
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields["error"] = type(error).__name__
            fields["frames"] = frames_of(error)
        # Below an error it is about how the library works, as at the end of a TLS connection.
        tell = log.error if record.levelno >= logging.ERROR else log.debug
        tell("library_logged", **fields)


def frames_of(error: BaseException) -> list[str]:
    """Return where an error came from, without its text."""
    found = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in found]


_LINE_LENGTH_MAX = select.PIPE_BUF // 4 * 3


class _Lossy:
    """A stream that loses what cannot be written at once.

    A log that is gone, or a pipe that nobody reads, must not stop the daemon.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0
        self._room: select.poll | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            room = select.poll()
            room.register(stream.fileno(), select.POLLOUT)
            self._room = room

    def write(self, text: str) -> None:
        # A pipe that polls as writable takes PIPE_BUF bytes without blocking (POSIX).
        if self._room is not None and not self._room.poll(0):
            self._lost += 1
            return
        if self._lost and len(text) < _LINE_LENGTH_MAX:
            text, self._lost = f"({self._lost} lines were lost)\n{text}", 0
        if len(text) > _LINE_LENGTH_MAX:
            text = text[:_LINE_LENGTH_MAX] + "...\n"
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class FewRepeats:
    """Shows an event so many times in a period, and then tells how many lines were left out.

    Many warnings are caused by what callers do, and callers can do it very often. Errors are
    always shown: each names what an operator must look at.
    """

    def __init__(self, repeats_max: int, *, now: Callable[[], float] = time.monotonic) -> None:
        """Start the first period with the first line."""
        self._repeats_max = repeats_max
        self._now = now
        self._until_s = 0.0
        self._lines: Counter[str] = Counter()

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Return ``event``, or drop it."""
        if method in ("error", "critical", "exception"):
            return event
        if self._now() >= self._until_s:
            self._until_s = self._now() + _PERIOD_S
            self.tell()
        self._lines[event["event"]] += 1
        if self._lines[event["event"]] > self._repeats_max:
            raise structlog.DropEvent
        return event

    def tell(self) -> None:
        """Log what was left out, if anything was, and count from zero again."""
        left_out = {
            name: lines - self._repeats_max
            for name, lines in self._lines.items()
            if lines > self._repeats_max
        }
        self._lines.clear()
        if left_out:
            log.warning("lines_left_out", lines=left_out)


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of secret-sounding keys and of secret types by ``***``."""
    for key, value in event.items():
        if key.lower() in _SECRET_KEYS or isinstance(value, Secret | Unsealed | Sealed | Opaque):
            event[key] = "***"
    return event
