"""What rate limits of some connections ask of all at a gate."""

import math
from uuid import UUID

import anyio

from actors.closed import EVIDENCE_CONNECTIONS, Closed, forget_oldest, until
from domain.profile import FailureClass

_TRIAL_S = 1.0
"""One trial in so long of those who were not limited."""
_COOL_S_MAX = 60.0
"""How long the rate limits of one or two hold the others."""
_HEAD_START_S = 5.0
"""Of those who were limited, the one longest ago asks so much sooner than the others."""


class CoolDown:
    """What rate limits of some connections ask of all at a gate."""

    def __init__(self) -> None:
        """Begin with nobody limited."""
        self._limited: dict[UUID, None] = {}
        """Who was limited and has not succeeded since, the longest ago first: no news again."""
        self._in_a_row = 0
        """How many were limited for the first time, and nobody has succeeded in between."""
        self._asking: set[UUID] = set()
        """Who has begun to ask since the last news."""
        self._reason = ""
        self._open_s = self._open_again_s = self._end_s = -math.inf
        """When others may ask; when the limited ones; until when the others ask one by one."""

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing to remember."""
        return not self._limited

    @property
    def told(self) -> Closed | None:
        """What is told of it: after how long another may ask, and until when one by one."""
        now_s = anyio.current_time()
        if now_s >= max(self._open_s, self._end_s):
            return None
        return Closed(FailureClass.TRANSIENT, self._reason, max(self._open_s - now_s, 0.0))

    def closed(self, connection_id: UUID) -> Closed | None:
        """Return why a connection may not ask now, or None."""
        until_s = self._open_s
        if connection_id in self._limited:
            is_oldest = connection_id == next(iter(self._limited))
            until_s = self._open_again_s + (0.0 if is_oldest else _HEAD_START_S)
        return until(until_s, FailureClass.TRANSIENT, self._reason)

    def begins(self, connection_id: UUID) -> None:
        """Note that a connection asks."""
        self._asking.add(connection_id)
        now_s = anyio.current_time()
        if now_s < self._end_s:
            self._open_s = max(self._open_s, now_s + _TRIAL_S)

    def ends(self, connection_id: UUID) -> None:
        """Note that a connection does not ask any more."""
        self._asking.discard(connection_id)

    def limited(self, connection_id: UUID, wait_s: float, reason: str) -> None:
        """Note a rate limit; its own back-off holds the connection for all of ``wait_s``."""
        now_s = anyio.current_time()
        is_news = connection_id not in self._limited
        self._in_a_row += is_news
        is_for_all = self._in_a_row >= EVIDENCE_CONNECTIONS
        open_s = now_s + (wait_s if is_for_all else min(wait_s, _COOL_S_MAX))
        self._open_again_s, self._reason = max(self._open_again_s, open_s), reason
        if is_news:
            self._open_s = max(self._open_s, open_s)
            self._end_s = max(self._end_s, now_s + wait_s)
            self._asking.clear()
        self._limited.pop(connection_id, None)
        self._limited[connection_id] = None
        forget_oldest(self._limited)

    def succeeded(self, connection_id: UUID) -> None:
        """Note a success: of one that has asked since the last news, it ends the cool-down."""
        self._limited.pop(connection_id, None)
        if connection_id in self._asking:
            self._in_a_row = 0
            self._open_s = self._open_again_s = self._end_s = -math.inf
