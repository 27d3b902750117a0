"""What failures of our configuration say of what connections share, by several connections."""

import math
from uuid import UUID

import anyio

from actors.closed import EVIDENCE_CONNECTIONS, Closed, forget_oldest, until
from domain.profile import FailureClass

_TRIAL_S = 1.0
"""One trial in so long of those who have not failed."""
_REFUTED_TRIAL_S = 10.0
"""Who was refuted tries when those who were not have let so long pass."""


class Pause:
    """What several connections' failures say of what they share."""

    def __init__(self, probe_interval_s: float) -> None:
        """Begin with no evidence; who has failed tries once in ``probe_interval_s``."""
        self._interval_s = probe_interval_s
        self._failed: dict[UUID, bool] = {}
        """Who has failed since the last success, the longest ago first; whether it is evidence."""
        self._refuted: dict[UUID, None] = {}
        """Whose failures were their own, for others succeeded after them."""
        self._trial_s = self._turn_s = self._told_s = -math.inf
        self._is_told = False
        self._reason = ""
        self.is_on = False

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing to remember."""
        return not self._failed

    @property
    def is_told(self) -> bool:
        """Whether it is on, and was told of."""
        return self.is_on and self._is_told

    @property
    def told(self) -> Closed | None:
        """What others are told of it: after how long one who has not failed may ask."""
        if not self.is_on:
            return None
        left_s = max(self._trial_s + _TRIAL_S - anyio.current_time(), 0.0)
        return Closed(FailureClass.OPERATOR, self._reason, left_s)

    def closed(self, connection_id: UUID) -> Closed | None:
        """Return why a connection may not ask now, or None."""
        if not self.is_on:
            return None
        if connection_id in self._failed:
            # The oldest has the next turn to itself.
            turns = 1 if connection_id == next(iter(self._failed)) else 2
            until_s = self._turn_s + turns * self._interval_s
        else:
            is_refuted = connection_id in self._refuted
            until_s = self._trial_s + (_REFUTED_TRIAL_S if is_refuted else _TRIAL_S)
        return until(until_s, FailureClass.OPERATOR, self._reason)

    def mended(self, probe_interval_s: float) -> None:
        """Let one of each kind try at once: what has failed may be right now."""
        self._interval_s = probe_interval_s
        self._trial_s = self._turn_s = -math.inf

    def begins(self, connection_id: UUID) -> None:
        """Note that a connection asks, which may be its trial or its turn."""
        if not self.is_on:
            return
        if connection_id not in self._failed:
            self._trial_s = anyio.current_time()
            return
        self._turn_s = anyio.current_time()
        # An oldest that has let its turn pass gives way, too.
        for one in (next(iter(self._failed)), connection_id):
            self._failed[one] = self._failed.pop(one)

    def failed(self, connection_id: UUID, reason: str) -> bool:
        """Note a failure; return whether a pause is to be told of.

        Several in a row are told of once in ``probe_interval_s``.
        """
        now_s = anyio.current_time()
        is_evidence = self._failed.pop(connection_id, connection_id not in self._refuted)
        self._failed[connection_id] = is_evidence
        forget_oldest(self._failed)
        if is_evidence:
            self._reason = reason
        if not self.is_on and sum(self._failed.values()) >= EVIDENCE_CONNECTIONS:
            self.is_on, self._is_told = True, False
            self._trial_s = self._turn_s = now_s
        if not self.is_on or self._is_told or now_s < self._told_s + self._interval_s:
            return False
        self._is_told, self._told_s = True, now_s
        return True

    def succeeded(self, connection_id: UUID) -> None:
        """What is shared is right: whatever failed was somebody's own, and is no evidence again."""
        self._refuted.update(dict.fromkeys(self._failed))
        self._refuted.pop(connection_id, None)
        forget_oldest(self._refuted)
        self._failed.clear()
        self.is_on = False
