"""A client's gate: so many at a time, nobody while it is cooled or paused, then one alone."""

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actors.client_gate import ClientGate, ClientGates, Closed
from domain.exchange import Verdict
from domain.profile import FailureClass, ProviderProfile

PROFILE = ProviderProfile(slug="acme", client_id="c-1", max_concurrency=2, probe_interval_s=900.0)
T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)


def verdict(failure_class: FailureClass, reason: str = "It broke", **fields: Any) -> Verdict:
    """Return a verdict of a class."""
    return Verdict(failure_class=failure_class, code="c", reason=reason, **fields)


MISCONFIGURED = verdict(O, "No such client")
LIMITED = verdict(T, "Too many requests", cools_client=True, retry_after_s=60.0, counts=False)


class Visit:
    """One flight's stay in a gate: it keeps its slot until ``leave`` is set."""

    def __init__(self, gate: ClientGate) -> None:
        self._gate = gate
        self.found: list[Closed | None] = []
        self.leave = anyio.Event()

    async def __call__(self) -> None:
        async with self._gate.slot() as closed:
            self.found.append(closed)
            if closed is None:
                await self.leave.wait()


async def pass_by(gate: ClientGate) -> Closed | None:
    """Take a slot and give it back; return what it said."""
    async with gate.slot() as closed:
        return closed


async def settle() -> None:
    """Let every task take its turns."""
    for _ in range(10):
        await checkpoint()


async def test_so_many_ask_at_a_time_and_the_others_follow_in_their_order() -> None:
    gate = ClientGate(PROFILE)
    visits = [Visit(gate) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit)
            await settle()

        assert [visit.found for visit in visits] == [[None], [None], [], []]
        assert gate.in_flight == 2
        visits[1].leave.set()
        await settle()
        assert [visit.found for visit in visits] == [[None], [None], [None], []]
        for visit in visits:
            visit.leave.set()
    assert gate.in_flight == 0
    assert visits[3].found == [None]


async def test_a_slot_comes_back_from_a_flight_that_breaks() -> None:
    gate = ClientGate(PROFILE)
    for _ in range(3):
        with pytest.raises(LookupError):
            async with gate.slot():
                raise LookupError

    assert gate.in_flight == 0


async def test_a_rate_limit_cools_everybody_for_as_long_as_was_asked_for() -> None:
    gate = ClientGate(PROFILE)

    assert gate.failed(LIMITED) is False

    assert gate.closed() == Closed(T, "Too many requests", 60.0)
    assert await pass_by(gate) == gate.closed()
    assert not gate.is_paused
    await anyio.sleep(59.5)
    assert gate.closed() is not None
    await anyio.sleep(0.5)
    assert gate.closed() is await pass_by(gate) is None


@pytest.mark.parametrize("asked_s", [None, 0.0])
async def test_a_rate_limit_that_asks_for_no_time_cools_for_a_moment(asked_s: float | None) -> None:
    gate = ClientGate(PROFILE)

    gate.failed(verdict(T, cools_client=True, retry_after_s=asked_s))

    assert gate.closed() == Closed(T, "It broke", 1.0)


async def test_a_shorter_cool_down_does_not_end_a_longer_one_but_a_longer_one_extends_it() -> None:
    gate = ClientGate(PROFILE)
    lefts: list[float | None] = []
    for asked_s in (60.0, 5.0, 90.0):
        gate.failed(verdict(T, cools_client=True, retry_after_s=asked_s))
        closed = gate.closed()
        lefts.append(closed.left_s if closed else None)

    assert lefts == [60.0, 60.0, 90.0]


async def test_a_success_does_not_end_a_cool_down() -> None:
    gate = ClientGate(PROFILE)
    gate.failed(LIMITED)

    gate.succeeded()

    assert gate.closed() is not None


@pytest.mark.parametrize(
    "told",
    [verdict(T, retry_after_s=60.0), verdict(A), verdict(U), verdict(O, pauses_client=False)],
)
async def test_a_failure_of_one_grant_closes_nothing(told: Verdict) -> None:
    gate = ClientGate(PROFILE)

    assert gate.failed(told) is False

    assert gate.closed() is None
    assert not gate.is_paused


async def test_a_misconfigured_client_is_paused_for_the_probe_interval() -> None:
    gate = ClientGate(PROFILE)

    gate.failed(MISCONFIGURED)

    assert gate.is_paused
    assert gate.closed() == Closed(O, "No such client", 900.0)
    assert await pass_by(gate) == gate.closed()
    await anyio.sleep(899.5)
    assert gate.closed() == Closed(O, "No such client", 1.0)
    await anyio.sleep(0.5)
    assert gate.closed() is None
    assert gate.is_paused


