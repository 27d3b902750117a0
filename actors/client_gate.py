"""What connections share at a provider, and how far a failure of one reaches the others.

A *gate* is one client at one host: its slots and its cool-downs. A rate limit cools a gate:
nobody there asks before it is over. A failure that is our own configuration's is evidence, at
the host or for the client by its verdict's reach; only the evidence of several connections
pauses what they share. Then one flight at a time tries again: of a connection that has not failed
yet, the later the more have, or else of those that have, in turn. A success anywhere within the
reach ends the pause.
Kept in memory: a restart, which is how a configuration is mended, begins anew.

Source:
    PROVIDERS.md section 4, "Whose fault is it?".
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple
from uuid import UUID

import anyio
from msgspec.structs import replace

from domain.exchange import Place, Reach, Verdict
from domain.profile import FailureClass, ProviderProfile
from domain.result import Failure, FailureCode
from domain.token_read import misconfigured

_PROBE_AGAIN_S = 1.0
_EVIDENCE_CONNECTIONS = 3
"""How many connections must have failed before what they share is paused."""
_EVIDENCE_MAX = 1000
"""How many are remembered, one pause."""
_GATES_MIN = 64
_PROBE_S_MIN = 5.0
"""After so long a pause that has just begun is tried; twice as long for each one more."""


class Closed(NamedTuple):
    """Why nobody may ask now."""

    failure_class: FailureClass
    reason: str
    left_s: float


class _Pause:
    """What several connections' failures say of what they share."""

    def __init__(self, profile: ProviderProfile) -> None:
        self._interval_s_max = profile.probe_interval_s
        # Where a value is part of the URL, one wrong value is one URL's fault.
        self._urls_min = 2 if profile.is_templated else 1
        self._failed: dict[UUID, str] = {}
        """Whose failures speak against it, the oldest first, and at which URL they were."""
        self._refuted: dict[UUID, None] = {}
        """Whose failures were their own, for others succeeded after them."""
        self._last_s = self._last_new_s = 0.0
        self._reason = ""
        self.is_on = False
        self.is_probing = False

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing to remember."""
        return not self._failed

    def closed(self, connection_id: UUID) -> Closed | None:
        """Return why a connection may not ask now, or None; then it is the one that probes."""
        if not self.is_on:
            return None
        until_s = self._last_new_s + self._interval_s
        if connection_id in self._failed:
            # One an interval, and it goes round: the oldest has the next turn to itself.
            turns = 1 if connection_id == next(iter(self._failed)) else 2
            until_s = max(until_s, self._last_s + turns * self._interval_s_max)
        left_s = until_s - anyio.current_time()
        if left_s <= 0 and not self.is_probing:
            return None
        return Closed(FailureClass.OPERATOR, self._reason, max(left_s, _PROBE_AGAIN_S))

    def failed(self, connection_id: UUID, url: str, reason: str) -> bool:
        """Note a failure; return whether it began a pause."""
        if connection_id in self._refuted and not self.is_on:
            return False
        self._last_s, self._reason = anyio.current_time(), reason
        if self._failed.pop(connection_id, None) is None:
            self._last_new_s = self._last_s
        if len(self._failed) < _EVIDENCE_MAX:
            self._failed[connection_id] = url
        urls = len(set(self._failed.values()))
        is_evident = len(self._failed) >= _EVIDENCE_CONNECTIONS and urls >= self._urls_min
        is_news = is_evident and not self.is_on
        self.is_on = self.is_on or is_evident
        return is_news

    def succeeded(self, connection_id: UUID) -> None:
        """What is shared is right: whatever failed was somebody's own, and is no evidence again."""
        self._refuted.update(dict.fromkeys(self._failed))
        self._refuted.pop(connection_id, None)
        while len(self._refuted) > _EVIDENCE_MAX:
            del self._refuted[next(iter(self._refuted))]
        self._failed.clear()
        self.is_on = False

    @property
    def _interval_s(self) -> float:
        more = min(max(len(self._failed) - _EVIDENCE_CONNECTIONS, 0), 32)
        return min(_PROBE_S_MIN * 2**more, self._interval_s_max)


class _Client:
    """One client: what all of its hosts share."""

    def __init__(self, profile: ProviderProfile) -> None:
        self.slug = profile.slug
        self.pause = _Pause(profile)
        self.gates: dict[str, ClientGate] = {}
        self.gates_max = _GATES_MIN

    @property
    def is_paused(self) -> bool:
        """Whether a configuration failure has not been mended yet, here or at a host."""
        return self.pause.is_on or any(gate.pause.is_on for gate in self.gates.values())


