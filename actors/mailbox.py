"""A bounded queue of commands: it answers at once whether there is room, and never waits."""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from domain.commands import Command, GetToken
from domain.decision import Reply


class Envelope(NamedTuple):
    """A command on its way, with the way back."""

    command: Command | GetToken
    deadline_s: float
    """On the event loop's monotonic clock; a command still queued then is not executed."""
    reply: Callable[[Reply], None]
    """Called exactly once. It must neither block nor raise."""


def without_late_ones(batch: list[Envelope], now_s: float) -> tuple[list[Envelope], list[Envelope]]:
    """Return the commands whose caller still waits, and the others."""
    if all(envelope.deadline_s > now_s for envelope in batch):
        return batch, []
    in_time = [envelope for envelope in batch if envelope.deadline_s > now_s]
    return in_time, [envelope for envelope in batch if envelope.deadline_s <= now_s]


class Mailbox:
    """The commands that one actor has not yet taken up, oldest first."""

    __slots__ = ("_capacity", "_queue")

    def __init__(self, capacity: int) -> None:
        """Make room for ``capacity`` commands."""
        assert capacity > 0
        self._capacity = capacity
        self._queue: deque[Envelope] = deque()

    def __len__(self) -> int:
        """Return how many commands wait; never more than the capacity."""
        return len(self._queue)

    def offer(self, envelope: Envelope) -> bool:
        """Queue ``envelope``, or return False at once when full."""
        if len(self._queue) >= self._capacity:
            return False
        self._queue.append(envelope)
        return True

    def take(self, commands_max: int) -> list[Envelope]:
        """Return up to ``commands_max`` commands in the order they came; maybe none."""
        queue = self._queue
        return [queue.popleft() for _ in range(min(commands_max, len(queue)))]

    def put_back(self, envelopes: list[Envelope]) -> None:
        """Return commands that were just taken to the front, in their order."""
        self._queue.extendleft(reversed(envelopes))

    def sift(self, leaves: Callable[[Envelope], bool]) -> list[Envelope]:
        """Take those for which ``leaves`` says so, in order; the others stay in theirs."""
        taken = [envelope for envelope in self._queue if leaves(envelope)]
        if taken:
            gone = set(map(id, taken))
            self._queue = deque(one for one in self._queue if id(one) not in gone)
        return taken

    def earliest_deadline_s(self) -> float:
        """Return when the first of the waiting commands is too late; infinite when none waits."""
        return min((envelope.deadline_s for envelope in self._queue), default=math.inf)
