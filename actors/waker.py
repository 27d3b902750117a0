"""Whose turn it is to be looked at, of many that are due: a bounded number at a time.

The most urgent first, and of one provider no more than a share of them, nor more than there is
room left: those that are slow hold no other up, however many they are.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from actors.envelope import Envelope
from actors.later import Later
from actors.looks import LookEnvelope
from actors.world import Limits
from domain.decision import Reply

Told = Callable[[Reply, datetime | None], None]
"""What came of a look, and when the next one is due."""


class _Waiting(NamedTuple):
    """A connection that is due."""

    urgent_s: float
    number: int
    """In the order in which they came."""
    connection_id: UUID
    told: Told


class Waker:
    """The looks that are under way, and those that wait for their turn."""

    def __init__(self, submit: Callable[[Envelope], None], limits: Limits) -> None:
        """Wake nobody yet.

        Args:
            submit: Takes a look to its actor; see ``Directory.submit``.
            limits: How many may be under way.
        """
        self._submit = submit
        self._limits = limits
        self._later = Later()
        self._waiting: dict[str, list[_Waiting]] = {}
        """Heaps, by provider."""
        self._running: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._is_going_on = True
        """Or not to go on yet."""

    @property
    def under_way(self) -> int:
        """How many looks are under way."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """How many are due and wait for their turn."""
        return sum(len(heap) for heap in self._waiting.values())

    def begin(self) -> None:
        """Wake those who wait, and from now on everyone in turn."""
        self._is_going_on = False
        self._go_on()

    def wake(self, connection_id: UUID, *, slug: str, urgent_s: float, told: Told) -> None:
        """Look at a connection in its turn.

        Args:
            connection_id: Whose.
            slug: Its provider's, as far as is known.
            urgent_s: The least comes first.
            told: Called once, with what ``actors.looks`` says; must not raise.
        """
        waiting = _Waiting(urgent_s, next(self._numbers), connection_id, told)
        heapq.heappush(self._waiting.setdefault(slug, []), waiting)
        self._go_on()

    def note(self, connection_id: UUID, told: Told) -> None:
        """Have a record say when it is due, out of turn: nobody but us is asked for that.

        Args:
            connection_id: Whose.
            told: As for ``wake``.
        """
        envelope = LookEnvelope(
            connection_id,
            self._later,
            reply=lambda reply: told(reply, envelope.next_due),
            acts=False,
        )
        self._submit(envelope)

    def _go_on(self) -> None:
        """Begin what may begin; a look may be over before this returns."""
        if self._is_going_on:
            return
        self._is_going_on = True
        try:
            while (slug := self._next_slug()) is not None:
                self._begin(slug, heapq.heappop(self._waiting[slug]))
        finally:
            self._is_going_on = False

    def _next_slug(self) -> str | None:
        """Return whose most urgent look is next, or None where none may begin."""
        room = self._limits.looks_max - self._running.total()
        most = min(self._limits.looks_per_provider_max, room)
        heads = (
            (heap[0], slug)
            for slug, heap in self._waiting.items()
            if heap and self._running[slug] < most
        )
        found = min(heads, default=None)
        return None if found is None else found[1]

    def _begin(self, slug: str, waiting: _Waiting) -> None:
        if not self._waiting[slug]:
            del self._waiting[slug]
        self._running[slug] += 1

        def looked(reply: Reply) -> None:
            self._running[slug] -= 1
            if not self._running[slug]:
                del self._running[slug]
            waiting.told(reply, envelope.next_due)
            self._go_on()

        envelope = LookEnvelope(waiting.connection_id, self._later, reply=looked)
        self._submit(envelope)
