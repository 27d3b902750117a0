"""When to look again at those who are due and cannot be refreshed now, as in an outage.

Each such look is a write. So no more than so many a second come again of one provider: a few
within seconds, a million in a quarter of an hour.
"""

LOOKS_AGAIN_PER_S = 1_000.0
LATER_S_MIN = 5.0
JITTER = 0.25


class Later:
    """Gives each its turn; one for all partitions of a daemon."""

    def __init__(self) -> None:
        """Keep nobody waiting."""
        self._taken_s: dict[str, float] = {}
        """Up to when the turns are given away, by provider."""

    def pause_s(self, slug: str, now_s: float, *, least_s: float, draw: float) -> float:
        """Return how long to leave one alone.

        Args:
            slug: Its provider's.
            now_s: On the event loop's monotonic clock.
            least_s: What it is left alone in any case.
            draw: In [0, 1).
        """
        taken_s = max(self._taken_s.get(slug, 0.0), now_s) + 1 / LOOKS_AGAIN_PER_S
        self._taken_s[slug] = taken_s
        return max(taken_s - now_s, least_s, LATER_S_MIN) * (1 + JITTER * draw)
