"""A command on its way, with the way back."""

from collections.abc import Callable

from domain.commands import Command, Get, GetToken
from domain.decision import Reply
from domain.trace import Trace

_MARGIN_FRACTION = 0.2
_MARGIN_S_MIN = 0.06
"""Whose time is up is looked for in ticks of 50 ms; half of what a caller has is the most."""


class Envelope:
    """One command; it is answered once, whoever comes first."""

    __slots__ = ("_reply", "can_wait", "command", "due_s", "message_id", "trace")

    def __init__(
        self,
        command: Command | GetToken,
        *,
        due_s: float,
        reply: Callable[[Reply], None],
        message_id: bytes | None = None,
        can_wait: bool = True,
        trace: Trace | None = None,
    ) -> None:
        """Address a command.

        Args:
            command: What is asked.
            due_s: When its answer must go out, on the event loop's monotonic clock; not begun
                until then, it is not executed.
            reply: Called exactly once. It must neither block nor raise.
            message_id: A digest of the caller's ``Nats-Msg-Id``; None where it gave none.
            can_wait: Whether there is room for one more who waits for a token; if not, it is
                answered at once, where it can be.
            trace: That it belongs to.
        """
        self.command = command
        self.due_s = due_s
        self.message_id = message_id
        self.can_wait = can_wait
        self.trace = trace
        self._reply: Callable[[Reply], None] | None = reply

    @property
    def is_answered(self) -> bool:
        """Whether the answer has gone out."""
        return self._reply is None

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be done again where it is not known whether it was done."""
        return self.message_id is not None or isinstance(self.command, Get | GetToken)

    def answer(self, reply: Reply) -> None:
        """Answer; a second answer goes nowhere."""
        send, self._reply = self._reply, None
        if send is not None:
            send(reply)


def due_s(now_s: float, timeout_s: float, margin_s: float) -> float:
    """Return when to answer a caller who waits ``timeout_s`` from now: a little before."""
    least_s = max(timeout_s * _MARGIN_FRACTION, min(_MARGIN_S_MIN, timeout_s / 2))
    return now_s + timeout_s - min(margin_s, least_s)
