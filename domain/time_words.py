"""Times in words: when something is, and how long that is from now."""

from datetime import datetime

_UNITS = (("s", 1, 100), ("min", 60, 100), ("h", 3_600, 48), ("d", 86_400, 1_000))
"""Name, seconds, and how many of it are told before the next is taken."""
_YEAR_S = 365.25 * 86_400


def span(span_s: float) -> str:
    """Return a length of time in words, to the unit that matters: ``42 s``, ``3 d``, ``12 y``."""
    for name, unit_s, units_max in _UNITS:
        if round(span_s / unit_s) < units_max:
            return f"{round(span_s / unit_s)} {name}"
    return f"{round(span_s / _YEAR_S)} y"


def when(at: datetime, now: datetime) -> str:
    """Return a time and how far it is from now: ``2026-11-27T10:00:00Z (in 42 min)``.

    Args:
        at: Aware UTC.
        now: Aware UTC.
    """
    left_s = (at - now).total_seconds()
    if abs(left_s) < 1:
        far = "now"
    else:
        far = f"in {span(left_s)}" if left_s > 0 else f"{span(-left_s)} ago"
    return f"{instant(at)} ({far})"


def instant(at: datetime) -> str:
    """Return an aware UTC time to the second, in RFC 3339."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
