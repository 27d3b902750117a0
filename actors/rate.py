"""How many requests may go out in a while."""

import math

import anyio


class Rate:
    """``burst`` requests at once, and ``per_s`` a second from then on.

    Fewer than ``burst + per_s * w`` of them fall into any ``w`` seconds.

    Source:
        The generic cell rate algorithm, ITU-T I.371 annex A.
    """

    __slots__ = ("_due_s", "_interval_s", "_slack_s")

    def __init__(self, per_s: float, burst: int) -> None:
        """Begin with a whole burst."""
        self._interval_s = 1.0 / per_s
        self._slack_s = (burst - 1) * self._interval_s
        self._due_s = -math.inf
        """When the next one would be due if all came evenly."""

    def become(self, per_s: float, burst: int) -> None:
        """Go on with other numbers; the requests that have used it up stay as many as they were."""
        now_s, interval_s = anyio.current_time(), 1.0 / per_s
        if self._due_s > now_s:
            self._due_s = now_s + (self._due_s - now_s) / self._interval_s * interval_s
        self._interval_s, self._slack_s = interval_s, (burst - 1) * interval_s

    def used_until(self, due_s: float) -> None:
        """Know that it is used up until then, for others have used it, too; monotonic."""
        self._due_s = max(self._due_s, due_s)

    @property
    def ahead_s(self) -> float:
        """How long the requests that were counted have used it up for."""
        return max(self._due_s - anyio.current_time(), 0.0)

    @property
    def is_idle(self) -> bool:
        """Whether a new one would be the same."""
        return self._due_s <= anyio.current_time()

    @property
    def left_s(self) -> float:
        """After how long the next request may go out; 0: now."""
        return max(self._due_s - self._slack_s - anyio.current_time(), 0.0)

    def take(self) -> None:
        """Count a request."""
        self._due_s = max(self._due_s, anyio.current_time()) + self._interval_s

    def give_back(self) -> None:
        """Count one less: it was not made after all."""
        self._due_s -= self._interval_s
