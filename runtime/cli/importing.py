"""Sends the lines of an import to the daemon, many at a time, each until it has an answer.

What may be sent again changes nothing: every command carries a ``Nats-Msg-Id`` that is made of
its line. So an import that was interrupted is repeated from its beginning.
"""

import contextlib
import random
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any, NamedTuple

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream

from domain.connection import CONNECTABLE, ConnectionStatus
from domain.grant_life import NO_REFRESH_TOKEN_NOTE
from domain.result import Failure, FailureCode, Success
from runtime.cli.client import CommandClient
from runtime.cli.import_line import Planned, line_bytes_max, read_line
from runtime.cli.line_notes import LineNotes
from runtime.cli.line_reader import Line
from runtime.cli.named_before import NamedBefore
from runtime.gateway.wire import MalformedError
from runtime.nats.errors import LinkError, NoRespondersError, NotAllowedError, TooLargeError

TRIED_AGAIN = frozenset(
    {
        FailureCode.OVERLOADED,
        FailureCode.DATABASE_ERROR,
        FailureCode.SHUTTING_DOWN,
        FailureCode.TIMED_OUT,
    }
)
"""After these a command is sent again."""
DUPLICATE = "DUPLICATE"
_PAUSE_S_MIN = 0.05
_PAUSE_S_MAX = 5.0
_OWNED_BY = ("user_id", "provider_id", "provider_slug")


class Rejected(NamedTuple):
    """A line that was not taken, and why; quotes nothing of it."""

    line: int
    code: str
    reason: str


class GaveUpError(Exception):
    """The daemon has taken nothing for too long; the text says what it said last."""


class Tally(msgspec.Struct):
    """What became of the lines so far."""

    lines: int = 0
    imported: int = 0
    """Their connections are there with their credentials."""
    updated: int = 0
    """Active already; the line's credentials are newer, and have replaced the others."""
    kept: int = 0
    """Active already, and left as they are."""
    repeated: int = 0
    """They say what an earlier line of the same file says."""
    rejected: int = 0
    done_bytes: int = 0


