"""A connection whose provider, host and values are sound is not harmed by one that is not."""

import math
import random
from typing import NamedTuple
from uuid import UUID

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.closed import EVIDENCE_CONNECTIONS
from domain.commands import GetToken
from domain.decision import AccessToken
from domain.profile import ProviderProfile
from domain.result import Failure, FailureCode
from tests.fakes.commands import connection_number
from tests.fakes.examples import examples
from tests.fakes.providers import VirtualClock, providers
from tests.fakes.schedule import run_seeded
from tests.fakes.stage import Sent, Stage
from tests.fakes.tenants import (
    OF_CONNECTION,
    OF_HOST,
    Fault,
    TenantProvider,
    by_shop,
    connect,
    shared,
)

_LIFETIME_S = 60
_PATIENCE_S = 4.0
_PROFILES = {
    profile.slug: profile for profile in (by_shop("tenants"), by_shop("others"), shared("one-host"))
}


class Who(NamedTuple):
    """One connection, and where it is."""

    number: int
    slug: str
    shop: str
    fault: Fault | None

    @property
    def id(self) -> UUID:
        """Its connection's id."""
        return connection_number(self.number)

    @property
    def token(self) -> str:
        """Its refresh token, which does not rotate."""
        return f"r{self.number}"


class Town:
    """Connections of several clients at several hosts, each polled again and again."""

    def __init__(
        self,
        people: list[Who],
        faults: dict[str, Fault],
        profiles: dict[str, ProviderProfile] = _PROFILES,
    ) -> None:
        self.people = people
        self.clock = VirtualClock()
        self.provider = TenantProvider(self.clock, lifetime_s=_LIFETIME_S)
        self.provider.faults |= faults
        for who in people:
            if who.fault is not None:
                self.provider.faults[who.token] = who.fault
        self.stage = Stage(clock=self.clock, providers=providers(self.provider, *profiles.values()))
        self.answers: dict[int, list[Sent]] = {who.number: [] for who in people}

    def is_sound(self, who: Who) -> bool:
        """Whether nothing is wrong with a connection, its host or its client."""
        host = who.shop if _PROFILES[who.slug].is_templated else "everybody"
        return not {who.token, host, who.slug} & self.provider.faults.keys()

    async def poll(
        self,
        *,
        for_s: float,
        every_s: float,
        draw: random.Random,
        mended_after_s: float = math.inf,
    ) -> None:
        """Ask for every token again and again, whoever is asked for first."""
        async with self.stage.opened():
            for who in self.people:
                await self.stage.ask(
                    connect(who.id, who.slug, who.token, shop=who.shop, clock=self.clock)
                )
            for number in range(int(for_s / every_s)):
                if number * every_s >= mended_after_s:
                    self.provider.faults.clear()
                for who in draw.sample(self.people, len(self.people)):
                    ask = GetToken(connection_id=who.id, min_ttl_s=20.0)
                    sent = self.stage.send(ask, patience_s=_PATIENCE_S)
                    self.answers[who.number].append(sent)
                await anyio.sleep(every_s)
            await anyio.sleep(_PATIENCE_S)

    def refused(self, who: Who) -> int:
        """Return how many of a connection's callers got no token."""
        return sum(not is_served(sent) for sent in self.answers[who.number])


def is_served(sent: Sent) -> bool:
    """Whether a caller got a token that is not stale."""
    reply = sent.reply
    if isinstance(reply, Failure):
        return False
    assert isinstance(reply.value, AccessToken)
    return not reply.value.stale


def _people(faults: tuple[Fault, ...]) -> st.SearchStrategy[list[Who]]:
    one = st.tuples(
        st.sampled_from(sorted(_PROFILES)),
        st.sampled_from(("a", "b", "c")),
        st.none() | st.none() | st.sampled_from(faults),
    )
    return st.lists(one, min_size=16, max_size=24).map(
        lambda many: [Who(number, *one) for number, one in enumerate(many)]
    )


_hosts = st.dictionaries(
    st.sampled_from(("a", "b", "c")), st.sampled_from(OF_HOST), min_size=1, max_size=2
)
_clients = st.dictionaries(
    st.sampled_from(sorted(_PROFILES)), st.just(Fault.BAD_SECRET), max_size=1
)


