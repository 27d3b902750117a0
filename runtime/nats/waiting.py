"""What waits for NATS: the requests that have no answer yet, and small things beside."""

import asyncio
import os
import re
import secrets
import socket
import ssl
from collections.abc import Awaitable
from typing import TypeVar

from runtime.nats.client import Arrived
from runtime.nats.errors import NO_ANSWER_IN_TIME, NoAnswerError, NotAllowedError

_NOT_ALLOWED = re.compile(
    r"permissions violation for (?P<right>publish|subscription) to \"(?P<subject>[^\"]*)\""
)

_T = TypeVar("_T")


class Waiting:
    """The requests that have no answer yet, by the token that it will come in under."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._answers: dict[str, tuple[str, asyncio.Future[Arrived]]] = {}
        self._gathered: dict[str, list[Arrived]] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._answers)

    def open(
        self, token: str, subject: str, gathered: list[Arrived] | None = None
    ) -> asyncio.Future[Arrived]:
        """Return the answer to be of what is asked on ``subject``.

        Args:
            token: What the answer comes in under.
            subject: Where it is asked.
            gathered: Takes all answers but the last, which is the one with a status; None: the
                first is the last.
        """
        answer: asyncio.Future[Arrived] = asyncio.get_running_loop().create_future()
        self._answers[token] = (subject, answer)
        if gathered is not None:
            self._gathered[token] = gathered
        return answer

    def close(self, token: str) -> None:
        """Forget a request."""
        self._answers.pop(token, None)
        self._gathered.pop(token, None)

    def answer(self, token: str, message: Arrived) -> None:
        """Hand an answer to the request that waits for it, if one does."""
        gathered = self._gathered.get(token)
        if gathered is not None and not (message.headers and message.headers.get("Status")):
            gathered.append(message)
            return
        _, answer = self._answers.get(token, ("", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    def refuse(self, subject: str, who: str) -> None:
        """Fail those who asked on ``subject``, given in lower case, which ``who`` may not."""
        for asked, answer in self._answers.values():
            if asked.lower() == subject and not answer.done():
                answer.set_exception(NotAllowedError(f"{who} may not publish to {asked}"))

    def abort(self) -> None:
        """Fail everyone: no answer can come over a connection that is gone."""
        for _, answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoAnswerError("connection lost"))


def refused_subject(error: Exception, right: str) -> str | None:
    """Return the subject, in lower case, that the server says we may not ``right``, or None.

    Args:
        error: What nats-py tells, in lower case.
        right: ``publish`` or ``subscription``.
    """
    found = _NOT_ALLOWED.search(str(error))
    return found["subject"] if found is not None and found["right"] == right else None


async def run_to_its_end(work: Awaitable[_T]) -> _T:
    """Await ``work`` in a task of its own, so that cancelling us does not cancel it."""
    return await asyncio.shield(asyncio.ensure_future(work))


def new_token() -> str:
    """Return the last token of a reply subject: who has seen one cannot guess the next."""
    return secrets.token_hex(8)


def give_up_waiting(answer: asyncio.Future[Arrived]) -> None:
    """Fail a request whose time is up; cheaper than a time-out context around each."""
    if not answer.done():
        answer.set_exception(NoAnswerError(NO_ANSWER_IN_TIME))


def cause_of(error: BaseException) -> str:
    """Return a short text for an error of nats-py or of the socket; none quotes a payload."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case socket.gaierror(strerror=str(text)):
            return text
        case OSError(errno=int(number)) if number > 0 and not isinstance(error, ssl.SSLError):
            # asyncio's own text begins with the number and ends with a tuple.
            return os.strerror(number)
        case _:
            return (str(error) or type(error).__name__)[:200]
