"""What other members keep closed holds here, too.

What was heard holds for the time that was told. After it, as long as the member goes on naming
it, one connection a second tries here; one that succeeds shows that it does not hold here, until
that member names something else. So nobody is held for ever by a member that cannot try itself.
What a member names no more is open at once; what a member that is gone has named last holds for
its time. Nothing that was heard is told on.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

import anyio

from actors.closed import Closed, until
from actors.gate_word import Closure, GateKey
from domain.profile import FailureClass

CLOSURES_MAX = 100
"""How many closures of one member are told, and heard."""
_TRIAL_S = 1.0


class _Named(NamedTuple):
    """Who keeps a gate closed, and why."""

    daemon: str
    failure_class: FailureClass
    reason: str


class _Hold:
    """What the others say of one gate."""

    def __init__(self) -> None:
        self.named: dict[_Named, float] = {}
        """When its time is over; monotonic."""
        self.refuted: set[_Named] = set()
        self.last: set[_Named] = set()
        """The last words of who is gone."""
        self.trying: set[UUID] = set()
        """Who has begun to ask since this was heard."""
        self.trial_s = -math.inf

    @property
    def worst(self) -> tuple[float, _Named] | None:
        """What holds the longest here, and until when."""
        now_s = anyio.current_time()
        holds = [
            (until_s, one)
            for one, until_s in self.named.items()
            if one not in self.refuted and (until_s > now_s or one not in self.last)
        ]
        return max(holds, default=None)

    def forget(self, one: _Named) -> None:
        """Hold for that no longer."""
        del self.named[one]
        self.refuted.discard(one)
        self.last.discard(one)


class HeardClosures:
    """The gates that others keep closed; single-threaded."""

    def __init__(self) -> None:
        """Know of none."""
        self._holds: dict[GateKey, _Hold] = {}

    def closed(self, key: GateKey) -> Closed | None:
        """Return why nobody may ask at a gate now, or None."""
        closed: Closed | None = None
        for hold in self._of(key):
            if (worst := hold.worst) is not None:
                until_s, (_, failure_class, reason) = worst
                one = until(max(until_s, hold.trial_s + _TRIAL_S), failure_class, reason)
                if one is not None and (closed is None or one.left_s > closed.left_s):
                    closed = one
        return closed

    def begins(self, key: GateKey, connection_id: UUID) -> None:
        """Note that a connection asks, which may be a trial."""
        for hold in self._of(key):
            hold.trying.add(connection_id)
            hold.trial_s = anyio.current_time()

    def ends(self, key: GateKey, connection_id: UUID) -> None:
        """Note that a connection does not ask any more."""
        for hold in self._of(key):
            hold.trying.discard(connection_id)

    def succeeded(self, key: GateKey, connection_id: UUID) -> None:
        """Note a success: of one that has asked since, it shows that nothing holds here."""
        for hold in self._of(key):
            if connection_id in hold.trying:
                hold.refuted.update(hold.named)

    def heard(self, daemon: str, closures: Iterable[Closure]) -> None:
        """Put what a member names in the place of what it named before."""
        now_s = anyio.current_time()
        named: dict[GateKey, dict[_Named, float]] = {}
        for one in list(closures)[:CLOSURES_MAX]:
            who = _Named(daemon, one.failure_class, one.reason)
            named.setdefault(one.key, {})[who] = now_s + one.left_s
        for key in named.keys() - self._holds.keys():
            self._holds[key] = _Hold()
        for key, hold in list(self._holds.items()):
            now_named = named.get(key, {})
            for one, until_s in list(hold.named.items()):
                is_over = one.daemon == daemon and one not in now_named
                if is_over or (one in hold.last and until_s <= now_s):
                    hold.forget(one)
            if now_named.keys() - hold.named.keys():
                # Who has begun before this was heard tells nothing of it.
                hold.trying.clear()
            hold.named.update(now_named)
            hold.last.difference_update(now_named)
            if not hold.named:
                del self._holds[key]

    def gone(self, daemon: str) -> None:
        """Let what a member named last hold for its time, and no longer."""
        for hold in self._holds.values():
            hold.last.update(one for one in hold.named if one.daemon == daemon)

    def _of(self, key: GateKey) -> list[_Hold]:
        """Return what is heard of a gate and of its client."""
        if not self._holds:
            return []
        return [one for of in (key, key.of_client) if (one := self._holds.get(of)) is not None]
