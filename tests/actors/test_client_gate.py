"""A gate: so many at a time, nobody while it is cooled or paused, then one alone, in turn."""

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actors.client_gate import ClientGate, ClientGates, Closed
from domain.exchange import Place, Reach, Verdict
from domain.profile import FailureClass, ProviderProfile
from tests.fakes.commands import connection_number

PROFILE = ProviderProfile(
    slug="acme",
    client_id="c-1",
    token_endpoint="https://acme.test/token",
    max_concurrency=2,
    probe_interval_s=900.0,
)
TENANTS = ProviderProfile(
    slug="tenants",
    client_id="c-1",
    token_endpoint="https://{shop}.test/token",
    probe_interval_s=900.0,
)
HERE = Place("acme.test", "https://acme.test/token")
T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)
ONE, TWO, THREE, FOUR, FIVE = (connection_number(number) for number in range(1, 6))


def verdict(failure_class: FailureClass, reason: str = "It broke", **fields: Any) -> Verdict:
    """Return a verdict of a class."""
    return Verdict(failure_class=failure_class, code="c", reason=reason, **fields)


REFUSED = verdict(O, "No such client", reach=Reach.CLIENT)
NOT_THERE = verdict(O, "No such page", reach=Reach.HOST)
LIMITED = verdict(T, "Too many requests", cools_client=True, retry_after_s=60.0, counts=False)


def opened(profile: ProviderProfile = PROFILE, place: Place = HERE) -> ClientGate:
    """Return a gate that knows nothing."""
    return ClientGates().of(profile, place)


def shop(name: str) -> Place:
    """Return a tenant's own place."""
    return Place(f"{name}.test", f"https://{name}.test/token")


def paused(gate: ClientGate | None = None, told: Verdict = REFUSED) -> ClientGate:
    """Return a gate at which three connections have failed."""
    gate = gate or opened()
    for connection_id in (ONE, TWO, THREE):
        gate.failed(connection_id, HERE.url, told)
    return gate


class Visit:
    """One flight's stay in a gate: it keeps its slot until ``leave`` is set."""

    def __init__(self, gate: ClientGate, number: int = 9) -> None:
        self._gate = gate
        self._connection_id = connection_number(number)
        self.found: list[Closed | None] = []
        self.leave = anyio.Event()

    async def __call__(self) -> None:
        async with self._gate.slot(self._connection_id) as closed:
            self.found.append(closed)
            if closed is None:
                await self.leave.wait()


async def settle() -> None:
    """Let every task take its turns."""
    for _ in range(10):
        await checkpoint()


async def test_so_many_ask_a_host_at_a_time_and_the_others_follow_in_their_order() -> None:
    gates = ClientGates()
    gate, elsewhere = gates.of(PROFILE, HERE), gates.of(PROFILE, shop("other"))
    visits = [Visit(gate, number) for number in range(4)]
    other = Visit(elsewhere)
    async with anyio.create_task_group() as tasks:
        for visit in (*visits, other):
            tasks.start_soon(visit)
            await settle()

        assert [visit.found for visit in visits] == [[None], [None], [], []]
        assert other.found == [None]
        assert (gate.in_flight, elsewhere.in_flight) == (2, 1)
        visits[1].leave.set()
        await settle()
        assert [visit.found for visit in visits] == [[None], [None], [None], []]
        for visit in (*visits, other):
            visit.leave.set()
    assert gate.in_flight == 0
    assert visits[3].found == [None]


async def test_a_slot_comes_back_from_a_flight_that_breaks() -> None:
    gate = opened()
    for _ in range(3):
        with pytest.raises(LookupError):
            async with gate.slot(ONE):
                raise LookupError

    assert gate.in_flight == 0


async def test_a_rate_limit_cools_everybody_at_that_host_and_nobody_elsewhere() -> None:
    gates = ClientGates()
    gate, elsewhere = gates.of(TENANTS, shop("a")), gates.of(TENANTS, shop("b"))

    assert gate.failed(ONE, shop("a").url, LIMITED) is False

    assert gate.closed(ONE) == gate.closed(TWO) == Closed(T, "Too many requests", 60.0)
    assert elsewhere.closed(ONE) is None
    assert gates.paused == []
    async with gate.slot(TWO) as closed:
        assert closed == gate.closed(TWO)
    await anyio.sleep(59.5)
    assert gate.closed(TWO) is not None
    await anyio.sleep(0.5)
    assert gate.closed(TWO) is None


@pytest.mark.parametrize("asked_s", [None, 0.0])
async def test_a_rate_limit_that_asks_for_no_time_cools_for_a_moment(asked_s: float | None) -> None:
    gate = opened()

    gate.failed(ONE, HERE.url, verdict(T, cools_client=True, retry_after_s=asked_s))

    assert gate.closed(TWO) == Closed(T, "It broke", 1.0)


