"""A seed decides the schedule: the same one comes again, and another gives another."""

import anyio
import anyio.lowlevel
import pytest

from tests.fakes.schedule import run_seeded


async def _trace() -> tuple[str, ...]:
    """Return the order in which eight tasks got their turns."""
    turns: list[str] = []

    async def take_turns(name: str) -> None:
        for turn in range(4):
            await anyio.lowlevel.checkpoint()
            turns.append(f"{name}{turn}")

    async with anyio.create_task_group() as tasks:
        for name in "abcdefgh":
            tasks.start_soon(take_turns, name)
    return tuple(turns)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_gives_the_same_schedule(seed: int) -> None:
    assert len({run_seeded(_trace, seed=seed) for _ in range(5)}) == 1


def test_different_seeds_give_different_schedules() -> None:
    assert len({run_seeded(_trace, seed=seed) for seed in range(20)}) == 20


def test_a_seed_gives_tasks_any_order_and_not_only_first_to_last_and_back() -> None:
    # Without trio's private switch, tasks that become ready together come in two orders only.
    assert len({run_seeded(_trace, seed=seed)[:8] for seed in range(20)}) > 4


def test_virtual_hours_take_no_time() -> None:
    async def sleep_long() -> float:
        started_s = anyio.current_time()
        await anyio.sleep(3600)
        return anyio.current_time() - started_s

    assert run_seeded(sleep_long, seed=1) == pytest.approx(3600)
