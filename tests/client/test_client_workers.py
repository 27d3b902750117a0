"""Workers with a client each share a connection while it rotates, is revoked and comes back."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from refreshd_client import ReauthRequiredError, Refreshd
from refreshd_client.httpx2 import RefreshdAuth

from runtime.fake_provider.provider import FakeProvider
from tests.fakes.client_scene import ClientScene
from tests.fakes.daemon_process import DaemonProcess, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import write_config

pytestmark = pytest.mark.anyio
CLIENTS, WORKERS = 4, 3


class Pool:
    """Workers who ask an API for the same user, without end, and count what comes of it."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    async def works_on(self, requests: int = 100) -> None:
        """Return when so many requests more are answered."""
        goal = self.seen.total() + requests
        await eventually(lambda: self.seen.total() >= goal, within_s=30.0)

    async def work(self, api: httpx2.AsyncClient, url: str) -> None:
        while True:
            try:
                self.seen[str((await api.get(url)).status_code)] += 1
            except ReauthRequiredError:
                self.seen["reauth required"] += 1
                await asyncio.sleep(0.01)

    def take(self) -> set[str]:
        """Return what was seen since the last time."""
        seen, self.seen = set(self.seen), Counter()
        return seen


@contextlib.asynccontextmanager
async def pool(
    daemon: DaemonProcess, provider: FakeProvider, connection_id: str
) -> AsyncGenerator[Pool]:
    """Yield workers at work: as many clients as processes would have."""
    workers, context = Pool(), daemon.data_dir / "context.json"
    async with contextlib.AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(CLIENTS):
            refreshd = await stack.enter_async_context(
                Refreshd(context=context, timeout_s=30.0, keep_s=0.5)
            )
            auth = RefreshdAuth(refreshd, connection_id)
            api = await stack.enter_async_context(httpx2.AsyncClient(auth=auth))
            tasks += [
                asyncio.create_task(workers.work(api, f"{provider.url}/resource"))
                for _ in range(WORKERS)
            ]
        try:
            yield workers
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in done} == {asyncio.CancelledError}, done


async def test_nobody_sees_a_rotation_everybody_a_revocation_and_then_all_go_on(
    scene: ClientScene,
):
    provider = scene.provider
    provider.quirks.set({"old_access_token_dies": True})
    connection_id, grant = await scene.connected()

    async with pool(scene.daemon, provider, connection_id) as workers:
        for _ in range(5):
            await workers.works_on()
            asked = await scene.caller.ask(f"connection.{connection_id}.token", {"force": True})
            assert asked.code == "ok"
        await workers.works_on()
        rotated = workers.take()
        scene.revoke(grant)
        await eventually(lambda: workers.seen["reauth required"] > CLIENTS * WORKERS)
        await scene.connect(connection_id, provider.create())
        await eventually(lambda: workers.seen["200"] > 0)
        workers.take()
        await workers.works_on()
        came_back = workers.take()

    assert rotated == {"200"}
    assert came_back == {"200"}
    assert provider.stats.double_presentations == 0
    assert provider.stats.reuses_detected == 0
    # Five by hand, and the one that the revoked grant was refused.
    assert provider.stats.calls == 6


async def test_nobody_sees_that_the_daemon_is_killed_and_started_again(
    tmp_path: Path, provider: FakeProvider
):
    data_dir, config = tmp_path / "data", write_config(tmp_path, provider)
    arguments = ("--config", str(config))
    async with daemon_process(data_dir, *arguments) as daemon:
        async with (
            Refreshd(context=data_dir / "context.json") as refreshd,
            plain_caller(**daemon.context) as caller,
        ):
            scene = ClientScene(daemon, provider, refreshd, caller)
            connection_id, _ = await scene.connected()
        async with pool(daemon, provider, connection_id) as workers:
            await workers.works_on()
            await daemon.stop(signal.SIGKILL)
            async with daemon_process(data_dir, *arguments):
                await workers.works_on()
                await workers.works_on()

    assert workers.take() == {"200"}
