"""Until when an attempt that was left open may still bring something, and what comes of it."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import anyio

from actors.ports import Outcome
from domain.connection import RefreshIntent

_BROUGHT_S = 2.0
"""How long an outcome takes at most that is sent again and again."""


class Brought(NamedTuple):
    """What another daemon's flight brought, and whom to tell that it is stored."""

    outcome: Outcome
    stored: Callable[[], None]


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
        # What it brought while the partition was another's comes as from anybody.
        return max(anyio.current_time() + min(max(left_s, 0.0), attempt_s), owned_s + _BROUGHT_S)
    full_s = (intent.deadline_at - intent.started_at).total_seconds()
    return owned_s + min(max(full_s, 0.0), attempt_s)
