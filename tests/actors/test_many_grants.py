"""Many connections, many faults: each grant lives on, and none pays for what befell another."""

from collections.abc import Sequence
from typing import NamedTuple

import anyio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from actors.ports import StoreUnavailableError
from actors.world import Limits
from domain.commands import GetToken
from domain.connection import ConnectionStatus
from domain.credentials import Sealed
from domain.decision import AccessToken
from domain.profile import NO_REUSE, ProviderProfile
from domain.result import Failure, FailureCode, Success
from domain.token_read import REPLAY_LEAD_S
from tests.fakes import tenants
from tests.fakes.commands import connection_number
from tests.fakes.examples import examples
from tests.fakes.providers import VirtualClock, providers
from tests.fakes.schedule import run_seeded
from tests.fakes.stage import Sent, Stage
from tests.fakes.strict_grants import Mishap, StrictGrants
from tests.fakes.world import CountingIds, MemoryLedger

_LIFETIME_S = 120
_SETTLED_S = 0.02
_GRID_S = 0.5
"""Acts begin at multiples of it, and end off it: what races in them is the same in each run."""
_LIMITS = Limits(unclear_s=0.9)
_PROFILES = {
    slug: ProviderProfile(
        slug=slug,
        client_id=slug,
        token_endpoint="https://{shop}.test/token",
        reuse_policy=NO_REUSE,
        ambiguous_max=10_000,
        timeout_s=6.0,
        lifetime_default_s=_LIFETIME_S,
    )
    for slug in ("one", "two")
}


class Ask(NamedTuple):
    """Callers of ``token``, one a connection."""

    numbers: frozenset[int]
    force: bool


class Meet(NamedTuple):
    """A connection's next request meets a mishap."""

    number: int
    mishap: Mishap


class Store(NamedTuple):
    """For so long nothing is acknowledged and nothing can be read."""

    for_s: float
    is_stored_at_once: bool


class Kill(NamedTuple):
    """The daemon ends without another word, and the next one begins."""

    after_s: float


class Stop(NamedTuple):
    """The daemon is told to end, and the next one begins."""

    after_s: float
    grace_s: float


class Clock(NamedTuple):
    """Somebody sets the clock."""

    ahead_s: float


Act = Ask | Meet | Store | Kill | Stop | Clock
Script = Sequence[tuple[int, Act | None]]
"""Each act, and how many steps of the grid pass before it."""