class Importer:
    """Takes lines in, checks them, and has them carried out."""

    def __init__(
        self,
        *,
        credential_bytes_max: int,
        reject: Callable[[Rejected], None],
        in_flight_max: int,
        patience_s: float,
    ) -> None:
        """Start with nothing done.

        Args:
            credential_bytes_max: How large a secret may be.
            reject: Called for each line that is not taken.
            in_flight_max: How many lines are under way at once.
            patience_s: How long a line, and the daemon as a whole, is tried again.
        """
        self.tally = Tally()
        self.warnings = LineNotes()
        self._credential_bytes_max = credential_bytes_max
        self._reject = reject
        self._in_flight_max = in_flight_max
        self._patience_s = patience_s
        self._progress_s = 0.0

    async def check(self, lines: AsyncGenerator[Line], look: Callable[[Planned], None]) -> None:
        """Check each line, and send nothing; ``look`` is shown what would be sent."""
        async with contextlib.aclosing(self._planned(lines)) as fit:
            async for planned in fit:
                look(planned)
                self.tally.done_bytes = planned.end_bytes

    async def run(self, lines: AsyncGenerator[Line], client: CommandClient) -> None:
        """Have each line carried out.

        Raises:
            GaveUpError: The daemon goes on refusing.
            NoRespondersError, NotAllowedError: Nobody, or not for this user.
        """
        self._progress_s = anyio.current_time()
        send, receive = anyio.create_memory_object_stream[Planned](self._in_flight_max)
        try:
            async with anyio.create_task_group() as workers, send:
                for _ in range(self._in_flight_max):
                    workers.start_soon(self._work, receive.clone(), client)
                receive.close()
                async with contextlib.aclosing(self._planned(lines)) as fit:
                    async for planned in fit:
                        await send.send(planned)
        except ExceptionGroup as group:
            # Whatever ends one worker ends them all.
            raise group.exceptions[0] from None

    async def _planned(self, lines: AsyncGenerator[Line]) -> AsyncGenerator[Planned]:
        """Yield what is fit to be sent; reject the rest."""
        async with contextlib.aclosing(lines):
            before = NamedBefore()
            async for line in lines:
                if line.text is not None and not line.text.strip():
                    continue
                self.tally.lines += 1
                try:
                    planned = self._read(line)
                except MalformedError as error:
                    self._refuse(line.number, error.code, str(error))
                    continue
                first = before.first(planned.connection_id, planned.digest, line.number)
                if first is None:
                    yield planned
                elif first[1]:
                    self.tally.repeated += 1
                else:
                    self._refuse(line.number, DUPLICATE, _SAME.format(first[0]))

    def _read(self, line: Line) -> Planned:
        if line.text is None:
            bytes_max = line_bytes_max(self._credential_bytes_max)
            raise MalformedError(
                f"the line is too large: at most {bytes_max} bytes are allowed, by "
                "service.limits.credential_bytes_max",
                FailureCode.TOO_LARGE,
            )
        return read_line(
            line.number,
            line.text,
            end_bytes=line.end_bytes,
            credential_bytes_max=self._credential_bytes_max,
        )

    async def _work(
        self, planned_lines: MemoryObjectReceiveStream[Planned], client: CommandClient
    ) -> None:
        async with planned_lines:
            async for planned in planned_lines:
                failure = await _Settling(self, client, planned).settle()
                if failure is not None:
                    self._refuse(planned.number, failure.code, failure.reason)
                self._progress_s = anyio.current_time()
                self.tally.done_bytes = max(self.tally.done_bytes, planned.end_bytes)

    def _refuse(self, line: int, code: str, reason: str) -> None:
        self.tally.rejected += 1
        self._reject(Rejected(line, code, reason))

    def waits_in_vain(self, since_s: float) -> bool | None:
        """Whether a line was tried for long enough; None: so were all, and none was taken."""
        now_s = anyio.current_time()
        if now_s - since_s <= self._patience_s:
            return False
        return True if now_s - self._progress_s <= self._patience_s else None


_SAME = (
    "line {} names the same connection, with other values: take the older one of them out, or, "
    "where they are two accounts, give each an alias, or a connection_id"
)


class _Refusal(NamedTuple):
    code: str
    reason: str


