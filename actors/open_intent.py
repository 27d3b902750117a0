"""Until when an attempt that was left open may still bring something."""

from datetime import datetime

import anyio

from domain.connection import RefreshIntent


def open_until_s(
    intent: RefreshIntent, *, us: str, owned_s: float, now: datetime, attempt_s: float
) -> float:
    """Return when an open intent is over for certain; monotonic.

    Another daemon's lasts for its full time since the partition was taken from it: no two hosts'
    clocks are compared (DESIGN.md section 8).

    Args:
        intent: Which nobody here flies for.
        us: This daemon's id.
        owned_s: When this daemon took the partition; monotonic.
        now: This host's clock.
        attempt_s: How long an attempt lasts at most: a clock that was set must not make this
            wait for hours.
    """
    if intent.owner == us:
        left_s = (intent.deadline_at - now).total_seconds()
        return anyio.current_time() + min(max(left_s, 0.0), attempt_s)
    full_s = (intent.deadline_at - intent.started_at).total_seconds()
    return owned_s + min(max(full_s, 0.0), attempt_s)
