"""When to look again at those who are due and cannot be refreshed now, as in an outage.

Each such look is a write, and those who come back together go on together. So few of one provider
come again a second: hundreds within seconds, and from some thousands on all in a quarter of an
hour or half as much more.
"""

LOOKS_AGAIN_PER_S = 20.0
LATER_S_MIN = 5.0
LATER_S_MAX = 900.0
JITTER = 0.5


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
        self._taken_s[slug] = taken_s = min(taken_s, now_s + LATER_S_MAX)
        return max(taken_s - now_s, least_s, LATER_S_MIN) * (1 + JITTER * draw)
