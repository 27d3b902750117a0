"""Why somebody must not ask a provider now, and until when."""

from typing import Any, NamedTuple
from uuid import UUID

import anyio

from domain.profile import FailureClass

EVIDENCE_CONNECTIONS = 3
"""How many connections must have failed before that tells of what they share."""
SOON_S = 0.001
"""What is so near is now: nobody waits for what a clock cannot measure."""
_REMEMBERED_MAX = 10_000
"""How many connections that failed are remembered, of one pause or cool-down."""


class Closed(NamedTuple):
    """Why nobody may ask now."""

    failure_class: FailureClass
    reason: str
    left_s: float


def until(until_s: float, failure_class: FailureClass, reason: str) -> Closed | None:
    """Return what holds until then, or None where that is over."""
    left_s = until_s - anyio.current_time()
    return Closed(failure_class, reason, left_s) if left_s > SOON_S else None


def forget_oldest(memory: dict[UUID, Any]) -> None:
    """Bound what is remembered."""
    while len(memory) > _REMEMBERED_MAX:
        del memory[next(iter(memory))]
