"""A partition that is lost while it is being given away is given away to nobody."""

import anyio

from tests.fakes.commands import connect, connection_number
from tests.fakes.holds import HeldAppends
from tests.fakes.stage import Stage
from tests.fakes.world import MemoryLedger


async def test_emptying_a_partition_that_was_lost_meanwhile_is_no_error() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(connection_number(1)))
        stage.ledger.before = lambda name, _: anyio.sleep(1.0) if name == "append" else None
        stage.send(connect(connection_number(2)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.directory.empty, 0)
            await anyio.sleep(0.1)
            stage.directory.dismiss(0)

        await stage.directory.empty(0)

    assert stage.directory.served == 0


async def test_a_partition_that_comes_when_the_directory_has_ended_keeps_nobody_waiting() -> None:
    stage = Stage()
    async with stage.opened():
        async with anyio.create_task_group() as tasks:
            held = HeldAppends(stage.ledger)
            stage.send(connect(connection_number(1)))
            await anyio.sleep(0.1)
            tasks.start_soon(stage.directory.stop)
            await anyio.sleep(stage.directory.limits.last_burst_s + 0.001)
            stage.directory.admit(1, MemoryLedger())
            held.end()

        assert anyio.current_time() < stage.directory.limits.last_burst_s + 5.0