async def test_a_shorter_cool_down_does_not_end_a_longer_one_but_a_longer_one_extends_it() -> None:
    gate = opened()
    lefts: list[float | None] = []
    for asked_s in (60.0, 5.0, 90.0):
        gate.failed(ONE, HERE.url, verdict(T, cools_client=True, retry_after_s=asked_s))
        closed = gate.closed(ONE)
        lefts.append(closed.left_s if closed else None)

    assert lefts == [60.0, 60.0, 90.0]


async def test_a_success_does_not_end_a_cool_down() -> None:
    gate = opened()
    gate.failed(ONE, HERE.url, LIMITED)

    gate.succeeded()

    assert gate.closed(ONE) is not None


@pytest.mark.parametrize(
    "told", [verdict(T, retry_after_s=60.0), verdict(A), verdict(U), verdict(O)]
)
async def test_failures_of_grants_close_nothing_however_many_they_are(told: Verdict) -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)

    assert not any(gate.failed(connection_number(n), HERE.url, told) for n in range(100))

    assert gate.closed(ONE) is None
    assert gates.paused == []


@pytest.mark.parametrize("told", [REFUSED, NOT_THERE])
async def test_one_connection_that_fails_again_and_again_pauses_nobody(told: Verdict) -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)

    assert not any(gate.failed(ONE, HERE.url, told) for _ in range(100))
    assert not any(gate.failed(TWO, HERE.url, told) for _ in range(100))

    assert gate.closed(ONE) is gate.closed(THREE) is None
    assert gates.paused == []


@pytest.mark.parametrize("told", [REFUSED, NOT_THERE])
async def test_the_failures_of_several_connections_pause_what_they_share(told: Verdict) -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)

    news = [gate.failed(one, HERE.url, told) for one in (ONE, TWO, THREE, FOUR)]

    assert news == [False, False, True, False]
    assert gates.paused == ["acme"]
    assert gate.closed(FIVE) == Closed(O, told.reason, 10.0)
    async with gate.slot(FIVE) as closed:
        assert closed == gate.closed(FIVE)


async def test_a_host_that_fails_pauses_no_other_host_and_a_refused_client_all_of_them() -> None:
    gates = ClientGates()
    bad, good = gates.of(PROFILE, HERE), gates.of(PROFILE, shop("good"))
    paused(bad, NOT_THERE)

    assert bad.closed(FOUR) is not None
    assert good.closed(FOUR) is None
    good.succeeded()
    assert bad.closed(FOUR) is not None
    paused(bad, REFUSED)
    assert good.closed(FOUR) is not None
    good.succeeded()
    assert good.closed(FOUR) is None
    assert bad.closed(FOUR) is not None
    bad.succeeded()
    assert bad.closed(FOUR) is None
    assert gates.paused == []


async def test_where_values_are_in_the_url_the_failures_at_one_url_pause_nobody() -> None:
    gates = ClientGates()
    gate = gates.of(TENANTS, shop("a"))
    for number in range(100):
        gate.failed(connection_number(number), shop("a").url, REFUSED)
        gate.failed(connection_number(number), shop("a").url, NOT_THERE)
    assert gates.paused == []

    assert gates.of(TENANTS, shop("b")).failed(ONE, shop("b").url, REFUSED) is True

    assert gates.paused == ["tenants"]
    assert gates.of(TENANTS, shop("c")).closed(FIVE) is not None


async def test_a_pause_is_tried_soon_by_a_connection_that_has_not_failed_yet() -> None:
    gate = paused()

    assert gate.closed(FOUR) == Closed(O, "No such client", 5.0)
    await anyio.sleep(4.5)
    assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
    await anyio.sleep(0.5)
    assert gate.closed(FOUR) is None
    assert gate.closed(THREE) == Closed(O, "No such client", 2 * 900.0 - 5.0)
    assert gate.closed(ONE) == Closed(O, "No such client", 900.0 - 5.0)


async def test_the_more_connections_have_failed_the_later_the_next_one_tries() -> None:
    gate, lefts = opened(), list[float]()
    for number in range(20):
        gate.failed(connection_number(number), HERE.url, REFUSED)
        closed = gate.closed(connection_number(99))
        lefts.append(closed.left_s if closed else 0.0)

    assert lefts[:8] == [0.0, 0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0]
    assert lefts[-1] == 900.0


async def test_a_connection_that_fails_once_more_makes_no_newcomer_wait_longer() -> None:
    gate = paused()
    await anyio.sleep(4.0)

    for _ in range(100):
        gate.failed(ONE, HERE.url, REFUSED)

    assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)


