"""Callers come before what nobody waits for, the more urgent first, and never above the rate."""

import random
from typing import NamedTuple

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rate import Rate
from actors.turnstile import Turn, Turnstile
from tests.fakes.examples import examples
from tests.fakes.gates import settle
from tests.fakes.schedule import run_seeded
from tests.fakes.windows import is_kept


class Wanted(NamedTuple):
    """One that comes while everybody waits."""

    is_proactive: bool
    due_s: float
    joined_s: float | None
    """When the caller that joins it must be answered."""

    @property
    def rank(self) -> tuple[bool, float]:
        """Where it belongs, all told."""
        if self.joined_s is None:
            return self.is_proactive, self.due_s
        is_first = self.is_proactive or self.joined_s < self.due_s
        return False, self.joined_s if is_first else self.due_s


_due = st.integers(1_000, 1_020).map(float)
_wanted = st.lists(st.builds(Wanted, st.booleans(), _due, st.none() | _due), max_size=24)


@settings(max_examples=examples(50))
@given(_wanted, st.integers(1, 3), st.integers(0, 2**32))
def test_callers_come_first_and_in_a_class_the_most_urgent(
    wanted: list[Wanted], slots: int, seed: int
) -> None:
    came: list[Wanted] = []

    async def scene() -> None:
        stile = Turnstile(slots=slots, rate=None)
        for _ in range(slots):
            await stile.enter(Turn())

        async def visit(one: Wanted, turn: Turn) -> None:
            await stile.enter(turn)
            came.append(one)
            stile.leave()

        async with anyio.create_task_group() as tasks:
            turns = [Turn(is_proactive=one.is_proactive, due_s=one.due_s) for one in wanted]
            for one, turn in zip(wanted, turns, strict=True):
                tasks.start_soon(visit, one, turn)
            await settle()
            for one, turn in zip(wanted, turns, strict=True):
                if one.joined_s is not None:
                    turn.joined(one.joined_s)
            stile.leave()
        assert (stile.inside, stile.waiting) == (slots - 1, 0)

    run_seeded(scene, seed=seed)
    assert [one.rank for one in came] == sorted(one.rank for one in wanted)


async def test_a_stream_of_callers_lets_one_pass_whose_token_is_about_to_end() -> None:
    stile, came = Turnstile(slots=1, rate=Rate(10.0, 1)), list[str]()

    async def visit(name: str, turn: Turn) -> None:
        await stile.enter(turn)
        came.append(name)
        stile.leave()

    async def call_for_ever(tasks: anyio.abc.TaskGroup) -> None:
        while True:
            tasks.start_soon(visit, "caller", Turn(due_s=anyio.current_time() + 4.0))
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call_for_ever, tasks)
        await anyio.sleep(1.0)
        now_s = anyio.current_time()
        for name, lives_s in (("later", 100.0), ("soon", 20.0), ("over", -3600.0)):
            turn = Turn(is_proactive=True, due_s=now_s + lives_s)
            tasks.start_soon(visit, name, turn)
        came.clear()
        await anyio.sleep(2.0)
        assert [(one, came.index(one)) for one in came if one != "caller"] == [
            ("over", 0),
            ("soon", 5),
        ]
        await anyio.sleep(75.0)
        assert "later" in came
        tasks.cancel_scope.cancel()


@settings(max_examples=examples(50))
@given(
    st.sampled_from((0.5, 3.0, 10.0, 1000.0)),
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 4), st.floats(0, 1)), min_size=1, max_size=30),
    st.integers(0, 2**32),
)
def test_no_window_holds_more_than_the_rate_and_none_is_wasted(
    per_s: float, burst: int, slots: int, visits: list[tuple[float, float]], seed: int
) -> None:
    at_s: list[float] = []

    async def scene() -> float:
        stile = Turnstile(slots=slots, rate=Rate(per_s, burst))

        async def visit(comes_s: float, stays_s: float) -> None:
            await anyio.sleep(comes_s)
            await stile.enter(Turn())
            at_s.append(anyio.current_time())
            await anyio.sleep(stays_s)
            stile.leave()

        async with anyio.create_task_group() as tasks:
            for one in visits:
                tasks.start_soon(visit, *one)
        return anyio.current_time()

    took_s = run_seeded(scene, seed=seed)
    assert len(at_s) == len(visits)
    assert is_kept(at_s, per_s=per_s, burst=burst)
    stays_s = sum(stays_s for _, stays_s in visits)
    assert took_s <= 4.0 + stays_s + len(visits) * (1 / per_s + 0.002)


@settings(max_examples=examples(50))
@given(st.integers(2, 20), st.floats(0, 1), st.sampled_from((None, 5.0)), st.integers(0, 2**32))
def test_whoever_gives_up_takes_no_slot_and_keeps_nobody(
    visits: int, share: float, per_s: float | None, seed: int
) -> None:
    draw, served = random.Random(seed), list[int]()

    async def scene() -> None:
        stile = Turnstile(slots=2, rate=None if per_s is None else Rate(per_s, 1))

        async def visit(number: int, patience_s: float) -> None:
            with anyio.move_on_after(patience_s):
                await stile.enter(Turn(is_proactive=draw.random() < 0.5))
                try:
                    served.append(number)
                    await anyio.sleep(0.3)
                finally:
                    stile.leave()

        async with anyio.create_task_group() as tasks:
            for number in range(visits):
                gives_up = draw.random() < share
                patience_s = draw.choice((0.0, 0.2, 0.4, draw.random())) if gives_up else 1e6
                patient.extend([] if gives_up else [number])
                tasks.start_soon(visit, number, patience_s)
        assert (stile.inside, stile.waiting) == (0, 0)

    patient: list[int] = []
    run_seeded(scene, seed=seed)
    assert set(patient) <= set(served)


async def test_turns_that_were_moved_or_given_up_take_no_memory() -> None:
    stile = Turnstile(slots=1, rate=None)
    await stile.enter(Turn())

    async def give_up() -> None:
        turn = Turn(is_proactive=True)
        with anyio.move_on_after(0.5):
            await stile.enter(turn)

    for _ in range(1_000):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)

    assert len(stile._proactive) < 100


@pytest.mark.parametrize("burst", [1, 3])
async def test_a_rate_gives_a_burst_at_once_and_the_others_evenly(burst: int) -> None:
    stile, at_s = Turnstile(slots=100, rate=Rate(2.0, burst)), list[float]()
    began_s = anyio.current_time()

    for _ in range(burst + 4):
        await stile.enter(Turn())
        at_s.append(anyio.current_time() - began_s)

    assert at_s == pytest.approx([*[0.0] * burst, 0.5, 1.0, 1.5, 2.0], abs=0.005)
