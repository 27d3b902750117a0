"""Several members keep one provider's limits, and whoever waits at any of them gets in."""

import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.examples import examples
from tests.fakes.gate_members import GateMembers, limited
from tests.fakes.schedule import run_seeded
from tests.fakes.windows import is_kept

_FOUND_S = 4.0
"""After so long all that have come know of each other."""
_TURN_S = 6.0
"""After so long another has a gate: it asks, is heard, and hears so; each late, or lost once."""
_NAMES = "abcdefgh"

_delays = st.sampled_from((0.0, 0.01, 0.3, 1.0))
_takes = st.floats(0.01, 4)
_seeds = st.integers(0, 2**32)


def shared(
    scene: Callable[[GateMembers], Awaitable[None]], *, delay_s_max: float, seed: int
) -> GateMembers:
    """Return the members after a scene with them, on virtual time."""
    members = GateMembers(random.Random(seed), delay_s_max=delay_s_max)

    async def run() -> None:
        async with anyio.create_task_group() as members.tasks:
            await scene(members)
            members.tasks.cancel_scope.cancel()

    run_seeded(run, seed=seed)
    return members


@settings(max_examples=examples(60))
@given(
    st.integers(2, 5),
    st.integers(1, 7),
    _delays,
    st.lists(st.tuples(st.floats(0, 1), _takes), min_size=1, max_size=40),
    _seeds,
)
def test_no_more_than_the_limit_are_under_way_at_all_members_and_all_get_in(
    count: int, slots: int, delay_s: float, flights: list[tuple[float, float]], seed: int
) -> None:
    draw, profile = random.Random(seed), limited(max_concurrency=slots)

    async def scene(members: GateMembers) -> None:
        everybody = [members.start(name) for name in _NAMES[:count]]
        await anyio.sleep(_FOUND_S)
        for pause_s, takes_s in flights:
            await anyio.sleep(pause_s)
            draw.choice(everybody).fly(profile, takes_s)
        # One after the other, each at a member that has to ask for the gate first.
        await members.all_got_in(within_s=sum(takes_s + _TURN_S for _, takes_s in flights))

    members = shared(scene, delay_s_max=delay_s, seed=seed)
    assert len(members.asked) == len(flights)
    assert members.at_once_max <= slots


@settings(max_examples=examples(40))
@given(
    st.integers(1, 7),
    _delays,
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=8),
    _seeds,
)
def test_members_that_come_and_die_never_let_twice_the_limit_pass_and_leave_nobody_waiting(
    slots: int, delay_s: float, changes: list[tuple[bool, int]], seed: int
) -> None:
    draw, profile = random.Random(seed), limited(max_concurrency=slots)

    async def scene(members: GateMembers) -> None:
        for name in "xyz":
            members.start(name)
        await anyio.sleep(_FOUND_S)
        for number, (comes, flights) in enumerate(changes):
            for _ in range(flights):
                await anyio.sleep(draw.random() * 0.2)
                draw.choice(list(members.members.values())).fly(profile, draw.random() * 4.0)
            if comes or len(members.members) == 1:
                new = members.start(_NAMES[number])
                await anyio.sleep(_FOUND_S)
                new.fly(profile, draw.random() * 4.0)
            else:
                members.kill(draw.choice(sorted(members.members)))
            # A change is over when who is gone is known to be, and what was sent has its answer.
            await anyio.sleep(10.0)
        await members.all_got_in(within_s=160 * (4.0 + _TURN_S))

    members = shared(scene, delay_s_max=delay_s, seed=seed)
    assert members.at_once_max <= 2 * slots


@settings(max_examples=examples(40))
@given(
    st.integers(2, 5),
    st.tuples(st.sampled_from((0.3, 2.0, 10.0, 50.0)), st.integers(1, 7)),
    _delays,
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    _seeds,
)
def test_members_that_share_a_rate_never_pass_it_and_all_get_in(
    count: int, rate: tuple[float, int], delay_s: float, pauses_s: list[float], seed: int
) -> None:
    per_s, burst = rate
    draw, profile = random.Random(seed), limited(rate_per_s=per_s, burst=burst)

    async def scene(members: GateMembers) -> None:
        everybody = [members.start(name) for name in _NAMES[:count]]
        await anyio.sleep(_FOUND_S)
        for pause_s in pauses_s:
            await anyio.sleep(pause_s)
            draw.choice(everybody).fly(profile, 0.1)
        await members.all_got_in(within_s=len(pauses_s) * (count / per_s + _TURN_S))

    members = shared(scene, delay_s_max=delay_s, seed=seed)
    assert len(members.asked) == len(pauses_s)
    assert is_kept([one.from_s for one in members.asked], per_s=per_s, burst=burst)


@pytest.mark.parametrize(
    ("slots", "rate", "used"), [(1, None, 0.7), (2, None, 0.7), (16, 10.0, 0.9)]
)
def test_a_member_with_a_whole_gate_gives_it_on_within_seconds_though_it_never_is_idle(
    slots: int, rate: float | None, used: float
) -> None:
    profile = limited(max_concurrency=slots, rate_per_s=rate)

    async def scene(members: GateMembers) -> None:
        everybody = [members.start(name) for name in "abc"]
        await anyio.sleep(_FOUND_S)
        for member in everybody:
            for _ in range(60):
                member.fly(profile, 0.3)
        began_s = anyio.current_time()
        while anyio.current_time() < began_s + 12.0:
            served = [len(member.waits) for member in everybody]
            await anyio.sleep(6.0)
            now = [len(member.waits) for member in everybody]
            assert all(after > before for before, after in zip(served, now, strict=True))

    members = shared(scene, delay_s_max=0.01, seed=1)
    # Alone it would be a slot's time, or an interval, after the other.
    assert len(members.asked) >= used * 12.0 * (10.0 if rate else slots / 0.3)


def test_a_rate_that_is_split_is_used_up_and_never_passed() -> None:
    profile = limited(rate_per_s=3.0, burst=7)

    async def scene(members: GateMembers) -> None:
        everybody = [members.start(name) for name in "abc"]
        await anyio.sleep(_FOUND_S)
        for member in everybody:
            for _ in range(30):
                member.fly(profile, 0.01)
        await anyio.sleep(20.0)

    at_s = [one.from_s for one in shared(scene, delay_s_max=1.0, seed=1).asked]
    assert is_kept(at_s, per_s=3.0, burst=7)
    assert 64 <= len(at_s) <= 67


@pytest.mark.parametrize(("takes_s", "rate"), [(2.5, None), (0.1, 0.4)])
def test_members_that_all_wait_have_a_scarce_gate_in_turn_and_none_lets_its_turn_pass(
    takes_s: float, rate: float | None
) -> None:
    profile = limited(max_concurrency=1, rate_per_s=rate)

    async def scene(members: GateMembers) -> None:
        everybody = [members.start(name) for name in "abc"]
        await anyio.sleep(_FOUND_S)
        for member in everybody:
            for _ in range(20):
                member.fly(profile, takes_s)
        await anyio.sleep(40.0)

    members = shared(scene, delay_s_max=0.3, seed=1)
    order = [one.member for one in members.asked]
    assert len(order) >= 12
    assert order == (order[:3] * len(order))[: len(order)]
    assert sorted(order[:3]) == ["a", "b", "c"]