class ClientGate:
    """One client at one host; single-threaded, so what it says holds until the next await."""

    def __init__(self, profile: ProviderProfile, client: _Client) -> None:
        """Open a gate with the profile's ``max_concurrency`` slots."""
        self.pause = _Pause(profile)
        self._client = client
        self._slots = anyio.CapacityLimiter(profile.max_concurrency)
        self._cooled_until_s = 0.0
        self._cooled_for = ""
        self.secret_index = 0
        """Which of the client's secrets worked last."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._slots.borrowed_tokens

    @property
    def is_trivial(self) -> bool:
        """Whether a new gate would be the same."""
        used = self._slots.borrowed_tokens or self._slots.statistics().tasks_waiting
        is_cool = self._cooled_until_s > anyio.current_time()
        return not used and not is_cool and not self.secret_index and self.pause.is_trivial

    def closed(self, connection_id: UUID) -> Closed | None:
        """Return why a connection may not ask now, or None."""
        for pause in (self._client.pause, self.pause):
            closed = pause.closed(connection_id)
            if closed is not None:
                return closed
        left_s = self._cooled_until_s - anyio.current_time()
        if left_s > 0:
            return Closed(FailureClass.TRANSIENT, self._cooled_for, left_s)
        return None

    @contextlib.asynccontextmanager
    async def slot(self, connection_id: UUID) -> AsyncGenerator[Closed | None]:
        """Wait for a slot, and yield why it must not be used after all, or None."""
        async with self._slots:
            closed = self.closed(connection_id)
            pauses = (self._client.pause, self.pause)
            probed = [one for one in pauses if one.is_on] if closed is None else []
            for pause in probed:
                pause.is_probing = True
            try:
                yield closed
            finally:
                for pause in probed:
                    pause.is_probing = False

    def succeeded(self, connection_id: UUID) -> None:
        """Note that the provider took our configuration, at this host and so for the client."""
        self._client.pause.succeeded(connection_id)
        self.pause.succeeded(connection_id)

    def failed(self, connection_id: UUID, url: str, verdict: Verdict) -> bool:
        """Note a failure at ``url``; return whether it paused what was not paused before."""
        if verdict.cools_client:
            until_s = anyio.current_time() + (verdict.retry_after_s or _PROBE_AGAIN_S)
            self._cooled_until_s = max(self._cooled_until_s, until_s)
            self._cooled_for = verdict.reason
        if verdict.failure_class is FailureClass.USER:
            # The provider spoke of the grant, so it knew the client.
            self.succeeded(connection_id)
        if verdict.failure_class is not FailureClass.OPERATOR:
            return False
        match verdict.reach:
            case Reach.CLIENT:
                return self._client.pause.failed(connection_id, url, verdict.reason)
            case Reach.HOST:
                return self.pause.failed(connection_id, url, verdict.reason)
            case Reach.CONNECTION:
                return False


class ClientGates:
    """The gates of all clients, by provider, client id and host."""

    def __init__(self) -> None:
        """Start with none."""
        self._clients: dict[tuple[str, str], _Client] = {}

    def of(self, profile: ProviderProfile, place: Place) -> ClientGate:
        """Return the gate of a profile's client at a host.

        At most twice as many are kept as there are hosts at which anything is under way or has
        failed. Whoever waits looks for it again: one that holds nothing may be replaced.
        """
        key = (profile.slug, profile.client_id)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = _Client(profile)
        gate = client.gates.get(place.host)
        if gate is None:
            if len(client.gates) >= client.gates_max:
                client.gates = {h: one for h, one in client.gates.items() if not one.is_trivial}
                client.gates_max = max(2 * len(client.gates), _GATES_MIN)
            gate = client.gates[place.host] = ClientGate(profile, client)
        return gate

    @property
    def gates(self) -> int:
        """How many are kept."""
        return sum(len(client.gates) for client in self._clients.values())

    @property
    def paused(self) -> list[str]:
        """The providers that have a client paused, everywhere or at a host."""
        return sorted({client.slug for client in self._clients.values() if client.is_paused})


def no_sooner(failure: Failure, closed: Closed | None) -> Failure:
    """Return ``failure`` with no shorter a wait than the client's."""
    own_s = failure.retry_after_s
    left_s = 0.0 if closed is None else round(closed.left_s, 1)
    return failure if own_s is None or own_s >= left_s else replace(failure, retry_after_s=left_s)


def while_closed(closed: Closed) -> Failure:
    """Return the answer while the client must not ask."""
    left_s = round(closed.left_s, 1)
    if closed.failure_class is FailureClass.OPERATOR:
        return misconfigured(closed.reason, left_s)
    return Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message=closed.reason,
        needs_user_action=False,
        retry_after_s=max(left_s, 0.1),
    )
