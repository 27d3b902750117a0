"""Commands that wait for a record or for a flight, in the order in which they came."""

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.envelope import Envelope
from actors.house import House
from actors.world import MAILBOX_FULL, TIMED_OUT

if TYPE_CHECKING:
    from actors.connection_actor import ConnectionActor


class WaitingLine:
    """A bounded queue that knows when the next of its callers must be answered."""

    __slots__ = ("_due_s", "_waiting")

    def __init__(self) -> None:
        """Begin with nobody."""
        self._waiting: deque[Envelope] = deque()
        self._due_s = math.inf
        """Nobody's time is up before this."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def join(self, envelope: Envelope, *, commands_max: int) -> None:
        """Wait behind those who are there, unless they are so many."""
        if len(self._waiting) >= commands_max:
            envelope.answer(MAILBOX_FULL)
            return
        self._waiting.append(envelope)
        self._due_s = min(self._due_s, envelope.due_s)

    def leave(self) -> Sequence[Envelope]:
        """Let everyone go, and return them in order."""
        waiting, self._waiting, self._due_s = self._waiting, deque(), math.inf
        return waiting

    def answer_late(self, now_s: float) -> int:
        """Answer those whose time is up, and return how many they were."""
        if now_s < self._due_s:
            return 0
        late = [one for one in self._waiting if one.due_s <= now_s]
        self._waiting = deque(one for one in self._waiting if one.due_s > now_s)
        self._due_s = min((one.due_s for one in self._waiting), default=math.inf)
        for envelope in late:
            envelope.answer(TIMED_OUT)
        return len(late)


def note_dropped(actor: "ConnectionActor", house: House, commands: int) -> None:
    """Tell of those who were not begun in their callers' time."""
    try:
        if commands:
            house.world.journal.dropped(actor.connection_id, commands)
    except Exception as error:  # noqa: BLE001 -- the others must be served
        house.crashed(actor, error)