class Village:
    """A few connections at two providers with two hosts each, over several daemons' lives."""

    def __init__(self, homes: Sequence[tuple[str, str]]) -> None:
        self.homes = homes
        self.clock = VirtualClock()
        self.grants = StrictGrants(self.clock, lifetime_s=_LIFETIME_S)
        self.sent: dict[int, list[Sent]] = {number: [] for number in range(len(homes))}
        self.unheard: set[int] = set()
        """Whose rotation a daemon may have died of before it was stored."""
        self.broken: list[str] = []
        """Promises that were broken at the moment when a token was presented."""
        self.stages: list[Stage] = []
        self._is_told_to_stop = False
        self._until_s = 0.0
        """Until when the store is out of reach."""
        self._is_stored_at_once = False
        self._begun_s = 0.0
        self.grants.before = self._look_at

    async def live(self, script: Script) -> None:
        """Connect all, play the script, and let everything heal and be asked for once more."""
        ledger, left = MemoryLedger(), list(script)
        async with self._daemon(ledger).opened():
            for number, (slug, shop) in enumerate(self.homes):
                one = connection_number(number)
                token = f"{number}.1"
                self.grants.issued_at_s[token] = anyio.current_time()
                await self.stages[-1].ask(
                    tenants.connect(one, slug, token, shop=shop, clock=self.clock)
                )
        self._begun_s = anyio.current_time()
        while left:
            ledger = await self._life(ledger, left)
        self.grants.mishaps.clear()
        self.clock.ahead_s = 0.0
        await self._healed(ledger)

    def course_of(self, number: int, other: "Village") -> object:
        """Return what became of one connection: its answers, its requests, what is stored.

        Amid a stop it is a matter of when whether a caller is told so, or given what is left: it
        is told so here where the other course says so.
        """
        answers = [
            _told(theirs if _ends(theirs) and _is_stale(one) else one)
            for one, theirs in zip(self.sent[number], other.sent[number], strict=True)
        ]
        requests = [(one.token, one.ended) for one in self.grants.history[number]]
        stored = self.stages[-1].stored(connection_number(number))
        return answers, requests, stored.status, stored.generation

    def _look_at(self, number: int) -> None:
        if self.stages[-1].stored(connection_number(number)).intent is None:
            self.broken.append(f"{number} was presented before its intent was stored")
        if self._is_told_to_stop:
            self.broken.append(f"{number} was presented after its daemon was told to stop")

    def _daemon(self, ledger: MemoryLedger) -> Stage:
        lives = len(self.stages)
        ledger.before, ledger.after_append = self._before, self._after_append
        stage = Stage(
            limits=_LIMITS,
            ledger=ledger,
            clock=self.clock,
            providers=providers(self.grants, *_PROFILES.values(), owner=f"d-{lives}"),
            ids=CountingIds(lives * 1_000_000),
        )
        self.stages.append(stage)
        return stage

    async def _life(self, ledger: MemoryLedger, left: list[tuple[int, Act | None]]) -> MemoryLedger:
        """Play until this daemon's end; return what the next one finds."""
        stage = self._daemon(ledger)
        async with stage.opened():
            while left:
                steps, act = left.pop(0)
                self._begun_s += steps * _GRID_S
                await _until(self._begun_s)
                match act:
                    case Ask(numbers, force):
                        for number in sorted(numbers):
                            ask = GetToken(connection_id=connection_number(number), force=force)
                            self.sent[number].append(stage.send(ask, patience_s=4.0))
                    case Meet(number, mishap):
                        self.grants.mishaps[number].append(mishap)
                    case Store(for_s, is_stored_at_once):
                        # Whether it finds what was asked just now is no matter of the schedule.
                        await anyio.sleep(_SETTLED_S)
                        self._until_s = anyio.current_time() + for_s
                        self._is_stored_at_once = is_stored_at_once
                    case Clock(ahead_s):
                        self.clock.ahead_s = ahead_s
                    case Kill(after_s):
                        await anyio.sleep(after_s)
                        return await self._killed(stage)
                    case Stop(after_s, grace_s):
                        await anyio.sleep(after_s)
                        return await self._stopped(stage, grace_s)
                    case None:
                        pass
            await _until(self._begun_s + 20.0)
        return ledger

    async def _killed(self, stage: Stage) -> MemoryLedger:
        """Leave what is stored now, and nothing of what the daemon knew."""
        left = MemoryLedger()
        left.records |= stage.ledger.records
        stage.ledger.before = lambda name, _: anyio.sleep_forever() if name == "append" else None
        for number, history in self.grants.history.items():
            if history and history[-1].ended == "answered" and not self._holds(left, number):
                self.unheard.add(number)
        await stage.directory.stop(at_once=True, within_s=0.0)
        self._begun_s += 4 * _GRID_S
        return left

    async def _stopped(self, stage: Stage, grace_s: float) -> MemoryLedger:
        """Let it end in its time, and take in what it could not store, as the next start does."""
        self._is_told_to_stop = True
        await stage.directory.drain(grace_s)
        await stage.directory.stop(within_s=1.0)
        self._is_told_to_stop = False
        left = MemoryLedger()
        left.records |= stage.ledger.records
        for outcome in stage.spill.kept:
            found = left.records[outcome.connection.id]
            assert found.connection is not None
            if (intent := found.connection.intent) and intent.attempt_id == outcome.attempt_id:
                left.records[outcome.connection.id] = found._replace(connection=outcome.connection)
        self._begun_s += 20 * _GRID_S
        return left

    def _holds(self, ledger: MemoryLedger, number: int) -> bool:
        """Whether the refresh token that works is stored."""
        connection = ledger.records[connection_number(number)].connection
        assert connection is not None
        assert connection.credentials is not None
        assert isinstance(connection.credentials.payload, Sealed)
        return f'"{self.grants.live(number)}"'.encode() in connection.credentials.payload.ciphertext

    async def _healed(self, ledger: MemoryLedger) -> None:
        """Ask for each token, in a world without faults, until there is an answer that stays."""
        stage = self._daemon(ledger)
        async with stage.opened(), anyio.create_task_group() as tasks:
            for number in range(len(self.homes)):
                tasks.start_soon(self._heal, stage, number)

    async def _heal(self, stage: Stage, number: int) -> None:
        ask = GetToken(connection_id=connection_number(number), min_ttl_s=1.0)
        sent = stage.send(ask)
        await sent.answered.wait()
        for _ in range(60):
            if sent.code in (None, FailureCode.REAUTH_REQUIRED):
                break
            await anyio.sleep(30.0)
            sent = stage.send(ask)
            await sent.answered.wait()
        self.sent[number].append(sent)

    def _before(self, operation: str, _: object) -> object:
        is_away = anyio.current_time() < self._until_s
        if is_away and operation == "read":
            raise StoreUnavailableError("no answer")
        if is_away and operation == "append" and not self._is_stored_at_once:
            return _until(self._until_s)
        return None

    def _after_append(self) -> object:
        return _until(self._until_s) if self._is_stored_at_once else None


def _told(sent: Sent) -> object:
    reply = sent.reply
    if isinstance(reply, Failure):
        return reply.code
    assert isinstance(reply.value, AccessToken)
    return reply.value.access_token, reply.value.stale


def _ends(sent: Sent) -> bool:
    return isinstance(sent.reply, Failure) and sent.reply.code is FailureCode.SHUTTING_DOWN


def _is_stale(sent: Sent) -> bool:
    reply = sent.reply
    return isinstance(reply, Success) and getattr(reply.value, "stale", False) is True


