"""How large a run is."""

import math

import msgspec

_BURST_MAX = 20_000


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, and what follows from it."""

    connections: int
    minutes: float
    slack_s: float = 10.0
    """Between what is stored and the first of it that comes due, at the least."""
    rate_max: float = math.inf
    """How many a second come due evenly at the most; else it is half of the limit that is found."""
    even_slug: str = "bench-even"
    """Of the provider at which they are refreshed; its margin spreads them further."""
    rounds: int = 5
    starts: int = 3

    @property
    def burst(self) -> int:
        """How many are due at once, to find the limit."""
        return min(_BURST_MAX, max(self.connections // 10, 50))

    @property
    def even_s(self) -> float:
        """How long refreshes come due evenly before the daemon is stopped."""
        return self.minutes * 60

    @property
    def stop_s(self) -> float:
        """How long it is stopped."""
        return self.even_s / 10

    @property
    def due_s(self) -> float:
        """How long refreshes come due in all: while what was missed is made up for, too."""
        return self.even_s * 1.25 + self.slack_s

    @property
    def requests(self) -> int:
        """How many refreshes by callers a round has."""
        return max(min(self.connections // 10, 10_000), 200)