async def test_those_who_have_failed_try_again_in_turn_one_an_interval() -> None:
    gate, tried = paused(), list[int]()
    for _ in range(6):
        await anyio.sleep(900.0)
        # The first of them always asks first.
        for number, one in ((1, ONE), (2, TWO), (3, THREE)):
            if gate.closed(one) is None:
                tried.append(number)
                gate.failed(one, HERE.url, REFUSED)

    assert tried == [1, 2, 3, 1, 2, 3]


async def test_those_who_wait_for_a_slot_when_the_client_is_paused_do_not_ask() -> None:
    gate = opened()
    visits = [Visit(gate, number) for number in range(10, 15)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit)
        await settle()
        paused(gate)
        for visit in visits:
            visit.leave.set()

    found = [visit.found[0] for visit in visits]
    assert [closed for closed in found if closed is not None] == [gate.closed(FOUR)] * 3


async def test_one_alone_probes_and_its_success_lets_the_others_follow() -> None:
    gate = paused()
    await anyio.sleep(5)
    probe = Visit(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(probe)
        await settle()

        assert probe.found == [None]
        assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
        async with gate.slot(FOUR) as closed:
            assert closed == gate.closed(FOUR)
        gate.succeeded()
        assert gate.closed(FOUR) is gate.closed(ONE) is None
        probe.leave.set()
    assert gate.closed(FOUR) is None


async def test_a_success_means_that_the_evidence_begins_anew() -> None:
    gate = opened()
    for one in (ONE, TWO, THREE, FOUR, FIVE):
        assert gate.failed(one, HERE.url, REFUSED) is False
        gate.succeeded()

    assert gate.closed(ONE) is None


async def test_a_dead_grant_ends_the_pause_because_the_provider_knew_the_client() -> None:
    gate = paused(paused(told=NOT_THERE))
    await anyio.sleep(5)

    async with gate.slot(FOUR):
        assert gate.failed(FOUR, HERE.url, verdict(U)) is False

    assert gate.closed(FOUR) is gate.closed(ONE) is None


@pytest.mark.parametrize("told", [verdict(T), verdict(A), verdict(O), None])
async def test_a_probe_that_tells_nothing_of_the_client_is_followed_by_another_one(
    told: Verdict | None,
) -> None:
    gate = paused()
    await anyio.sleep(5)
    with anyio.CancelScope() as scope:
        async with gate.slot(FOUR):
            if told is None:
                scope.cancel()
                await checkpoint()
            else:
                gate.failed(FOUR, HERE.url, told)

    async with gate.slot(FIVE) as closed:
        assert closed is None
        assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)


async def test_a_flight_from_before_the_pause_is_no_probe_and_ends_none() -> None:
    gate = opened()
    old, probe = Visit(gate), Visit(gate, 10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(old)
        await settle()
        paused(gate)
        await anyio.sleep(5)
        tasks.start_soon(probe)
        await settle()
        assert probe.found == [None]
        old.leave.set()
        await settle()
        assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
        probe.leave.set()
    assert gate.closed(FOUR) is None


async def test_a_cool_down_outlasts_a_pause_and_the_pause_is_told_first() -> None:
    gate = paused()
    gate.failed(ONE, HERE.url, verdict(T, "Too many", cools_client=True, retry_after_s=1000.0))

    assert gate.closed(FOUR) == Closed(O, "No such client", 5.0)
    await anyio.sleep(5)
    assert gate.closed(FOUR) == Closed(T, "Too many", 995.0)
    await anyio.sleep(995)
    async with gate.slot(FOUR) as closed:
        assert closed is None
        assert gate.closed(FIVE) == Closed(O, "No such client", 1.0)


async def test_each_client_of_each_provider_has_one_gate_a_host() -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)
    other = ProviderProfile(slug="acme", client_id="c-2")
    elsewhere = ProviderProfile(slug="umbrella", client_id="c-1")

    assert gates.of(PROFILE, HERE) is gate
    several = (PROFILE, other, elsewhere)
    assert len({id(gates.of(profile, HERE)) for profile in several}) == 3
    paused(gates.of(elsewhere, HERE))
    assert gates.paused == ["umbrella"]
    paused(gate)
    assert gates.paused == ["acme", "umbrella"]
    gate.succeeded()
    assert gates.of(other, HERE).closed(ONE) is None
    assert gates.paused == ["umbrella"]


async def test_hosts_that_nothing_is_to_be_remembered_of_take_no_memory() -> None:
    gates = ClientGates()
    kept = gates.of(TENANTS, shop("cool"))
    kept.failed(ONE, shop("cool").url, LIMITED)
    async with gates.of(TENANTS, shop("busy")).slot(ONE):
        busy = gates.of(TENANTS, shop("busy"))
        for number in range(1000):
            gates.of(TENANTS, shop(f"s{number}")).succeeded()

        assert gates.of(TENANTS, shop("cool")) is kept
        assert gates.of(TENANTS, shop("busy")) is busy
        assert gates.gates <= 128
