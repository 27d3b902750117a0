"""Small things about waiting for NATS."""

import asyncio
import secrets
from collections.abc import Awaitable
from typing import TypeVar

from nats.aio.msg import Msg

from runtime.nats.errors import NoAnswerError

_T = TypeVar("_T")


async def run_to_its_end(work: Awaitable[_T]) -> _T:
    """Await ``work`` in a task of its own, so that cancelling us does not cancel it."""
    return await asyncio.shield(asyncio.ensure_future(work))


def new_token() -> str:
    """Return the last token of a reply subject: who has seen one cannot guess the next."""
    return secrets.token_hex(8)


def give_up_waiting(answer: asyncio.Future[Msg]) -> None:
    """Fail a request whose time is up; cheaper than a time-out context around each."""
    if not answer.done():
        answer.set_exception(NoAnswerError("no answer in time"))


def cause_of(error: BaseException) -> str:
    """Return a short text for an error of nats-py or of the socket; none quotes a payload."""
    text = str(error) or type(error).__name__
    return text[:200]
