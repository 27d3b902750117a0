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
In a cluster the members share a gate's slots and rate (``actors.shares``), and what one of them
keeps closed the others hold closed as well (``actors.heard_closures``).
Kept in memory: a restart begins anew, and a reload (``ClientGates.adopt``) lets one try at once.

Source:
    PROVIDERS.md section 4, "Whose fault is it?".
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from actors.circuit import Circuit, CircuitNews, CircuitState
from actors.closed import SOON_S, Closed
from actors.cool_down import CoolDown
from actors.gate_word import ALL_HOSTS, Closure, GateKey, GateWord
from actors.heard_closures import CLOSURES_MAX, HeardClosures
from actors.pause import Pause
from actors.rate import Rate
from actors.shares import Shares
from actors.turnstile import Turn, Turnstile
from domain.exchange import Place, Reach, Verdict
from domain.profile import FailureClass, ProviderProfile
from domain.result import Failure, FailureCode
from domain.token_read import misconfigured

_GATES_MIN = 64
_CIRCUITS_SHOWN_MAX = 100
_COOL_S_DEFAULT = 1.0
"""How long a rate limit cools that asks for no time."""


class _Client:
    """One client: what all of its hosts share."""

    def __init__(self, profile: ProviderProfile) -> None:
        self.slug = profile.slug
        self.pause = Pause(profile.probe_interval_s)
        self.gates: dict[str, ClientGate] = {}
        self.gates_max = _GATES_MIN

    @property
    def is_paused(self) -> bool:
        """Whether a configuration failure has not been mended yet, here or at a host."""
        return self.pause.is_on or any(gate.pause.is_on for gate in self.gates.values())


class Others(NamedTuple):
    """What the other members of the cluster have to do with our gates."""

    shares: Shares
    closures: HeardClosures


