"""A gate: so many at a time at one host, and nobody while it is cooled."""

import anyio
import pytest

from actors.client_gate import ClientGates
from actors.closed import Closed
from domain.profile import ProviderProfile
from tests.fakes.gates import (
    FIVE,
    FOUR,
    HERE,
    HOUR,
    LIMITED,
    ONE,
    PROFILE,
    TENANTS,
    THREE,
    TWO,
    O,
    T,
    Visit,
    opened,
    paused,
    settle,
    shop,
    verdict,
)


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

    assert gate.failed(ONE, LIMITED) is False

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

    gate.failed(ONE, verdict(T, cools_client=True, retry_after_s=asked_s))

    assert gate.closed(TWO) == Closed(T, "It broke", 1.0)


async def test_a_shorter_cool_down_does_not_end_a_longer_one_but_a_longer_one_extends_it() -> None:
    gate = opened()
    lefts: list[float | None] = []
    for asked_s in (40.0, 5.0, 50.0):
        gate.failed(ONE, verdict(T, cools_client=True, retry_after_s=asked_s))
        closed = gate.closed(ONE)
        lefts.append(closed.left_s if closed else None)

    assert lefts == [40.0, 40.0, 50.0]


async def test_a_success_of_a_flight_from_before_does_not_end_a_cool_down() -> None:
    gate = opened()
    async with gate.slot(FIVE):
        gate.failed(ONE, LIMITED)
        gate.succeeded(FIVE)

    assert gate.closed(ONE) is not None
    assert gate.closed(FIVE) is not None


async def test_a_long_limit_holds_the_others_for_a_minute_and_then_one_a_second_tries() -> None:
    gate = opened()
    gate.failed(ONE, HOUR)

    assert gate.closed(TWO) == Closed(T, "Too many requests", 60.0)
    await anyio.sleep(60)
    async with gate.slot(TWO) as closed:
        assert closed is None
        assert gate.closed(THREE) == Closed(T, "Too many requests", 1.0)
        await anyio.sleep(0.5)
        gate.failed(TWO, HOUR)
    assert gate.closed(THREE) == Closed(T, "Too many requests", 60.0)


async def test_a_limit_of_several_in_a_row_holds_everybody_for_all_of_its_time() -> None:
    gate = opened()
    for one in (ONE, TWO, THREE):
        gate.failed(one, HOUR)

    assert gate.closed(FOUR) == Closed(T, "Too many requests", 3600.0)
    await anyio.sleep(3599.0)
    assert gate.closed(FOUR) is not None
    await anyio.sleep(1.0)
    assert gate.closed(FOUR) is None


@pytest.mark.parametrize("is_between", [True, False])
async def test_limits_with_a_success_between_or_of_those_that_always_are_hold_nobody_for_long(
    is_between: bool,
) -> None:
    gate = opened()
    for one in (ONE, TWO, *([THREE] if is_between else [ONE, TWO])):
        async with gate.slot(FIVE):
            pass
        gate.failed(one, HOUR)
        await anyio.sleep(60.0)
        async with gate.slot(FIVE):
            if is_between:
                gate.succeeded(FIVE)

    assert gate.closed(FOUR) is None or gate.closed(FOUR) == Closed(T, "Too many requests", 1.0)


async def test_who_tries_and_succeeds_ends_a_limit_and_it_is_the_limited_ones_own() -> None:
    gate = opened()
    gate.failed(ONE, HOUR)
    await anyio.sleep(60)
    async with gate.slot(TWO):
        gate.succeeded(TWO)

    assert gate.closed(ONE) is gate.closed(THREE) is None
    gate.failed(ONE, HOUR)
    assert gate.closed(THREE) is None
    gate.succeeded(ONE)
    gate.failed(ONE, HOUR)
    assert gate.closed(THREE) is not None


async def test_one_that_is_limited_again_and_again_holds_nobody_a_second_time() -> None:
    gate = opened()
    for _ in range(10):
        gate.failed(ONE, LIMITED)
        await anyio.sleep(60)

    gate.failed(ONE, LIMITED)

    assert gate.closed(TWO) is None


async def test_of_those_who_were_limited_the_one_longest_ago_asks_first() -> None:
    gate = opened()
    for one in (ONE, TWO, ONE):
        gate.failed(one, LIMITED)

    assert gate.closed(TWO) == Closed(T, "Too many requests", 60.0)
    assert gate.closed(ONE) == Closed(T, "Too many requests", 65.0)


async def test_of_a_pause_and_a_cool_down_the_longer_is_told() -> None:
    gate = paused()
    gate.failed(ONE, verdict(T, "Too many", cools_client=True, retry_after_s=50.0))

    assert gate.closed(FOUR) == Closed(T, "Too many", 50.0)
    await anyio.sleep(50)
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
    gate.succeeded(FIVE)
    assert gates.of(other, HERE).closed(ONE) is None
    assert gates.paused == ["umbrella"]


async def test_hosts_that_nothing_is_to_be_remembered_of_take_no_memory() -> None:
    gates = ClientGates()
    kept = gates.of(TENANTS, shop("cool"))
    kept.failed(ONE, LIMITED)
    async with gates.of(TENANTS, shop("busy")).slot(ONE):
        busy = gates.of(TENANTS, shop("busy"))
        for number in range(1000):
            gates.of(TENANTS, shop(f"s{number}")).succeeded(ONE)

        assert gates.of(TENANTS, shop("cool")) is kept
        assert gates.of(TENANTS, shop("busy")) is busy
        assert gates.gates <= 128
    assert len(gates._others.shares._shares) == gates.gates
