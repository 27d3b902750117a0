"""A bounded queue of commands: it answers at once whether there is room, and never waits."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from domain.commands import Command
from domain.decision import Reply


class Envelope(NamedTuple):
    """A command on its way, with the way back."""

    command: Command
    deadline_s: float
    """On the event loop's monotonic clock; a command still queued then is not executed."""
    reply: Callable[[Reply], None]
    """Called exactly once. It must neither block nor raise."""


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