class _Settling:
    """One line on its way."""

    def __init__(self, importer: Importer, client: CommandClient, planned: Planned) -> None:
        self._importer = importer
        self._client = client
        self._planned = planned

    async def settle(self) -> _Refusal | None:
        """Have the line carried out, and count it; or return why it cannot be."""
        planned = self._planned
        answer = await self._answer("connect", planned.body, planned.message_id)
        match answer:
            case Success(value):
                for warning in value.get("warnings", ()):
                    self._importer.warnings.note(warning, planned.number)
                self._importer.tally.imported += 1
                return None
            case Failure(code=FailureCode.INVALID_TRANSITION):
                return await self._settle_with_stored(answer)
            case Failure(code=FailureCode.INVALID_CREDENTIALS) if planned.command.pending:
                return await self._settle_with_stored(answer)
            case _:
                return _refusal_of(answer)

    async def _settle_with_stored(self, refused: Failure) -> _Refusal | None:
        """Decide by the connection that is there: leave it, or give it what is newer."""
        planned, tally = self._planned, self._importer.tally
        subject = f"connection.{planned.connection_id}"
        found = await self._answer(f"{subject}.get", b"", None)
        if not isinstance(found, Success):
            return _refusal_of(found)
        stored: dict[str, Any] = found.value
        status = ConnectionStatus(stored["status"])
        if (refusal := self._not_ours(stored)) or status is ConnectionStatus.DISCONNECTED:
            return refusal or _told(refused)
        # What is decided on this generation is not what was on an earlier one.
        message_id = f"{planned.message_id}-{stored['generation']}"
        if status in CONNECTABLE and not planned.command.pending:
            answer = await self._answer("connect", planned.body, message_id)
            tally.imported += isinstance(answer, Success)
        elif self._is_newer_than(stored):
            answer = await self._answer(f"{subject}.refresh", planned.refresh_body, message_id)
            tally.updated += isinstance(answer, Success)
        else:
            answer = found
            tally.kept += 1
            if _lacks_refresh_token(stored):
                self._importer.warnings.note(_STAYS_WITHOUT, planned.number)
        return _refusal_of(answer)

    def _not_ours(self, stored: dict[str, Any]) -> _Refusal | None:
        """Return why the stored connection is not the line's."""
        for name in _OWNED_BY:
            if stored[name] != str(getattr(self._planned.command, name)):
                reason = f"{name} is not the one that the connection is stored with"
                return _Refusal(FailureCode.INVALID_COMMAND, reason)
        return None

    def _is_newer_than(self, stored: dict[str, Any]) -> bool:
        """Whether the line's access token was issued later, as far as their ends tell.

        What the provider has given the daemon itself is never older: the line's may be spent. Of
        the same end, a line with a refresh token mends what is stored without: nothing there is
        lost, and what is mended is not replaced by an older line again.
        """
        if stored.get("refreshed_at") is not None:
            return False
        credentials = self._planned.command.credentials
        given = None if credentials is None else credentials.expires_at
        held = stored["credentials"]["expires_at"]
        if given is None or held is None:
            return False
        held_at = datetime.fromisoformat(held)
        mends = _lacks_refresh_token(stored) and self._planned.has_refresh_token
        return given > held_at or (mends and given == held_at)

    async def _answer(
        self, subject: str, body: bytes, message_id: str | None
    ) -> Success[Any] | Failure | _Refusal:
        """Ask until there is an answer that another try would not change.

        Raises:
            GaveUpError, NoRespondersError, NotAllowedError: See ``Importer.run``.
        """
        since_s, pause_s = anyio.current_time(), _PAUSE_S_MIN
        while True:
            answer = await self._asked(subject, body, message_id)
            if isinstance(answer, Success) or answer.code not in TRIED_AGAIN:
                return answer
            refusal = _told(answer)
            in_vain = self._importer.waits_in_vain(since_s)
            if in_vain is None:
                raise GaveUpError(f"{refusal.code}: {refusal.reason}")
            if in_vain:
                return refusal
            wait_s = max(answer.retry_after_s or 0.0, pause_s)
            await anyio.sleep(wait_s * random.uniform(1.0, 1.5))  # noqa: S311
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    async def _asked(
        self, subject: str, body: bytes, message_id: str | None
    ) -> Success[Any] | Failure:
        """Ask once; no answer is taken for one that says to try again."""
        try:
            return await self._client.send(subject, body, message_id=message_id)
        except NotAllowedError:
            raise
        except TooLargeError as error:
            return Failure(code=FailureCode.TOO_LARGE, message=str(error))
        except LinkError as error:
            if isinstance(error, NoRespondersError) and not self._importer.tally.done_bytes:
                raise
            return Failure(code=FailureCode.DATABASE_ERROR, message=f"no answer: {error}")


_STAYS_WITHOUT = (
    "it is kept, and ends, for it is stored without a refresh token: give it one in the line, with "
    "an expires_at that is not before the stored one"
)


def _lacks_refresh_token(stored: dict[str, Any]) -> bool:
    """Whether a stored connection ends and has nothing to refresh it by, as far as is known."""
    return NO_REFRESH_TOKEN_NOTE in (stored.get("notes") or ())


def _refusal_of(answer: Success[Any] | Failure | _Refusal) -> _Refusal | None:
    match answer:
        case Success():
            return None
        case Failure():
            return _told(answer)
        case _Refusal():
            return answer


def _told(failure: Failure) -> _Refusal:
    detail = "" if failure.detail is None else f": {failure.detail}"
    return _Refusal(failure.code, failure.message + detail)
