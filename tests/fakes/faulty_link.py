"""A real link to a real server that loses what it is told to lose, and notes what it was given."""

from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

import anyio
import msgspec
from nats.aio.msg import Msg

from runtime.nats.errors import NoAnswerError, NoRespondersError, NotSentError
from runtime.nats.link import LinkLimits, Login, NatsLink

_API = "$JS.API."


class Fate(Enum):
    """What becomes of one request."""

    PASSES = auto()
    ANSWER_LOST = auto()
    """It reaches the server; nobody hears the answer."""
    REQUEST_LOST = auto()
    """It never reaches the server, and nobody knows."""
    NOT_SENT = auto()
    NO_RESPONDERS = auto()
    REFUSED_IN_FLIGHT = auto()
    """Error 10164, which a server only gives with replicas (NATS.md 2.4)."""
    REFUSED = auto()
    """Any other JetStream error."""
    ANSWERED_ODDLY = auto()
    """It reaches the server; what comes back is not JetStream's."""


class Copy(NamedTuple):
    """One message as it was given to the link."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class FaultyLink(NatsLink):
    """Requests meet the planned fates, in order, and pass when no more are planned."""

    def __init__(self, login: Login) -> None:
        """Prepare a link without any fault."""
        super().__init__(login, LinkLimits(), "faulty")
        self.write_fates: deque[Fate] = deque()
        self.read_fates: deque[Fate] = deque()
        self.lasting_fate = Fate.PASSES
        """What becomes of a write when no more fates are planned."""
        self.release: anyio.Event | None = None
        """While there is one, writes are held back until it is set."""
        self.requested: list[Copy] = []
        """Every write that asked for an answer, whatever became of it."""
        self.published: list[Copy] = []

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """See ``NatsLink.publish``."""
        if not reply and not subject.startswith("_INBOX."):
            self.published.append(Copy(subject, payload, dict(headers or {})))
        await super().publish(subject, payload, reply=reply, headers=headers)

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Msg:
        """See ``NatsLink.request``."""
        if subject.startswith(_API):
            fate = self.read_fates.popleft() if self.read_fates else Fate.PASSES
        else:
            self.requested.append(Copy(subject, payload, dict(headers or {})))
            fate = self.write_fates.popleft() if self.write_fates else self.lasting_fate
            if self.release is not None:
                await self.release.wait()
        match fate:
            case Fate.NOT_SENT:
                raise NotSentError("not connected")
            case Fate.NO_RESPONDERS:
                raise NoRespondersError("no responders")
            case Fate.REQUEST_LOST:
                raise NoAnswerError("no answer in time")
            case Fate.REFUSED_IN_FLIGHT:
                return self._error(10164)
            case Fate.REFUSED:
                return self._error(10077)
            case Fate.PASSES | Fate.ANSWER_LOST | Fate.ANSWERED_ODDLY:
                answer = await super().request(
                    subject, payload, timeout_s=timeout_s, headers=headers
                )
        if fate is Fate.ANSWER_LOST:
            raise NoAnswerError("connection lost")
        if fate is Fate.ANSWERED_ODDLY:
            return Msg(self.client, data=b"hello")
        return answer

    def _error(self, err_code: int) -> Msg:
        """Return the answer by which JetStream refuses a message."""
        error = {"code": 400, "err_code": err_code, "description": "for a test"}
        return Msg(self.client, data=msgspec.json.encode({"error": error}))
