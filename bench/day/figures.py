"""What comes of a day: how late refreshes were, and how many the provider was asked for when."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

MINUTE_S = 60
HOUR_S = 3600


class Spread:
    """Seconds that were counted, to a tenth."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tenths: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._tenths.total()

    def add(self, value_s: float) -> None:
        """Count one."""
        self._tenths[math.floor(value_s * 10)] += 1

    def share(self, share: float) -> float:
        """Return what so many of them are below or at: 0 the least, 1 the greatest."""
        rank = share * (self.count - 1)
        for tenths in sorted(self._tenths):
            rank -= self._tenths[tenths]
            if rank < 0:
                return tenths / 10
        return 0.0

    def below(self, value_s: float) -> int:
        """Return how many are less."""
        return sum(count for tenths, count in self._tenths.items() if tenths < value_s * 10)


class Span(NamedTuple):
    """A part of the day, and how refreshes went in it."""

    name: str
    until_s: float
    late: Spread
    left: Spread


class Calls:
    """How many requests the provider got, second by second."""

    def __init__(self, per_s: Sequence[int]) -> None:
        """Look at some seconds in a row."""
        self.per_s = per_s
        self._minutes = [
            sum(per_s[at : at + MINUTE_S]) / MINUTE_S
            for at in range(0, len(per_s) - MINUTE_S + 1, MINUTE_S)
        ]

    @property
    def peak_per_s(self) -> int:
        """The most in a second."""
        return max(self.per_s, default=0)

    def minutes(self, share: float) -> float:
        """Return the calls a second that so many of the minutes have at most."""
        return sorted(self._minutes)[int(share * (len(self._minutes) - 1))]

    @property
    def unevenness(self) -> float:
        """How much more than the mean the greatest minute has; 1: all are even."""
        total = sum(self._minutes)
        return self.minutes(1.0) * len(self._minutes) / total if total else 0.0


class Figures:
    """Of one day; ``bench.day.daemon.Told``."""

    def __init__(self, spans: Sequence[tuple[str, float]], outage: range) -> None:
        """Begin with none.

        Args:
            spans: The parts of the day, in order, and when each ends.
            outage: The seconds in which the provider is down.
        """
        self.spans = [Span(name, until_s, Spread(), Spread()) for name, until_s in spans]
        self.outage = outage
        self.seconds = int(spans[-1][1])
        self.lost = 0
        """Grants that only their users could bring back."""
        self.behind = 0
        """Who was due and not refreshed when the day was over."""
        self._calls = array("L", [0]) * (self.seconds + 2)
        self._span = 0

    def asks(self, now_s: float) -> bool:
        """See ``Told``."""
        self._calls[int(now_s)] += 1
        return int(now_s) not in self.outage

    def refreshed(self, now_s: float, *, late_s: float, left_s: float) -> None:
        """See ``Told``."""
        while now_s >= self.spans[self._span].until_s and self._span + 1 < len(self.spans):
            self._span += 1
        span = self.spans[self._span]
        span.late.add(late_s)
        span.left.add(left_s)

    def calls(self, begin_s: float, end_s: float) -> Calls:
        """Return how many requests were made in a part of the day."""
        return Calls(self._calls[max(int(begin_s), 0) : min(int(end_s), self.seconds)])

    def even_s(self, begin_s: float, end_s: float, *, span_s: float, unevenness: float) -> float:
        """Return from when on a span has no more unevenness than that; infinite: before no end."""
        at_s = begin_s
        while at_s + span_s <= end_s:
            if self.calls(at_s, at_s + span_s).unevenness <= unevenness:
                return at_s
            at_s += span_s
        return math.inf
