"""A connection to NATS that breaks under load ends no daemon, and holds up no command for long."""

import asyncio
from pathlib import Path

import nats.errors

from tests.fakes.daemon_process import daemon_process, external_nats, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS, tcp_proxy

CALLERS, RESETS = 32, 10
pytestmark = ABANDONS_SOCKETS


async def test_a_daemon_whose_connection_is_reset_again_and_again_under_load_goes_on(
    tmp_path: Path,
):
    async with (
        external_nats(tmp_path) as server,
        tcp_proxy(server.url) as proxy,
        daemon_process(tmp_path / "data", "--nats", proxy.url) as daemon,
        plain_caller(server.url) as caller,
    ):
        ids = [await caller.connect() for _ in range(CALLERS)]
        succeeded, is_over = 0, False

        async def call_on(connection_id: str) -> None:
            nonlocal succeeded
            while not is_over:
                try:
                    answer = await caller.refresh(connection_id, timeout_s=1.0)
                except nats.errors.Error:
                    # Nobody was there, or the answer was lost on its way.
                    await asyncio.sleep(0.01)
                    continue
                succeeded += answer.code == "ok"

        async def goes_on() -> None:
            wanted = succeeded + 5 * CALLERS
            await eventually(lambda: succeeded >= wanted, within_s=20)

        async with asyncio.TaskGroup() as calling:
            for connection_id in ids:
                calling.create_task(call_on(connection_id))
            try:
                for _ in range(RESETS):
                    await goes_on()
                    await proxy.reset()
                await goes_on()
            finally:
                is_over = True

        assert daemon.process.returncode is None
        assert not [line for line in daemon.said if "RuntimeError" in line]