async def test_a_pause_is_news_once_until_it_is_mended() -> None:
    gate = ClientGate(PROFILE)

    assert [gate.failed(MISCONFIGURED) for _ in range(3)] == [True, False, False]
    await anyio.sleep(900)
    assert gate.failed(MISCONFIGURED) is False
    gate.succeeded()
    assert gate.failed(MISCONFIGURED) is True


async def test_those_who_wait_for_a_slot_when_the_client_is_paused_do_not_ask() -> None:
    gate = ClientGate(PROFILE)
    visits = [Visit(gate) for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit)
        await settle()
        gate.failed(MISCONFIGURED)
        for visit in visits:
            visit.leave.set()

    found = [visit.found[0] for visit in visits]
    assert [closed for closed in found if closed is not None] == [gate.closed()] * 3


async def test_after_the_pause_one_alone_probes_and_its_success_lets_the_others_follow() -> None:
    gate = ClientGate(PROFILE)
    gate.failed(MISCONFIGURED)
    await anyio.sleep(900)
    probe = Visit(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(probe)
        await settle()

        assert probe.found == [None]
        assert gate.closed() == Closed(O, "No such client", 1.0)
        assert await pass_by(gate) == gate.closed()
        assert await pass_by(gate) == gate.closed()
        gate.succeeded()
        assert gate.closed() is await pass_by(gate) is None
        probe.leave.set()
    assert not gate.is_paused
    assert gate.closed() is None


async def test_a_probe_that_is_refused_again_pauses_for_another_interval() -> None:
    gate = ClientGate(PROFILE)
    gate.failed(MISCONFIGURED)
    await anyio.sleep(900)
    async with gate.slot() as closed:
        assert closed is None
        await anyio.sleep(10)
        assert gate.failed(verdict(O, "No such secret")) is False

    assert gate.closed() == Closed(O, "No such secret", 900.0)


@pytest.mark.parametrize("told", [verdict(T), verdict(A), verdict(O, pauses_client=False), None])
async def test_a_probe_that_tells_nothing_of_the_client_is_followed_by_another_one(
    told: Verdict | None,
) -> None:
    gate = ClientGate(PROFILE)
    gate.failed(MISCONFIGURED)
    await anyio.sleep(900)
    with anyio.CancelScope() as scope:
        async with gate.slot():
            if told is None:
                scope.cancel()
                await checkpoint()
            else:
                gate.failed(told)

    assert gate.is_paused
    async with gate.slot() as closed:
        assert closed is None
        assert gate.closed() == Closed(O, "No such client", 1.0)


async def test_a_dead_grant_ends_the_pause_because_the_provider_knew_the_client() -> None:
    gate = ClientGate(PROFILE)
    gate.failed(MISCONFIGURED)
    await anyio.sleep(900)

    async with gate.slot():
        assert gate.failed(verdict(U)) is False

    assert not gate.is_paused
    assert gate.closed() is None


async def test_a_flight_from_before_the_pause_is_no_probe_and_ends_none() -> None:
    gate = ClientGate(PROFILE)
    old, probe = Visit(gate), Visit(gate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(old)
        await settle()
        gate.failed(MISCONFIGURED)
        await anyio.sleep(900)
        tasks.start_soon(probe)
        await settle()
        assert probe.found == [None]
        old.leave.set()
        await settle()
        assert gate.closed() == Closed(O, "No such client", 1.0)
        probe.leave.set()
    assert gate.closed() is None


async def test_a_cool_down_outlasts_a_pause_and_the_pause_is_told_first() -> None:
    gate = ClientGate(PROFILE)
    gate.failed(MISCONFIGURED)
    gate.failed(verdict(T, "Too many", cools_client=True, retry_after_s=1000.0))

    assert gate.closed() == Closed(O, "No such client", 900.0)
    await anyio.sleep(900)
    closed = await pass_by(gate)
    assert closed is not None
    assert closed[:2] == (T, "Too many")
    await anyio.sleep(100)
    async with gate.slot() as closed:
        assert closed is None
        assert gate.closed() == Closed(O, "No such client", 1.0)


async def test_each_client_of_each_provider_has_one_gate_of_its_own() -> None:
    gates = ClientGates()
    gate = gates.of(PROFILE)
    other = ProviderProfile(slug="acme", client_id="c-2")
    elsewhere = ProviderProfile(slug="umbrella", client_id="c-1")

    assert gates.of(PROFILE) is gate
    assert len({id(gates.of(profile)) for profile in (PROFILE, other, elsewhere)}) == 3
    gates.of(elsewhere).failed(MISCONFIGURED)
    assert gates.paused == ["umbrella"]
    gate.failed(MISCONFIGURED)
    assert gates.paused == ["acme", "umbrella"]
    gate.succeeded()
    assert gates.of(other).closed() is None
    assert gates.paused == ["umbrella"]
