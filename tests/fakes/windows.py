"""Whether so many came in a while, and no more."""

from collections.abc import Sequence

_EPSILON = 1e-6


def is_kept(at_s: Sequence[float], *, per_s: float, burst: int) -> bool:
    """Whether no window, however it is laid, holds more than ``burst + per_s * w``."""
    times_s = sorted(at_s)
    return all(
        last - first + 1 <= burst + per_s * (times_s[last] - times_s[first]) + _EPSILON
        for first in range(len(times_s))
        for last in range(first, len(times_s))
    )
