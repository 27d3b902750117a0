"""Who asks a provider next, where so many may at a time, and so many in a while.

Those whom callers wait for come first, by when they must have their answers; then those that
nobody waits for, by when their tokens end. But of the latter one whose token is about to end
gets every fifth turn at the least, however many callers there are.
"""

import heapq
import itertools
import math
from collections.abc import Callable

import anyio

from actors.closed import SOON_S
from actors.rate import Rate
from domain.token_read import REPLAY_LEAD_S

_CALLERS_IN_A_ROW = 4
"""So many of those whom callers wait for may pass one whose token is about to end."""
_LEFT_BEHIND_MAX = 64


class Turn:
    """One flight's place in line."""

    __slots__ = ("_stile", "due_s", "is_proactive", "place", "woken")

    def __init__(self, *, is_proactive: bool = False, due_s: float = math.inf) -> None:
        """Stand in no line yet.

        Args:
            is_proactive: Whether no caller waits for it.
            due_s: When the first caller must be answered, or the token ends; monotonic.
        """
        self.is_proactive = is_proactive
        self.due_s = due_s
        self.place = 0
        """The number of its place; 0: it is in no line."""
        self.woken: anyio.Event | None = None
        self._stile: Turnstile | None = None

    def joined(self, due_s: float) -> None:
        """Note a caller that waits for it, too, and must be answered at ``due_s``."""
        if not self.is_proactive and self.due_s <= due_s:
            return
        self.is_proactive, self.due_s = False, due_s
        if self.place and self._stile is not None:
            self._stile.queue(self)

    def stands(self, stile: "Turnstile", place: int) -> None:
        """Note its place."""
        self._stile, self.place = stile, place

    def wake(self) -> None:
        """Let it look what has changed."""
        if self.woken is not None:
            self.woken.set()


class Turnstile:
    """Lets in one after the other; single-threaded."""

    def __init__(self, *, slots: int, rate: Rate | None) -> None:
        """Begin with nobody."""
        self.inside = 0
        """How many are in."""
        self.waiting = 0
        self.entered = 0
        """How many were let in, ever."""
        self.moved: Callable[[], None] | None = None
        """Called when somebody must wait, and when somebody has left."""
        self._slots = slots
        self._rate = rate
        self._callers: list[tuple[float, int, Turn]] = []
        self._proactive: list[tuple[float, int, Turn]] = []
        """Heaps; a turn that was moved or has gone leaves an entry behind."""
        self._places = itertools.count(1)
        self._callers_in_a_row = 0
        self._watch: Turn | None = None
        """Who looks at the clock for all who wait for the rate."""

    async def enter(self, turn: Turn) -> None:
        """Return when it is the turn's: it has a slot until ``leave``."""
        self.waiting += 1
        self.queue(turn)
        self._call()
        is_in = False
        try:
            while turn.place:
                await self._wait(turn)
            is_in = True
        finally:
            if not is_in:
                self._give_up(turn)

    def leave(self, *, unused: bool = False) -> None:
        """Give a slot back; ``unused``: nobody was asked."""
        if unused and self._rate is not None:
            self._rate.give_back()
        self.inside -= 1
        self._call()
        if self.moved is not None:
            self.moved()

    def resize(self, slots: int) -> None:
        """Let so many in at a time from now on; who is in stays. The rate may have changed, too."""
        self._slots = slots
        self._call()
        if self._watch is not None:
            self._watch.wake()

    def keep(self, rate: Rate | None) -> None:
        """Keep another rate, or none, from now on; ``resize`` lets in whom it lets in."""
        self._rate = rate

    def open(self) -> None:
        """Let in everybody who waits: nobody is let in here any more, and each looks elsewhere."""
        self.moved, self._rate = None, None
        self.resize(self.inside + self.waiting)

    def count(self) -> None:
        """Count a request that somebody inside makes besides the first."""
        if self._rate is not None:
            self._rate.take()

    def queue(self, turn: Turn) -> None:
        """Put a turn where it belongs now; ``Turn.joined`` and ``enter`` call this."""
        turn.stands(self, next(self._places))
        line = self._proactive if turn.is_proactive else self._callers
        heapq.heappush(line, (turn.due_s, turn.place, turn))
        if len(line) > 2 * self.waiting + _LEFT_BEHIND_MAX:
            line[:] = [one for one in line if one[2].place == one[1]]
            heapq.heapify(line)

    def _call(self) -> None:
        """Let in whoever may come now, and see that somebody looks at the clock."""
        while self.inside < self._slots and (turn := self._next()) is not None:
            if self._rate is not None and self._rate.left_s > 0:
                if self._watch is None:
                    turn.wake()
                return
            if self._rate is not None:
                self._rate.take()
            self._callers_in_a_row = 0 if turn.is_proactive else self._callers_in_a_row + 1
            self.inside += 1
            self.entered += 1
            self.waiting -= 1
            turn.place = 0
            turn.wake()

    def _next(self) -> Turn | None:
        """Return who comes next."""
        caller, proactive = _first(self._callers), _first(self._proactive)
        if caller is None or proactive is None:
            return caller or proactive
        is_pressing = proactive.due_s < anyio.current_time() + REPLAY_LEAD_S
        was_passed = self._callers_in_a_row >= _CALLERS_IN_A_ROW
        return proactive if is_pressing and was_passed else caller

    async def _wait(self, turn: Turn) -> None:
        """Sleep until something has changed; the first in line looks at the clock."""
        turn.woken = anyio.Event()
        if self.moved is not None:
            self.moved()
        pause_s = math.inf
        if self._rate is not None and self._watch is None and turn is self._next():
            pause_s = max(self._rate.left_s, SOON_S) if self.inside < self._slots else math.inf
        if pause_s < math.inf:
            self._watch = turn
        with anyio.move_on_after(pause_s):
            await turn.woken.wait()
        self._looked_away(turn)

    def _looked_away(self, turn: Turn) -> None:
        if self._watch is turn:
            self._watch = None
        self._call()

    def _give_up(self, turn: Turn) -> None:
        """Leave the line, or the slot that was given meanwhile."""
        if turn.place:
            turn.place = 0
            self.waiting -= 1
            self._looked_away(turn)
        else:
            self._looked_away(turn)
            self.leave(unused=True)


def _first(line: list[tuple[float, int, Turn]]) -> Turn | None:
    """Return the first who is still there."""
    while line and line[0][2].place != line[0][1]:
        heapq.heappop(line)
    return line[0][2] if line else None