class ClientGate:
    """One client at one host; single-threaded, so what it says holds until the next await."""

    def __init__(
        self,
        profile: ProviderProfile,
        client: _Client,
        host: str,
        tell: Callable[[CircuitNews], None],
        others: Others,
    ) -> None:
        """Open a gate with our share of the profile's ``max_concurrency`` slots and its rate."""
        self.key = GateKey(profile.slug, profile.client_id, host)
        self.pause = Pause(profile.probe_interval_s)
        self._client = client
        rate = _rate(profile)
        self._stile = Turnstile(slots=profile.max_concurrency, rate=rate)
        self._sent = _rate(profile)
        """What has gone out; who is let in may take a moment to send."""
        self._others = others
        self._rates = () if rate is None or self._sent is None else (rate, self._sent)
        self._share = others.shares.of(self.key, profile, self._stile, *self._rates)
        self._cool_down = CoolDown()
        self.circuit = Circuit(profile, host, tell)
        self.secret_index = 0
        """Which of the client's secrets worked last."""

    def adopt(self, profile: ProviderProfile) -> None:
        """Go by another profile of the same client, or by other secrets, from now on."""
        if profile.rate_per_s is None:
            self._rates = ()
        elif not self._rates:
            self._rates = (Rate(profile.rate_per_s, 1), Rate(profile.rate_per_s, 1))
        self._sent = self._rates[1] if self._rates else None
        self._stile.keep(self._rates[0] if self._rates else None)
        self._share.adopt(profile, *self._rates)
        self.pause.mended(profile.probe_interval_s)
        self.circuit.pause_s_max = profile.outage_probe_interval_s
        self.secret_index = 0

    def give_up(self) -> None:
        """Let in who waits; each finds that its profile is another one, and asks for its gate."""
        self._stile.open()

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
        if (heard := self._others.closures.closed(self.key)) is not None:
            closed.append(heard)
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
            self._others.closures.begins(self.key, connection_id)
        try:
            yield closed
        finally:
            self._others.closures.ends(self.key, connection_id)
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
        self._others.closures.succeeded(self.key, connection_id)
        before = self._closed_by()
        self._client.pause.succeeded(connection_id)
        self.pause.succeeded(connection_id)
        self._cool_down.succeeded(connection_id)
        self.circuit.answered(connection_id)
        self._tell_change(before)

    def failed(self, connection_id: UUID, verdict: Verdict) -> bool:
        """Note a failure; return whether a pause is to be told of."""
        before = self._closed_by()
        is_pause_to_tell = self._noted(connection_id, verdict)
        self._tell_change(before)
        return is_pause_to_tell

    @property
    def closures(self) -> list[Closed]:
        """Why it is closed for who has not failed, and after how long such a one may try."""
        holds = (self.pause, self._cool_down, self.circuit)
        return [one for hold in holds if (one := hold.told) is not None]

    def _closed_by(self) -> tuple[bool, ...]:
        """Return which holds are on, if there is anybody to tell."""
        if not self._others.shares.others:
            return ()
        holds = (self._client.pause, self.pause, self._cool_down, self.circuit)
        return tuple(hold.told is not None for hold in holds)

    def _tell_change(self, before: tuple[bool, ...]) -> None:
        """Let the others hear soon that the gate has closed or opened."""
        if self._closed_by() != before:
            self._others.shares.news()

    def _noted(self, connection_id: UUID, verdict: Verdict) -> bool:
        """Let each hold know of a failure, as ``failed`` has it."""
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

    def __init__(
        self,
        tell: Callable[[CircuitNews], None] = lambda _: None,
        *,
        me: str = "",
        news: Callable[[], None] = lambda: None,
    ) -> None:
        """Start with none, and alone: no limit is shared until another member is heard.

        Args:
            tell: Told of every change of a circuit's state.
            me: This daemon's id.
            news: Called when ``word`` should soon be told, and not just with the next heartbeat.
        """
        self._clients: dict[tuple[str, str], _Client] = {}
        self._tell = tell
        self._others = Others(Shares(me, news), HeardClosures())

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
                for trivial in [one for one in client.gates.values() if one.is_trivial]:
                    del client.gates[trivial.key.host]
                    self._others.shares.drop(trivial.key)
                client.gates_max = max(2 * len(client.gates), _GATES_MIN)
            gate = ClientGate(profile, client, place.host, self._tell, self._others)
            client.gates[place.host] = gate
        return gate

    def adopt(self, slug: str, profile: ProviderProfile | None) -> None:
        """Go by another profile, or other secrets, of a provider from now on.

        Another client's gates are forgotten, as where there is no profile any more; requests that
        are under way at one end as they would have.
        """
        for key in [key for key in self._clients if key[0] == slug]:
            client = self._clients[key]
            if profile is not None and key[1] == profile.client_id:
                client.pause.mended(profile.probe_interval_s)
                for gate in client.gates.values():
                    gate.adopt(profile)
                continue
            del self._clients[key]
            for gate in client.gates.values():
                self._others.shares.drop(gate.key)
                gate.give_up()

    def word(self) -> GateWord:
        """Return what to tell the other members; each heartbeat needs one of its own."""
        number, heard, gates = self._others.shares.tell()
        closures = sorted(self._closures(), key=lambda one: -one.left_s)[:CLOSURES_MAX]
        return GateWord(number=number, heard=heard, gates=gates, closures=tuple(closures))

    def heard(self, daemon: str, word: GateWord) -> None:
        """Take in what another member tells; who was not known is a member from now on."""
        if self._others.shares.heard(daemon, word):
            self._others.closures.heard(daemon, word.closures)

    def gone(self, daemon: str) -> None:
        """Know that a member is not there any more, or not heard."""
        self._others.shares.gone(daemon)
        self._others.closures.gone(daemon)

    def _closures(self) -> Iterator[Closure]:
        """Yield what is closed here, and not just by what was heard."""
        for (slug, client_id), client in self._clients.items():
            told = [
                (GateKey(slug, client_id, ALL_HOSTS), one) for one in [client.pause.told] if one
            ]
            for gate in client.gates.values():
                told += [(gate.key, one) for one in gate.closures]
            for key, (failure_class, reason, left_s) in told:
                yield Closure(key=key, failure_class=failure_class, reason=reason, left_s=left_s)

    @property
    def gates(self) -> int:
        """How many are kept."""
        return sum(len(client.gates) for client in self._clients.values())

    @property
    def paused(self) -> list[str]:
        """The providers that have a client paused, everywhere or at a host."""
        return sorted({client.slug for client in self._clients.values() if client.is_paused})

    @property
    def circuits_down(self) -> Counter[tuple[str, CircuitState]]:
        """How many circuits are not closed, by provider and state; all of them."""
        gates = (gate for client in self._clients.values() for gate in client.gates.values())
        news = (gate.circuit.news for gate in gates if not gate.circuit.is_closed)
        return Counter((one.provider_slug, one.state) for one in news)

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
        return replace(misconfigured(closed.reason, left_s), detail=_NOT_ASKED)
    return Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message=closed.reason,
        needs_user_action=False,
        retry_after_s=left_s,
        detail=_NOT_ASKED,
    )


_NOT_ASKED = "so it was told to others, and the provider was not asked now"
