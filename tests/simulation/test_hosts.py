"""Stopped, a process does nothing while time goes on; killed, it does nothing any more."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from tests.fakes.schedule import run_seeded
from tests.simulation.hosts import Host, HostClock, Life, processes
from tests.simulation.world import World

Main = Callable[[Life], Awaitable[None]]


def _played(main: Main, deeds: Callable[[Life], Awaitable[None]], folder: Path) -> None:
    """Run a process beside what is done to it."""

    async def scene() -> None:
        world = World(1)
        host = Host(world, "d0", folder, HostClock(world, ahead_s=0.0, rate=1.0))
        life = Life(host, main)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.run)
            tasks.start_soon(life.run)
            await deeds(life)
            tasks.cancel_scope.cancel()
        assert world.broken == []

    with processes():
        run_seeded(scene, seed=1)


def test_a_stopped_process_takes_no_step_and_then_all_that_were_due(tmp_path: Path) -> None:
    steps_s: list[float] = []

    async def main(_: Life) -> None:
        while True:
            await anyio.sleep(1.0)
            steps_s.append(anyio.current_time())

    async def deeds(life: Life) -> None:
        await anyio.sleep(2.5)
        life.stop()
        await anyio.sleep(5.0)
        assert steps_s == [1.0, 2.0]
        life.go_on()
        await anyio.sleep(1.9)

    _played(main, deeds, tmp_path)

    assert steps_s == [1.0, 2.0, 7.5, 8.5]


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_killed_process_ends_whatever_shields_it(*, is_stopped: bool, tmp_path: Path) -> None:
    async def main(_: Life) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await anyio.sleep(60.0)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(60.0)

    async def deeds(life: Life) -> None:
        await anyio.sleep(1.0)
        if is_stopped:
            life.stop()
            await anyio.sleep(1.0)
        life.kill()
        assert not life.is_alive
        before_s = anyio.current_time()
        await life.ended.wait()
        assert anyio.current_time() - before_s < 0.001

    _played(main, deeds, tmp_path)


def test_a_process_can_be_killed_between_any_two_steps(tmp_path: Path) -> None:
    steps = 0

    async def main(_: Life) -> None:
        nonlocal steps
        while True:
            steps += 1
            await anyio.sleep(0.0)

    async def deeds(life: Life) -> None:
        life.kill(after_steps=5)
        await life.ended.wait()

    _played(main, deeds, tmp_path)

    assert 1 <= steps <= 5


def test_tasks_that_a_process_begins_are_its_own(tmp_path: Path) -> None:
    steps_s: list[float] = []

    async def child() -> None:
        await anyio.sleep(1.0)
        steps_s.append(anyio.current_time())

    async def main(_: Life) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)

    async def deeds(life: Life) -> None:
        await anyio.sleep(0.5)
        life.stop()
        await anyio.sleep(3.0)
        life.go_on()
        await life.ended.wait()

    _played(main, deeds, tmp_path)

    assert steps_s == [3.5]
