"""How late refreshes were begun, when that was over, and whether the most urgent came first."""

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.scale.stored import Planned

_CALM_S = 5.0
_SETTLED_S = 1.0
"""What is due, or begun, within so little of another is taken for as early as that."""


class Begun(NamedTuple):
    """A refresh that nobody asked for; seconds since the epoch."""

    due_s: float
    begun_s: float
    urgent_s: float

    @property
    def late_s(self) -> float:
        """How late it was begun."""
        return self.begun_s - self.due_s


class Quantiles(NamedTuple):
    """Of some times."""

    p50: float
    p99: float
    most: float


def begun(due: Mapping[str, Planned], begun_s: Mapping[str, Sequence[float]]) -> list[Begun]:
    """Return the refresh of each connection that had one, in their order.

    Of several attempts the last counts: a daemon that stops ends those without a request.
    """
    return sorted(
        (
            Begun(planned.at_s, begun_s[one][-1], planned.urgent_s)
            for one, planned in due.items()
            if begun_s.get(one)
        ),
        key=lambda one: one.begun_s,
    )


def quantiles(figures: Sequence[float]) -> Quantiles:
    """Return how some figures are spread; of none, not a number."""
    if not figures:
        return Quantiles(math.nan, math.nan, math.nan)
    ordered = sorted(figures)
    last = len(ordered) - 1
    return Quantiles(ordered[last // 2], ordered[math.ceil(last * 0.99)], ordered[-1])


def calm_at_s(refreshes: Sequence[Begun], since_s: float, *, late_s_max: float) -> float:
    """Return from when on none was late, for a while; ``refreshes`` in the order of their begin."""
    calm_s = since_s
    for one in refreshes:
        if one.begun_s < since_s:
            continue
        if one.late_s >= late_s_max:
            calm_s = one.begun_s
        elif one.begun_s > calm_s + _CALM_S:
            break
    return calm_s


def middle_rate(ended_s: Sequence[float]) -> float:
    """Return how many ended a second between the first and the last tenth of them."""
    ordered = sorted(ended_s)
    low, high = len(ordered) // 10, len(ordered) - 1 - len(ordered) // 10
    return (high - low) / (ordered[high] - ordered[low])


def passed_over(refreshes: Sequence[Begun], since_s: float) -> list[float]:
    """Return for each that was begun before a more urgent one that waited, how much it jumped.

    Args:
        refreshes: In the order of their begin.
        since_s: Only what was begun from then on.

    Returns:
        Seconds by which the other was the more urgent.
    """
    arriving = sorted(refreshes, key=lambda one: one.due_s)
    waiting: list[tuple[float, float]] = []
    jumps: list[float] = []
    arrived = 0
    for one in refreshes:
        if one.begun_s < since_s:
            continue
        while arrived < len(arriving) and arriving[arrived].due_s <= one.begun_s - _SETTLED_S:
            late = arriving[arrived]
            heapq.heappush(waiting, (late.urgent_s, late.begun_s))
            arrived += 1
        while waiting and waiting[0][1] <= one.begun_s + _SETTLED_S:
            heapq.heappop(waiting)
        if waiting and waiting[0][0] < one.urgent_s - _SETTLED_S:
            jumps.append(one.urgent_s - waiting[0][0])
    return jumps