@settings(max_examples=examples(12))
@given(_people(OF_CONNECTION), _hosts, _clients, st.integers(0, 2**32))
def test_faults_of_connections_hosts_and_clients_refuse_no_connection_that_is_sound(
    people: list[Who], hosts: dict[str, Fault], clients: dict[str, Fault], seed: int
) -> None:
    town = Town(people, {**hosts, **clients})
    run_seeded(lambda: town.poll(for_s=400.0, every_s=8.0, draw=random.Random(seed)), seed=seed)

    sound = [who for who in people if town.is_sound(who)]
    assert {who.number: town.refused(who) for who in sound if town.refused(who)} == {}


@settings(max_examples=examples(12))
@given(
    _people((*OF_CONNECTION, Fault.ITS_OWN_CLIENT)),
    st.dictionaries(st.sampled_from(("a", "b")), st.just(Fault.DENIES_CLIENT)),
    st.integers(0, 2**32),
)
def test_what_looks_like_the_clients_fault_costs_a_sound_connection_a_bounded_trial(
    people: list[Who], hosts: dict[str, Fault], seed: int
) -> None:
    town = Town(people, dict(hosts))
    run_seeded(lambda: town.poll(for_s=800.0, every_s=10.0, draw=random.Random(seed)), seed=seed)

    for who in people:
        if town.is_sound(who):
            answers = [is_served(sent) for sent in town.answers[who.number]]
            assert any(answers[: len(answers) // 4]), "nothing within the first quarter"
            assert all(answers[len(answers) // 2 :]), "refused after its client was known to work"


class _Asks(NamedTuple):
    """How one connection's tokens are asked for."""

    every_s: float
    """math.inf: as ``retry_after_s`` says, and a second after a token."""

    async def until(self, end_s: float, town: Town, who: Who) -> float:
        """Ask again and again; return how long its callers were refused, in all."""
        refused_s, since_s = 0.0, math.inf
        while (now_s := anyio.current_time()) < end_s:
            ask = GetToken(connection_id=who.id, min_ttl_s=20.0)
            sent = town.stage.send(ask, patience_s=_PATIENCE_S)
            await sent.answered.wait()
            refused = not is_served(sent)
            since_s = min(since_s, now_s) if refused else since_s
            if not refused and since_s < math.inf:
                refused_s, since_s = refused_s + anyio.current_time() - since_s, math.inf
            said_s = getattr(sent.reply, "retry_after_s", None) or 1.0
            await anyio.sleep(said_s if math.isinf(self.every_s) else self.every_s)
        return refused_s + max(end_s - since_s, 0.0)


@settings(max_examples=examples(12))
@given(
    st.lists(
        st.sampled_from((Fault.ITS_OWN_CLIENT, Fault.UNKNOWN_CODE, Fault.SERVER_ERROR)),
        min_size=3,
        max_size=28,
    ).flatmap(lambda bad: st.integers(0, 2).map(lambda limited: bad + [Fault.LIMITED] * limited)),
    st.integers(1, 3),
    st.tuples(st.sampled_from((math.inf, 5.0, 37.0)), st.sampled_from((60, 600, 3600))),
    st.sampled_from(("one-host", "tenants", "two of each")),
    st.integers(0, 2**32),
)
def test_many_bad_connections_refuse_a_few_sound_ones_no_longer_than_a_trial_for_each(
    faults: list[Fault], few: int, times_s: tuple[float, int], where: str, seed: int
) -> None:
    slugs = ("tenants", "others") if where == "two of each" else (where,)
    shops = ("a", "b", "c") if where == "two of each" else ("a",)
    people = [
        Who(number, slugs[number % len(slugs)], shops[number % len(shops)], fault)
        for number, fault in enumerate([*faults, *[None] * few])
    ]
    limited = sum(fault is Fault.LIMITED for fault in faults)
    town = Town(people, {})
    every_s, town.provider.lifetime_s = times_s
    allowed_s = 2.0 * len(faults) + 65.0 * limited + 2 * (0 if math.isinf(every_s) else every_s)
    if faults.count(Fault.SERVER_ERROR) >= EVIDENCE_CONNECTIONS:
        # Where nobody else has asked meanwhile the endpoint looks down: until its next probe.
        allowed_s += ProviderProfile(slug="any").outage_probe_interval_s + 2.0

    async def scene() -> dict[int, float]:
        refused_s: dict[int, float] = {}
        async with town.stage.opened():
            for who in people:
                town.stage.send(
                    connect(who.id, who.slug, who.token, shop=who.shop, clock=town.clock)
                )
            end_s = anyio.current_time() + allowed_s + 60.0

            async def poll(who: Who) -> None:
                asks = _Asks(1.0 if who.fault else every_s)
                refused_s[who.number] = await asks.until(end_s, town, who)

            async with anyio.create_task_group() as tasks:
                for who in people:
                    tasks.start_soon(poll, who)
        return refused_s

    refused_s = run_seeded(scene, seed=seed)
    sound = {who.number: refused_s[who.number] for who in people if who.fault is None}
    assert {number: lost_s for number, lost_s in sound.items() if lost_s > allowed_s} == {}


@pytest.mark.parametrize("slug", ["one-host", "tenants"])
async def test_a_wrong_secret_pauses_a_client_though_all_ask_at_one_url(slug: str) -> None:
    town = Town([Who(number, slug, "a", None) for number in range(50)], {slug: Fault.BAD_SECRET})

    await town.poll(for_s=3600.0, every_s=30.0, draw=random.Random(1))

    assert town.stage.journal.counts["client_paused"] == 1
    assert town.provider.asked.total() <= 50 + 3600 / 900


async def test_one_grant_that_is_always_limited_costs_the_others_a_minute() -> None:
    people = [Who(n, "one-host", "a", None if n else Fault.LIMITED) for n in range(10)]
    town = Town(people, {})

    await town.poll(for_s=3 * 3600.0, every_s=10.0, draw=random.Random(1))

    assert max(town.refused(who) for who in people[1:]) <= 7


@pytest.mark.parametrize("fault", [Fault.BAD_SECRET, Fault.NOT_FOUND])
async def test_a_broken_client_is_asked_once_for_each_then_once_an_interval_and_told_of_once(
    fault: Fault,
) -> None:
    people = [Who(number, "one-host", "a", None) for number in range(50)]
    town = Town(people, {"one-host" if fault is Fault.BAD_SECRET else "everybody": fault})

    await town.poll(for_s=7200.0, every_s=30.0, draw=random.Random(1))

    assert town.stage.journal.counts["client_paused"] == 1
    assert town.provider.asked.total() <= 50 + 7200 / 900
    codes = {sent.code for who in people for sent in town.answers[who.number]}
    assert codes == {FailureCode.PROVIDER_MISCONFIGURED}


async def test_one_bad_connection_that_always_asks_first_harms_none_of_fifty() -> None:
    profiles = {"one-host": shared("one-host")}
    people = [
        Who(0, "one-host", "a", Fault.ITS_OWN_CLIENT),
        *(Who(number, "one-host", "a", None) for number in range(1, 51)),
    ]
    town = Town(people, {}, profiles)

    class InOrder(random.Random):
        def sample(self, population: list[Who], k: int) -> list[Who]:  # type: ignore[override]
            return population[:k]

    await town.poll(for_s=7200.0, every_s=30.0, draw=InOrder())

    assert sum(town.refused(who) for who in people[1:]) == 0
    assert town.provider.asked["r0"] <= 24


async def test_a_mended_client_is_found_out_within_one_interval_and_frees_all() -> None:
    people = [Who(number, "one-host", "a", None) for number in range(20)]
    town = Town(people, {"one-host": Fault.BAD_SECRET})

    await town.poll(for_s=3600.0, every_s=30.0, draw=random.Random(1), mended_after_s=1800.0)

    for who in people:
        answers = [is_served(sent) for sent in town.answers[who.number]]
        assert not any(answers[:60])
        assert all(answers[91:])
