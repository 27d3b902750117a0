"""What connections share at a provider, and how far a failure of one reaches the others.

A *gate* is one client at one host. A failure harms for long only who has failed itself; who has
not, has a trial of its own soon, however many others have failed:

- A failure that is our own configuration's is evidence, at the host or for the client by its
  verdict's reach; only the evidence of several connections pauses what they share. Then those
  that have failed try again in turn, one in ``probe_interval_s``, and the others one a second. A
  success anywhere within the reach ends the pause.
- A rate limit cools the gate for everybody: for all of its time where several connections were
  limited in a row; on the word of fewer others nobody waits longer than a minute, and then who
  has not been limited tries, one a second, until one is.

- A token endpoint that cannot be reached, does not answer or fails has a circuit
  (``actors.circuit``): while it is open one request at a time tries, in ever longer pauses.

Whose failures were its own, for others succeeded, is believed again when it has succeeded.
Kept in memory: a restart, which is how a configuration is mended, begins anew.

Source:
    PROVIDERS.md section 4, "Whose fault is it?".
"""

import contextlib
import itertools
import math
from collections.abc import AsyncGenerator, Callable
from uuid import UUID

import anyio
from msgspec.structs import replace

from actors.circuit import Circuit, CircuitNews
from actors.closed import EVIDENCE_CONNECTIONS, SOON_S, Closed, forget_oldest, until
from actors.rate import Rate
from actors.turnstile import Turn, Turnstile
from domain.exchange import Place, Reach, Verdict
from domain.profile import FailureClass, ProviderProfile
from domain.result import Failure, FailureCode
from domain.token_read import misconfigured

_GATES_MIN = 64
_CIRCUITS_SHOWN_MAX = 100
_TRIAL_S = 1.0
"""One trial in so long of those who have not failed."""
_REFUTED_TRIAL_S = 10.0
"""Who was refuted tries when those who were not have let so long pass."""
_COOL_S_DEFAULT = 1.0
"""How long a rate limit cools that asks for no time."""
_COOL_S_MAX = 60.0
"""How long the rate limits of one or two hold the others."""
_HEAD_START_S = 5.0
"""Of those who were limited, the one longest ago asks so much sooner than the others."""


class _Pause:
    """What several connections' failures say of what they share."""

    def __init__(self, probe_interval_s: float) -> None:
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


class _CoolDown:
    """What rate limits of some connections ask of all at a gate."""

    def __init__(self) -> None:
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


class _Client:
    """One client: what all of its hosts share."""

    def __init__(self, profile: ProviderProfile) -> None:
        self.slug = profile.slug
        self.pause = _Pause(profile.probe_interval_s)
        self.gates: dict[str, ClientGate] = {}
        self.gates_max = _GATES_MIN

    @property
    def is_paused(self) -> bool:
        """Whether a configuration failure has not been mended yet, here or at a host."""
        return self.pause.is_on or any(gate.pause.is_on for gate in self.gates.values())


