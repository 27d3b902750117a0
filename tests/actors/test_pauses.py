"""Only several connections' failures pause what they share; then one alone tries, in turn."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actors.client_gate import ClientGates
from actors.closed import Closed
from domain.exchange import Verdict
from tests.fakes.commands import connection_number
from tests.fakes.gates import (
    FIVE,
    FOUR,
    HERE,
    NOT_THERE,
    ONE,
    PROFILE,
    REFUSED,
    THREE,
    TWO,
    A,
    O,
    T,
    U,
    Visit,
    opened,
    paused,
    settle,
    shop,
    verdict,
)


@pytest.mark.parametrize(
    "told", [verdict(T, retry_after_s=60.0, counts=False), verdict(A), verdict(U), verdict(O)]
)
async def test_failures_of_grants_close_nothing_however_many_they_are(told: Verdict) -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)

    assert not any(gate.failed(connection_number(n), told) for n in range(100))

    assert gate.closed(ONE) is None
    assert gates.paused == []


@pytest.mark.parametrize("told", [REFUSED, NOT_THERE])
async def test_one_connection_that_fails_again_and_again_pauses_nobody(told: Verdict) -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)

    assert not any(gate.failed(ONE, told) for _ in range(100))
    assert not any(gate.failed(TWO, told) for _ in range(100))

    assert gate.closed(ONE) is gate.closed(THREE) is None
    assert gates.paused == []


@pytest.mark.parametrize("told", [REFUSED, NOT_THERE])
async def test_the_failures_of_several_connections_pause_what_they_share(told: Verdict) -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)

    news = [gate.failed(one, told) for one in (ONE, TWO, THREE, FOUR)]

    assert news == [False, False, True, False]
    assert gates.paused == ["acme"]
    assert gate.closed(FIVE) == Closed(O, told.reason, 1.0)
    async with gate.slot(FIVE) as closed:
        assert closed == gate.closed(FIVE)


async def test_a_host_that_fails_pauses_no_other_host_and_a_refused_client_all_of_them() -> None:
    gates = ClientGates()
    bad, good = gates.of(PROFILE, HERE), gates.of(PROFILE, shop("good"))
    paused(bad, NOT_THERE)

    assert bad.closed(FOUR) is not None
    assert good.closed(FOUR) is None
    good.succeeded(FIVE)
    assert bad.closed(FOUR) is not None
    paused(bad, REFUSED)
    assert good.closed(FOUR) is not None
    good.succeeded(FIVE)
    assert good.closed(FOUR) is None
    assert bad.closed(FOUR) is not None
    bad.succeeded(FIVE)
    assert bad.closed(FOUR) is None
    assert gates.paused == []


async def test_who_has_not_failed_tries_a_pause_at_once_and_one_a_second() -> None:
    gate = paused()

    assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
    await anyio.sleep(0.75)
    assert gate.closed(FOUR) == Closed(O, "No such client", 0.25)
    await anyio.sleep(0.25)
    assert gate.closed(FOUR) is None
    assert gate.closed(THREE) == Closed(O, "No such client", 2 * 900.0 - 1.0)
    assert gate.closed(ONE) == Closed(O, "No such client", 900.0 - 1.0)


async def test_however_many_have_failed_the_next_one_tries_a_second_later() -> None:
    gate = opened()
    for number in range(100):
        gate.failed(connection_number(number), REFUSED)
        await anyio.sleep(1)

        assert gate.closed(connection_number(999)) is None


async def test_those_who_have_failed_try_again_in_turn_one_an_interval() -> None:
    gate, tried = paused(), list[int]()
    for _ in range(6):
        await anyio.sleep(900.0)
        # The first of them always asks first.
        for number, one in ((1, ONE), (2, TWO), (3, THREE)):
            async with gate.slot(one) as closed:
                if closed is None:
                    tried.append(number)
                    gate.failed(one, REFUSED)

    assert tried == [1, 2, 3, 1, 2, 3]


async def test_one_that_lets_its_turn_pass_gives_way() -> None:
    gate, tried = paused(), list[int]()
    for _ in range(8):
        await anyio.sleep(900.0)
        # The first of them is gone.
        for number, one in ((2, TWO), (3, THREE)):
            async with gate.slot(one) as closed:
                if closed is None:
                    tried.append(number)
                    gate.failed(one, REFUSED)

    assert set(tried) == {2, 3}


async def test_who_was_refuted_tries_when_the_others_let_their_trials_pass() -> None:
    gate = paused()
    gate.succeeded(FIVE)
    for number in (11, 12, 13):
        gate.failed(connection_number(number), REFUSED)

    assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
    assert gate.closed(ONE) == Closed(O, "No such client", 10.0)
    await anyio.sleep(10)
    async with gate.slot(ONE) as closed:
        assert closed is None
        gate.failed(ONE, REFUSED)
    assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
    assert gate.closed(ONE) == Closed(O, "No such client", 2 * 900.0 - 10.0)


async def test_several_pauses_in_a_row_are_told_of_once_in_an_interval() -> None:
    gate = opened()

    def again(number: int) -> list[bool]:
        gate.succeeded(FIVE)
        several = range(number, number + 4)
        return [gate.failed(connection_number(one), REFUSED) for one in several]

    assert again(10) == [False, False, True, False]
    assert again(20) == [False, False, False, False]
    await anyio.sleep(900)
    assert gate.failed(connection_number(20), REFUSED) is True
    assert again(30) == [False, False, False, False]


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


async def test_a_trial_holds_the_others_a_second_and_its_success_lets_them_follow() -> None:
    gate = paused()
    await anyio.sleep(1)
    trial = Visit(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trial)
        await settle()

        assert trial.found == [None]
        assert gate.closed(FOUR) == Closed(O, "No such client", 1.0)
        async with gate.slot(FOUR) as closed:
            assert closed == gate.closed(FOUR)
        gate.succeeded(FIVE)
        assert gate.closed(FOUR) is gate.closed(ONE) is None
        trial.leave.set()


async def test_a_success_means_that_the_evidence_begins_anew() -> None:
    gate = opened()
    for one in (ONE, TWO, THREE, FOUR):
        assert gate.failed(one, REFUSED) is False
        gate.succeeded(FIVE)

    assert gate.closed(ONE) is None


async def test_those_whose_failures_were_their_own_pause_nobody_again() -> None:
    gate = paused()
    gate.succeeded(FIVE)

    assert not any(gate.failed(one, REFUSED) for one in (ONE, TWO, THREE))
    assert gate.closed(FOUR) is None
    gate.succeeded(ONE)
    await anyio.sleep(900)
    several = [gate.failed(connection_number(n), REFUSED) for n in (1, 11, 12)]
    assert several == [False, False, True]


async def test_a_dead_grant_ends_the_pause_because_the_provider_knew_the_client() -> None:
    gate = paused(paused(told=NOT_THERE))
    await anyio.sleep(5)

    async with gate.slot(FOUR):
        assert gate.failed(FOUR, verdict(U)) is False

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
                gate.failed(FOUR, told)

    assert gate.closed(FIVE) == Closed(O, "No such client", 1.0)
    await anyio.sleep(1)
    async with gate.slot(FIVE) as closed:
        assert closed is None