async def _until(time_s: float) -> None:
    await anyio.sleep(max(0.0, time_s - anyio.current_time()))


_number = st.integers(0, 4)
_after_s = st.sampled_from((0.05, 0.15))
_ask = st.builds(Ask, st.frozensets(_number, min_size=1), st.sampled_from((True, True, False)))
_meet = st.builds(Meet, _number, st.sampled_from(Mishap))
_store = st.builds(Store, st.sampled_from((1.0, 3.0, 8.0)), st.booleans())
_end = st.builds(Kill, _after_s) | st.builds(Stop, _after_s, st.sampled_from((0.0, 3.0)))
_clock = st.builds(Clock, st.sampled_from((-100.0, 0.0, 100.0)))
_act = st.sampled_from((_ask, _ask, _ask, _meet, _meet, _store, _end)).flatmap(lambda one: one)
_steps = st.sampled_from((0, 0, 1, 1, 2, 10, 30, 60, 260))
# Where one fails, it is told at once: to make a smaller one of it takes minutes.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
_scripts = st.tuples(
    st.lists(st.tuples(_steps, _act), min_size=20, max_size=40),
    st.just([]) | st.just([]) | st.lists(st.tuples(_steps, _clock), max_size=2),
    st.lists(st.tuples(_steps, _act), max_size=10),
).map(lambda parts: [*parts[0], *parts[1], *parts[2]])
_homes = st.lists(
    st.tuples(st.sampled_from(("one", "two")), st.sampled_from(("a", "b"))), min_size=5, max_size=5
)


def _played(homes: Sequence[tuple[str, str]], script: Script, seed: int) -> Village:
    async def story() -> Village:
        village = Village(homes)
        await village.live(script)
        return village

    return run_seeded(story, seed=seed)


def _no_grant_ended_that_was_heard_of(village: Village) -> None:
    """A token that was spent is shown again only where nobody heard what became of it."""
    for number in range(len(village.homes)):
        history = village.grants.history[number]
        unheard = {one.token for one in history if one.ended != "answered"}
        replayed = {one for one in village.grants.replayed if one.startswith(f"{number}.")}
        last = village.sent[number][-1]
        if number not in village.unheard:
            assert replayed <= unheard
            assert unheard or last.code is None
        if last.code is not None:
            assert last.code is FailureCode.REAUTH_REQUIRED, "never healed"
            assert replayed
            stored = village.stages[-1].stored(connection_number(number))
            assert stored.status is ConnectionStatus.EXPIRED


def _nothing_in_doubt_was_shown_while_there_was_something_to_lose(village: Village) -> None:
    for history in village.grants.history.values():
        for position, one in enumerate(history):
            before = [other for other in history[:position] if other.token == one.token]
            if any(other.ended != "answered" for other in before):
                cut_at_s = [other.at_s for other in before if other.ended == "cut"]
                issued_at_s = max(cut_at_s, default=village.grants.issued_at_s[one.token])
                is_first = one.token.endswith(".1")
                lives_s = 0 if is_first and not cut_at_s else _LIFETIME_S
                assert one.at_s >= issued_at_s + lives_s - REPLAY_LEAD_S - 1.0


@given(_homes, _scripts, st.integers(0, 2**32))
@settings(max_examples=examples(50), phases=_PHASES)
def test_whatever_befalls_many_connections_no_grant_ends_whose_rotation_was_heard_of(
    homes: list[tuple[str, str]], script: list[tuple[int, Act]], seed: int
) -> None:
    village = _played(homes, script, seed)

    assert village.broken == []
    _no_grant_ended_that_was_heard_of(village)
    if not any(isinstance(act, Clock) for _, act in script):
        _nothing_in_doubt_was_shown_while_there_was_something_to_lose(village)
    for stage in village.stages:
        assert all(len(sent.replies) == 1 for sent in stage.sent)
        assert stage.journal.errors == []


@given(_homes, _scripts, st.integers(0, 4), st.integers(0, 2**32))
@settings(max_examples=examples(25), phases=_PHASES)
def test_what_befalls_one_connection_changes_nothing_for_any_other(
    homes: list[tuple[str, str]], script: list[tuple[int, Act]], unlucky: int, seed: int
) -> None:
    others = [number for number in range(len(homes)) if number != unlucky]
    # A store that is away is everybody's, and refuses sooner where somebody is writing; and an
    # endpoint that fails three connections in a row is down.
    befallen = (unlucky, others[0])
    told: Script = [
        (
            steps,
            None
            if isinstance(act, Store) or (isinstance(act, Meet) and act.number not in befallen)
            else act,
        )
        for steps, act in script
    ]
    spared = [
        (steps, None if isinstance(act, Meet) and act.number == unlucky else act)
        for steps, act in told
    ]

    with_it, without_it = _played(homes, told, seed), _played(homes, spared, seed)

    for number in others:
        assert with_it.course_of(number, without_it) == without_it.course_of(number, with_it)