class ClientGate:
    """One client at one host; single-threaded, so what it says holds until the next await."""

    def __init__(
        self,
        profile: ProviderProfile,
        client: _Client,
        host: str,
        tell: Callable[[CircuitNews], None],
    ) -> None:
        """Open a gate with the profile's ``max_concurrency`` slots and its rate."""
        self.pause = _Pause(profile.probe_interval_s)
        self._client = client
        self._stile = Turnstile(slots=profile.max_concurrency, rate=_rate(profile))
        self._sent = _rate(profile)
        """What has gone out; who is let in may take a moment to send."""
        self._cool_down = _CoolDown()
        self.circuit = Circuit(profile, host, tell)
        self.secret_index = 0
        """Which of the client's secrets worked last."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._stile.inside

    @property
    def is_told_paused(self) -> bool:
        """Whether a pause was told of and is not over."""
        return self.pause.is_told or self._client.pause.is_told

    @property
    def is_trivial(self) -> bool:
        """Whether a new gate would be the same."""
        used = self._stile.inside or self._stile.waiting
        is_idle = self._sent is None or self._sent.is_idle
        holds = (self.pause, self._cool_down, self.circuit)
        remembers = not all(hold.is_trivial for hold in holds)
        return not used and is_idle and not self.secret_index and not remembers

    def closed(self, connection_id: UUID) -> Closed | None:
        """Return why a connection may not ask now, or None."""
        holds = (self._client.pause, self.pause, self._cool_down, self.circuit)
        closed = [one for hold in holds if (one := hold.closed(connection_id)) is not None]
        return max(closed, key=lambda one: one.left_s, default=None)

    @contextlib.asynccontextmanager
    async def slot(
        self, connection_id: UUID, turn: Turn | None = None
    ) -> AsyncGenerator[Closed | None]:
        """Wait for a slot in one's turn, and yield why it must not be used after all, or None."""
        await self._stile.enter(turn or Turn())
        closed = self.closed(connection_id)
        if closed is None:
            for hold in (self._client.pause, self.pause, self._cool_down, self.circuit):
                hold.begins(connection_id)
        try:
            yield closed
        finally:
            self._cool_down.ends(connection_id)
            self.circuit.ends(connection_id)
            self._stile.leave(unused=closed is not None)

    def needs_another(self) -> None:
        """Count a request besides the first of a slot, before it goes out."""
        self._stile.count()

    def departs(self) -> float:
        """Let one request go out now and return 0, or return after how long to ask again."""
        if self._sent is None:
            return 0.0
        if (left_s := self._sent.left_s) > 0:
            return max(left_s, SOON_S)
        self._sent.take()
        return 0.0

    def succeeded(self, connection_id: UUID) -> None:
        """Note that the provider took our configuration, at this host and so for the client."""
        self._client.pause.succeeded(connection_id)
        self.pause.succeeded(connection_id)
        self._cool_down.succeeded(connection_id)
        self.circuit.answered(connection_id)

    def failed(self, connection_id: UUID, verdict: Verdict) -> bool:
        """Note a failure; return whether a pause is to be told of."""
        if verdict.blames_endpoint:
            self.circuit.failed(connection_id, verdict.reason)
        elif verdict.failure_class is not FailureClass.OPERATOR:
            # Of that the endpoint may have been asked nothing.
            self.circuit.answered(connection_id)
        if verdict.cools_client:
            wait_s = verdict.retry_after_s or _COOL_S_DEFAULT
            self._cool_down.limited(connection_id, wait_s, verdict.reason)
        elif verdict.failure_class is FailureClass.USER:
            # The provider spoke of the grant, so it knew the client.
            self.succeeded(connection_id)
        if verdict.failure_class is not FailureClass.OPERATOR:
            return False
        match verdict.reach:
            case Reach.CLIENT:
                return self._client.pause.failed(connection_id, verdict.reason)
            case Reach.HOST:
                return self.pause.failed(connection_id, verdict.reason)
            case Reach.CONNECTION:
                return False


class ClientGates:
    """The gates of all clients, by provider, client id and host."""

    def __init__(self, tell: Callable[[CircuitNews], None] = lambda _: None) -> None:
        """Start with none; ``tell`` is told of every change of a circuit's state."""
        self._clients: dict[tuple[str, str], _Client] = {}
        self._tell = tell

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
            gate = client.gates[place.host] = ClientGate(profile, client, place.host, self._tell)
        return gate

    @property
    def gates(self) -> int:
        """How many are kept."""
        return sum(len(client.gates) for client in self._clients.values())

    @property
    def paused(self) -> list[str]:
        """The providers that have a client paused, everywhere or at a host."""
        return sorted({client.slug for client in self._clients.values() if client.is_paused})

    @property
    def circuits(self) -> list[CircuitNews]:
        """The circuits that are not closed; at most a hundred of them."""
        gates = (gate for client in self._clients.values() for gate in client.gates.values())
        news = (gate.circuit.news for gate in gates if not gate.circuit.is_closed)
        return sorted(itertools.islice(news, _CIRCUITS_SHOWN_MAX))


def _rate(profile: ProviderProfile) -> Rate | None:
    return None if profile.rate_per_s is None else Rate(profile.rate_per_s, profile.burst)


def no_sooner(failure: Failure, closed: Closed | None) -> Failure:
    """Return ``failure`` with no shorter a wait than the client's."""
    own_s = failure.retry_after_s
    left_s = 0.0 if closed is None else round(closed.left_s, 1)
    return failure if own_s is None or own_s >= left_s else replace(failure, retry_after_s=left_s)


def while_closed(closed: Closed) -> Failure:
    """Return the answer while the client must not ask."""
    left_s = max(round(closed.left_s, 1), 0.1)
    if closed.failure_class is FailureClass.OPERATOR:
        return misconfigured(closed.reason, left_s)
    return Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message=closed.reason,
        needs_user_action=False,
        retry_after_s=left_s,
    )
