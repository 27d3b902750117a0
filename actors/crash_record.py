"""Whose actor has crashed how often, and who is refused for that."""

import math
from collections import deque
from uuid import UUID

import anyio

from actors.ports import Journal
from actors.world import Limits
from domain.decision import DATABASE_ERROR
from domain.result import Failure, FailureCode


class CrashRecord:
    """The crashes of the last while, of all the connections of a daemon."""

    def __init__(self, limits: Limits, journal: Journal) -> None:
        """Know of none."""
        self._limits = limits
        self._journal = journal
        self._crashes_s: dict[UUID, deque[float]] = {}
        self._quarantined_until_s: dict[UUID, float] = {}

    def crashed(self, connection_id: UUID, error: Exception) -> Failure | None:
        """Note a crash; return what to answer from now on where it is one too many."""
        limits = self._limits
        self._journal.crashed(connection_id, error)
        before_s = self._crashes_s.get(connection_id, ())
        crashes_s = self._crashes_s[connection_id] = deque(before_s, limits.restarts_max + 1)
        now_s = anyio.current_time()
        crashes_s.append(now_s)
        is_full = len(crashes_s) > limits.restarts_max
        if not is_full or crashes_s[-1] - crashes_s[0] > limits.restarts_period_s:
            return None
        del self._crashes_s[connection_id]
        self._quarantined_until_s[connection_id] = now_s + limits.quarantine_s
        self._journal.quarantined(connection_id, limits.quarantine_s)
        return _quarantined(limits.quarantine_s)

    def refusal(self, connection_id: UUID) -> Failure | None:
        """Return why a connection takes nothing now, or None."""
        if not self._quarantined_until_s:
            return None
        until_s = self._quarantined_until_s.get(connection_id)
        if until_s is None or until_s <= anyio.current_time():
            return None
        return _quarantined(until_s - anyio.current_time())

    def forget_before(self, now_s: float) -> None:
        """Forget what is past."""
        for connection_id, crashes_s in [*self._crashes_s.items()]:
            if crashes_s[-1] < now_s - self._limits.restarts_period_s:
                del self._crashes_s[connection_id]
        for connection_id, until_s in [*self._quarantined_until_s.items()]:
            if until_s <= now_s:
                del self._quarantined_until_s[connection_id]


def _quarantined(left_s: float) -> Failure:
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message=f"{DATABASE_ERROR}: the connection's actor failed repeatedly",
        retry_after_s=float(math.ceil(left_s)),
    )
