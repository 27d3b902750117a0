"""A request that was taken and is not answered yet: on its way to its partition, and back."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Protocol
from uuid import UUID

from actors.envelope import Envelope
from actors.router import HOPS_MAX
from actors.world import MAILBOX_FULL, MOVED, database_error
from domain.commands import Command, GetToken
from domain.decision import Reply
from domain.result import Failure, Success
from domain.trace import PARENT, STATE, read_trace
from runtime.gateway.arrivals import Arrivals
from runtime.gateway.replies import failure_body, failure_headers, reply_body, value_body
from runtime.gateway.responder import Responder
from runtime.gateway.wire import TIMEOUT_HEADER
from runtime.nats.discoverable import Counted

OWNER_HEADER = "Refreshd-Owner"
"""For which daemon a request is that was handed over: all others pass it over."""
HOPS_HEADER = "Refreshd-Hops"
MESSAGE_HEADER = "Refreshd-Message"
"""The digest of the caller's ``Nats-Msg-Id``, in hexadecimal digits."""
_OURS = frozenset({OWNER_HEADER, HOPS_HEADER, MESSAGE_HEADER})
_NAME = re.compile(r"[!-9;-~]+")
"""What a header's name may be where it is sent (``runtime.nats.client.header_block``)."""
_HEADERS_CHARACTERS_MAX = 4096
"""How much of a caller's headers is handed over with its command."""
_OK = "ok"
_LOST = database_error("its partition goes from one daemon to another again and again")


class Span(Protocol):
    """A command in a trace, for as long as it is under way here."""

    headers: Mapping[str, str]
    """What names it as the parent of what it brings about."""

    def end(self, outcome: str, *, is_failure: bool) -> None:
        """End it; the outcome is a code."""
        ...


class Desk(Protocol):
    """Who takes requests."""

    responder: Responder
    arrivals: Arrivals
    now_s: Callable[[], float]
    mailbox_refusals: int

    def begin(self, in_flight: "InFlight") -> None:
        """Hand a request to its actor."""
        ...

    def route(self, in_flight: "InFlight") -> None:
        """Begin, forward or hold a request."""
        ...

    def send_on(self, in_flight: "InFlight", headers: Mapping[str, str]) -> bool:
        """Publish a request to its partition's owner; False: that cannot be done now."""
        ...


class Load:
    """How much of one kind is taken and not answered yet."""

    __slots__ = ("bytes", "requests", "requests_max")

    def __init__(self, requests_max: int) -> None:
        """Begin with nothing."""
        self.requests_max = requests_max
        self.requests = 0
        self.bytes = 0


class InFlight:
    """Implements ``actors.router.Routed``, for the requests that go to an actor."""

    __slots__ = (
        "can_wait",
        "command",
        "connection_id",
        "counted",
        "data",
        "desk",
        "digest",
        "due_s",
        "headers",
        "hops",
        "load",
        "partition",
        "reply_subject",
        "span",
        "started_s",
        "timeout_s",
        "verb",
    )

    def __init__(
        self, desk: Desk, counted: Counted, load: Load, *, reply_subject: str, data: bytes
    ) -> None:
        """Take a request."""
        self.desk = desk
        self.load = load
        self.counted = counted
        self.reply_subject = reply_subject
        self.data = data
        self.started_s = desk.arrivals.earliest_s()
        self.due_s = self.timeout_s = 0.0
        self.digest: bytes | None = None
        """Of the message id."""
        self.can_wait = True
        self.headers: Mapping[str, str] = {}
        self.hops = self.partition = 0
        self.verb = ""
        self.connection_id: UUID | None = None
        self.command: Command | None = None
        """Where it had to be read to know the id."""
        self.span: Span | None = None

    @property
    def deadline_s(self) -> float:
        """When the caller's time is up."""
        return self.started_s + self.timeout_s

    def take(self) -> None:
        """See ``Routed``."""
        self.desk.begin(self)

    def forward(self, owner: str) -> bool:
        """See ``Routed``; the owner answers the caller, and here it is over."""
        if self.hops >= HOPS_MAX:
            self.fail(_LOST)
            return True
        headers = _passed_on(self._traced_headers)
        left_s = max(self.deadline_s - self.desk.now_s(), 0.001)
        headers[TIMEOUT_HEADER] = str(math.ceil(left_s * 1000))
        headers[OWNER_HEADER] = owner
        headers[HOPS_HEADER] = str(self.hops + 1)
        if self.digest is not None:
            headers[MESSAGE_HEADER] = self.digest.hex()
        if not self.desk.send_on(self, headers):
            return False
        self.counted.forwarded += 1
        if self.span is not None:
            self.span.end("forwarded", is_failure=False)
        self._sent()
        return True

    def envelope(
        self, command: Command | GetToken, reply: Callable[[Reply], None] | None = None
    ) -> Envelope:
        """Return what its actor is sent; ``reply`` takes the answer in place of ours."""
        return Envelope(
            command,
            due_s=self.due_s,
            reply=reply or self.reply,
            message_id=self.digest,
            can_wait=self.can_wait,
            trace=read_trace(self._traced_headers) if self.headers or self.span else None,
        )

    def reply(self, reply: Reply) -> None:
        """Answer with what an actor says; where its partition has moved, try again there."""
        match reply:
            case Failure():
                if reply is MOVED:
                    self.desk.route(self)
                else:
                    self.fail(reply)
            case Success():
                self.counted.succeeded += 1
                self._send(reply_body(reply), None)

    def fail(self, failure: Failure) -> None:
        """Answer with a failure; called instead of ``reply``."""
        self.counted.codes[failure.code] += 1
        self.desk.mailbox_refusals += failure is MAILBOX_FULL
        self.counted.last_error = failure.code
        self._send(failure_body(failure), failure_headers(failure), outcome=failure.code)

    def succeed(self, value: object) -> None:
        """Answer with a value that no actor made; called instead of ``reply``."""
        self.counted.succeeded += 1
        self._send(value_body(value), None)

    @property
    def _traced_headers(self) -> Mapping[str, str]:
        """The caller's, with the present span for the caller's own."""
        if self.span is None:
            return self.headers
        others = {k: v for k, v in self.headers.items() if k.lower() not in (PARENT, STATE)}
        return {**self.span.headers, **others}

    def _send(self, body: bytes, headers: dict[str, str] | None, *, outcome: str = _OK) -> None:
        now_s = self.desk.now_s()
        if self.span is not None:
            self.span.end(outcome, is_failure=outcome is not _OK)
        self.counted.processing_ns += int((now_s - self.started_s) * 1e9)
        self.desk.responder.answer(
            self.reply_subject,
            body,
            headers=headers,
            expires_s=max(self.deadline_s, now_s + 1.0),
            sent=self._sent,
        )

    def _sent(self) -> None:
        self.load.requests -= 1
        self.load.bytes -= len(self.data)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of a caller's headers that can be sent, for sure, and are not ours to set.

    One that cannot would hold up whatever waits behind it for the same partition.
    """
    passed_on: dict[str, str] = {}
    left = _HEADERS_CHARACTERS_MAX
    for name, value in headers.items():
        left -= len(name) + len(value)
        can_be_sent = _NAME.fullmatch(name) and value.isascii() and value.isprintable()
        if left >= 0 and can_be_sent and name not in _OURS:
            passed_on[name] = value
    return passed_on
