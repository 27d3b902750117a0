"""Whether one host's token endpoint is in order, by what its requests came to.

    closed --several connections fail, nobody succeeds--> open --its pause is over--> half open
      ^                                                    ^                             |
      |                                                    +------- the probe fails -----+
      +--------------- anything is answered, by whichever request ----------------------+

Only what is the endpoint's own fault counts: it is not reached, does not answer in time, or
answers with a 5xx. Half open, one request at a time is a probe: at first one a second, later in
ever longer pauses. Who has not failed itself has the probe first, so that no bad grant can keep
winning it; whose failures were its own, for others were answered, is no evidence until it is.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import anyio

from actors.closed import EVIDENCE_CONNECTIONS, Closed, forget_oldest, until
from domain.profile import FailureClass, ProviderProfile

_PROBE_S = 1.0
"""The pause before each of the first probes."""
_QUICK_PROBES = 10
"""How many of them there are, before each pause is twice the one before."""
_PROBED_AGAIN_S = 1.0
"""While a probe is under way, after how long the others look again."""


class CircuitState(StrEnum):
    """Whether requests go to a token endpoint."""

    CLOSED = "closed"
    """They do."""
    OPEN = "open"
    """None does, until the pause is over."""
    HALF_OPEN = "half_open"
    """One is under way and tells."""


class CircuitNews(NamedTuple):
    """What is to be known of a circuit."""

    provider_slug: str
    host: str
    state: CircuitState
    reason: str
    """What the last failure was."""
    down_s: float
    """For how long it has not been closed; told of one that closes, for how long it was not."""
    probes: int
    """How many requests have tried it since it opened."""
    next_probe_s: float
    """In how long the next one may."""


class Circuit:
    """The circuit of one token endpoint; single-threaded."""

    def __init__(
        self, profile: ProviderProfile, host: str, tell: Callable[[CircuitNews], None]
    ) -> None:
        """Begin closed; ``tell`` is called with each change of state."""
        self._slug = profile.slug
        self._host = host
        self._tell = tell
        self.pause_s_max = profile.outage_probe_interval_s
        self._state = CircuitState.CLOSED
        self._failed: dict[UUID, bool] = {}
        """Who has failed since the last answer, the longest ago first; whether it is evidence."""
        self._refuted: dict[UUID, None] = {}
        self._evidence = 0
        self._reason = ""
        self._probe: UUID | None = None
        self._probes = 0
        self._opened_s = self._pause_s = self._probe_s = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether requests go to the endpoint."""
        return self._state is CircuitState.CLOSED

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing to remember."""
        return not self._failed

    @property
    def news(self) -> CircuitNews:
        """How it is now."""
        now_s = anyio.current_time()
        return CircuitNews(
            self._slug,
            self._host,
            self._state,
            self._reason,
            round(now_s - self._opened_s, 1),
            self._probes,
            max(round(self._probe_s - now_s, 1), 0.0),
        )

    @property
    def told(self) -> Closed | None:
        """What others are told of it: after how long one who has not failed may probe."""
        if self.is_closed:
            return None
        left_s = max(self._probe_s - anyio.current_time(), 0.0)
        return Closed(
            FailureClass.TRANSIENT, self._reason, left_s if self._probe is None else _PROBED_AGAIN_S
        )

    def closed(self, connection_id: UUID) -> Closed | None:
        """Return why a connection may not ask now, or None."""
        if self.is_closed:
            return None
        if self._probe is not None:
            return Closed(FailureClass.TRANSIENT, self._reason, _PROBED_AGAIN_S)
        until_s = self._probe_s
        if connection_id in self._failed:
            is_oldest = connection_id == next(iter(self._failed))
            until_s += self._pause_s * (0.5 if is_oldest else 1.0)
        return until(until_s, FailureClass.TRANSIENT, self._reason)

    def begins(self, connection_id: UUID) -> None:
        """Note that a connection asks: while it is open that is the probe."""
        if not self.is_closed:
            self._probe = connection_id
            self._become(CircuitState.HALF_OPEN)

    def ends(self, connection_id: UUID) -> None:
        """Note that a connection does not ask any more; what nothing came of is no probe."""
        if self._probe == connection_id:
            self._probe = None
            self._become(CircuitState.OPEN)

    def failed(self, connection_id: UUID, reason: str) -> None:
        """Note a failure that is the endpoint's own."""
        now_s = anyio.current_time()
        known = self._failed.pop(connection_id, None)
        is_evidence = connection_id not in self._refuted if known is None else known
        self._evidence += is_evidence and known is None
        self._failed[connection_id] = is_evidence
        forget_oldest(self._failed)
        self._reason = reason
        if self.is_closed and self._evidence >= EVIDENCE_CONNECTIONS:
            self._opened_s, self._probes = now_s, 0
            self._pause(now_s)
        elif self._probe == connection_id:
            self._probe, self._probes = None, self._probes + 1
            self._pause(now_s)

    def answered(self, connection_id: UUID) -> None:
        """Note an answer: the endpoint is in order, and whatever failed was somebody's own."""
        if self._failed:
            self._refuted.update(dict.fromkeys(self._failed))
            forget_oldest(self._refuted)
            self._failed.clear()
            self._evidence, self._probe = 0, None
            self._become(CircuitState.CLOSED)
        self._refuted.pop(connection_id, None)

    def _pause(self, now_s: float) -> None:
        """Let nobody ask for a while."""
        pause_s = 2 * self._pause_s if self._probes >= _QUICK_PROBES else _PROBE_S
        self._pause_s = min(pause_s, self.pause_s_max)
        self._probe_s = now_s + self._pause_s
        self._become(CircuitState.OPEN)

    def _become(self, state: CircuitState) -> None:
        if state is not self._state:
            self._state = state
            self._tell(self.news)
