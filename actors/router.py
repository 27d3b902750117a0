"""Where a request is decided: here, at the member that owns its partition, or later.

One hop: the owner answers the caller itself. A request whose partition nobody owns just now is
held, as long as its caller has time and there is room.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import anyio

from actors.world import database_error, overloaded
from domain.result import Failure

HERE = ""
"""The place of what this daemon owns."""
HOPS_MAX = 8
"""A request that was handed over so often is held until it is certain who owns its partition."""
_TICK_S = 0.05
_NOBODY = database_error("no daemon owns its partition just now")
_FULL = overloaded("too many commands wait for their partition's owner")


class Routed(Protocol):
    """A request on its way; one of the three is called, once."""

    partition: int
    due_s: float
    """When its answer must go out; monotonic."""

    def take(self) -> None:
        """Have it decided here."""
        ...

    def forward(self, owner: str) -> bool:
        """Hand it over to its owner; False: nothing can be sent now."""
        ...

    def fail(self, failure: Failure) -> None:
        """Answer that it was not begun."""
        ...


class Router:
    """Routes requests; ``run`` must be running."""

    def __init__(self, place: Callable[[int], str | None], *, held_max: int) -> None:
        """Hold nothing.

        Args:
            place: Who owns a partition: ``HERE``, a member, or None where it is not certain.
            held_max: How many requests are held.
        """
        self._place = place
        self.held_max = held_max
        self._held: dict[int, deque[Routed]] = {}
        self._arrived = anyio.Event()
        self.held = 0
        """How many requests are held."""
        self.forwarded = 0

    def route(self, request: Routed) -> None:
        """Take, forward or hold a request; those that came before it go first. Never raises."""
        held = self._held.get(request.partition)
        if held is None:
            if self._is_sent(request):
                return
            held = self._held.setdefault(request.partition, deque())
        if self.held >= self.held_max:
            request.fail(_FULL)
            return
        held.append(request)
        self.held += 1
        self._arrived.set()
        self._go_on_with(request.partition)

    def go_on(self) -> None:
        """Send on what is held, where that is possible now."""
        for partition in [*self._held]:
            self._go_on_with(partition)

    def _go_on_with(self, partition: int) -> None:
        """Send on what is held of a partition, in order; one that comes back is the last."""
        held = self._held.get(partition)
        for _ in range(len(held or ())):
            assert held
            request = held.popleft()
            self.held -= 1
            if not self._is_sent(request):
                held.appendleft(request)
                self.held += 1
                break
        if not held:
            self._held.pop(partition, None)

    def _is_sent(self, request: Routed) -> bool:
        place = self._place(request.partition)
        if place is None:
            return False
        if place == HERE:
            request.take()
            return True
        is_sent = request.forward(place)
        self.forwarded += is_sent
        return is_sent

    def refuse_all(self, failure: Failure) -> None:
        """Answer everything that is held."""
        held, self._held, self.held = self._held, {}, 0
        for requests in held.values():
            for request in requests:
                request.fail(failure)

    async def emptied(self) -> None:
        """Return when nothing is held; ``run`` must be running."""
        while self.held:  # noqa: ASYNC110 -- it looks at the clock as often itself
            await anyio.sleep(_TICK_S)

    async def run(self) -> None:
        """Send on what is held as soon as possible, and answer whose time is up."""
        while True:
            if not self._held:
                self._arrived = anyio.Event()
                await self._arrived.wait()
            await anyio.sleep(_TICK_S)
            self.go_on()
            self._answer_due(anyio.current_time())

    def _answer_due(self, now_s: float) -> None:
        for partition, held in [*self._held.items()]:
            left = deque(one for one in held if one.due_s > now_s)
            late = [one for one in held if one.due_s <= now_s]
            self._held[partition] = left
            self.held -= len(late)
            if not left:
                del self._held[partition]
            for request in late:
                request.fail(_NOBODY)
