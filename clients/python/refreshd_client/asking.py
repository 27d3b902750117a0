"""A command and its answer: asked again, within the caller's time, where that is safe.

What is repeated, and after how long, is docs/errors.md's "Rules for clients": a command that
changes something has a ``Nats-Msg-Id`` that all its repeats share, so the daemon carries it out
once; everything else is a read.
"""

import asyncio
import random
from typing import TypeVar

import msgspec

from refreshd_client.errors import (
    DatabaseError,
    NoAnswerError,
    NoDaemonError,
    NotConnectedError,
    RefreshdError,
    RefreshInProgressError,
    TimedOutError,
    TryAgainError,
    error_of,
)
from refreshd_client.link import Link

TRY_S_MAX = 60.0
"""What the daemon takes for a time limit at most."""
_GRACE_S = 0.5
"""How much longer than the daemon we wait, for the way there and back."""
_PAUSE_S, _PAUSE_S_MAX = 1.0, 60.0
_NOBODY_PAUSE_S, _NOBODY_PAUSE_S_MAX = 0.1, 1.0
"""Where nobody was asked yet, nobody is overloaded by asking soon."""

_T = TypeVar("_T")


class _Error(msgspec.Struct):
    code: str
    message: str = ""
    needs_user_action: bool | None = None
    retry_after_s: float | None = None
    detail: str | None = None


class _Reply(msgspec.Struct):
    ok: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None


_reply = msgspec.json.Decoder(_Reply)


class Asker:
    """Makes the requests of one client."""

    def __init__(self, link: Link, *, prefix: str, try_timeout_s: float) -> None:
        """Ask over ``link``; a try that is not answered after ``try_timeout_s`` is repeated."""
        self._link = link
        self._prefix = prefix
        self._try_timeout_s = try_timeout_s

    async def ask(
        self,
        subject: str,
        fields: object,
        kind: type[_T],
        *,
        timeout_s: float,
        message_id: str | None = None,
    ) -> _T:
        """Return the value of the daemon's answer to ``fields`` on ``<prefix>.<subject>``.

        Args:
            subject: What follows the prefix.
            fields: The body, before it is JSON; None: empty.
            kind: What the value is.
            timeout_s: How long all tries may take together.
            message_id: The command's ``Nats-Msg-Id``, where it changes something.

        Raises:
            RefreshdError: What the daemon said, or the last of several tries; ``may_be_done``
                also where an earlier one may have been carried out.
        """
        body = b"" if fields is None else msgspec.json.encode(fields)
        now_s = asyncio.get_running_loop().time
        ends_s, try_s, may_be_done, tries = now_s() + timeout_s, self._try_timeout_s, False, 0
        while True:
            try:
                text = await self._try(
                    subject, body, try_s=try_s, left_s=ends_s - now_s(), message_id=message_id
                )
                return _decoded(text, kind)
            except RefreshdError as error:
                may_be_done |= isinstance(error, NoAnswerError | DatabaseError)
                error.message_id, error.may_be_done = message_id, may_be_done
                wait_s = _pause_s(error, tries)
                left_s = ends_s - now_s()
                if not isinstance(error, TryAgainError) or wait_s >= left_s:
                    raise
                if isinstance(error, RefreshInProgressError | TimedOutError):
                    try_s = TRY_S_MAX
            tries += 1
            await asyncio.sleep(min(wait_s * (1 + random.random()), (wait_s + left_s) / 2))  # noqa: S311 -- no secret hangs on it

    async def _try(
        self, subject: str, body: bytes, *, try_s: float, left_s: float, message_id: str | None
    ) -> bytes:
        """Ask once; the daemon is told a little less time than we wait."""
        grace_s = min(_GRACE_S, left_s / 4)
        told_s = max(min(try_s, left_s - grace_s, TRY_S_MAX), 0.001)
        headers = {"Refreshd-Timeout-Ms": str(int(told_s * 1000))}
        if message_id is not None:
            headers["Nats-Msg-Id"] = message_id
        return await self._link.request(
            f"{self._prefix}.{subject}", body, headers=headers, wait_s=told_s + grace_s
        )


def _pause_s(error: RefreshdError, tries: int) -> float:
    """Return how long to wait at the least before the next try."""
    if isinstance(error, NoDaemonError | NotConnectedError):
        return min(_NOBODY_PAUSE_S * 2**tries, _NOBODY_PAUSE_S_MAX)
    told_s = error.retry_after_s or 0.0
    return max(told_s, min((told_s or _PAUSE_S) * 2**tries, _PAUSE_S_MAX))


def _decoded(text: bytes, kind: type[_T]) -> _T:
    """Return the value in an answer, or raise its failure; what cannot be read is never quoted."""
    try:
        reply = _reply.decode(text)
        if reply.error is None:
            return msgspec.json.decode(reply.ok, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RefreshdError("the answer is not refreshd's") from None
    told = reply.error
    raise error_of(
        told.code,
        told.message,
        needs_user_action=told.needs_user_action,
        retry_after_s=told.retry_after_s,
        detail=told.detail,
    )
