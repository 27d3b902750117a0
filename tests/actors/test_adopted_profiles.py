"""A gate goes by a profile that a reload has replaced: its limits hold at once, nobody is stuck."""

from itertools import count

import anyio
from msgspec.structs import replace

from actors.client_gate import ClientGates
from domain.exchange import Reach
from domain.profile import ProviderProfile
from tests.fakes.gates import FIVE, FOUR, HERE, ONE, PROFILE, THREE, TWO, O, Visit, settle, verdict

_BROKEN = verdict(O, reach=Reach.HOST)


async def _entered(visits: list[Visit]) -> int:
    await settle()
    return sum(len(visit.found) for visit in visits)


async def test_more_slots_let_in_who_waits_and_fewer_let_nobody_in_until_enough_have_left() -> None:
    gates = ClientGates()
    visits = [Visit(gates.of(PROFILE, HERE), number) for number in range(8)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit)
            await settle()
        assert await _entered(visits) == 2

        gates.adopt("acme", replace(PROFILE, max_concurrency=5))
        assert await _entered(visits) == 5
        gates.adopt("acme", replace(PROFILE, max_concurrency=1))
        for visit in visits[:4]:
            visit.leave.set()
        assert await _entered(visits) == 5
        visits[4].leave.set()
        assert await _entered(visits) == 6
        for visit in visits:
            visit.leave.set()


async def test_a_rate_comes_changes_and_goes() -> None:
    gates = ClientGates()
    wide = replace(PROFILE, max_concurrency=50)
    gate, numbers = gates.of(wide, HERE), count()

    async def come(visits: list[Visit]) -> None:
        for _ in range(6):
            visit = Visit(gate, next(numbers))
            visit.leave.set()
            visits.append(visit)
            tasks.start_soon(visit)

    async with anyio.create_task_group() as tasks:
        first: list[Visit] = []
        gates.adopt("acme", replace(wide, rate_per_s=1.0, burst=2))
        await come(first)
        assert await _entered(first) == 2
        assert [gate.departs() > 0 for _ in range(3)] == [False, False, True]
        gates.adopt("acme", replace(wide, rate_per_s=100.0, burst=2))
        await anyio.sleep(0.2)
        assert await _entered(first) == 6
        gates.adopt("acme", replace(wide, rate_per_s=0.001, burst=1))
        second: list[Visit] = []
        await come(second)
        assert await _entered(second) <= 1
        gates.adopt("acme", wide)
        assert await _entered(second) == 6
        assert gate.departs() == 0.0


async def test_who_waits_at_a_client_that_is_no_more_is_let_go() -> None:
    gates = ClientGates()
    for other in (replace(PROFILE, client_id="c-2"), None):
        visits = [Visit(gates.of(PROFILE, HERE), number) for number in range(6)]
        async with anyio.create_task_group() as tasks:
            for visit in visits:
                tasks.start_soon(visit)
            assert await _entered(visits) == 2

            gates.adopt("acme", other)

            assert await _entered(visits) == 6
            assert gates.gates == 0
            for visit in visits:
                visit.leave.set()


async def test_a_pause_lets_one_that_has_failed_try_at_once_after_a_reload() -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE, HERE)
    for one in (ONE, TWO, THREE, FOUR):
        gate.failed(one, _BROKEN)
    held = [gate.closed(one) for one in (ONE, FIVE)]

    gates.adopt("acme", PROFILE)

    assert all(one is not None for one in held)
    assert gate.closed(ONE) is None
    gate.succeeded(ONE)
    assert gates.paused == []


async def test_other_providers_keep_their_gates() -> None:
    gates = ClientGates()
    other = ProviderProfile(slug="other", client_id="c", token_endpoint="https://other.test/t")
    gate = gates.of(other, HERE)

    gates.adopt("acme", None)

    assert gates.of(other, HERE) is gate
