"""NATS may stop, be killed, hang or lose JetStream under load: nothing acknowledged is lost.

Commands are answered within their time limit, the daemon recovers by itself, and the events of
each connection go on in order and tell exactly what is stored.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import nats.errors
import pytest

from tests.fakes.daemon_process import (
    DaemonProcess,
    ExternalNats,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually

CONNECTIONS = 12
CALLERS = 32
TIME_LIMIT_S = 4.0
GRACE_S = 0.5
"""For the way there and back, on a machine that does other things too."""


class Ground(NamedTuple):
    """A daemon on somebody else's server."""

    server: ExternalNats
    daemon: DaemonProcess
    caller: PlainCaller


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncGenerator[Ground]:
    async with (
        external_nats(tmp_path) as server,
        daemon_process(tmp_path / "data", "--nats", server.url) as daemon,
        plain_caller(server.url, pending_size=0) as caller,
    ):
        yield Ground(server, daemon, caller)


class Load:
    """Callers that refresh random connections until told to stop, and what they were told."""

    def __init__(self, caller: PlainCaller, ids: list[str]) -> None:
        self._caller = caller
        self._ids = ids
        self.acknowledged: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(self._call_on())

    async def grew_by(self, successes: int) -> None:
        """Return when so many more refreshes have succeeded."""
        wanted = self.acknowledged.total() + successes
        await eventually(lambda: self.acknowledged.total() >= wanted, within_s=20)

    async def _call_on(self) -> None:
        while not self._stopped:
            connection_id = random.choice(self._ids)
            started_s = time.monotonic()
            try:
                answer = await self._caller.refresh(connection_id)
            except nats.errors.Error:
                # Our own connection was away: whether the daemon heard us is not known.
                await asyncio.sleep(0.01)
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)
            self.codes[answer.code] += 1
            if answer.code == "ok":
                self.acknowledged[connection_id] += 1


async def kill_and_restart(ground: Ground) -> None:
    await ground.server.stop(signal.SIGKILL)
    await ground.server.start()


async def terminate_and_restart(ground: Ground) -> None:
    await ground.server.stop(signal.SIGTERM)
    await ground.server.start()


async def hang_for_two_seconds(ground: Ground) -> None:
    assert ground.server.process is not None
    ground.server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2)  # the length of the trouble, not a wait for something
    ground.server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("trouble", [kill_and_restart, terminate_and_restart, hang_for_two_seconds])
async def test_after_trouble_under_load_the_store_and_the_events_agree(
    ground: Ground, trouble: Callable[[Ground], Awaitable[None]]
):
    ids = [await ground.caller.connect() for _ in range(CONNECTIONS)]
    load = Load(ground.caller, ids)
    calling = asyncio.create_task(load.run())

    for _ in range(3):
        await load.grew_by(200)
        await trouble(ground)
    await load.grew_by(200)
    load.stop()
    await calling
    await eventually(lambda: is_settled(ground.caller), within_s=20)

    assert set(load.codes) <= {"ok", "DATABASE_ERROR"}
    assert load.slowest_s < TIME_LIMIT_S + GRACE_S
    stories = await ground.caller.stories()
    for connection_id in ids:
        generation = (await ground.caller.get(connection_id))["generation"]
        types = [event["type"] for event in stories[connection_id]]
        assert generation >= 1 + load.acknowledged[connection_id]
        assert types[:2] == ["ProviderConnectionAttempted", "ProviderConnectionSucceeded"]
        assert set(types[2::2]) == {"ProviderTokenRefreshAttempted"}
        assert set(types[3::2]) <= {"ProviderTokenRefreshSucceeded", "ProviderTokenRefreshFailed"}
        assert types.count("ProviderTokenRefreshSucceeded") == generation - 1
        assert len({event["id"] for event in stories[connection_id]}) == len(types)
    assert ground.daemon.process.returncode is None


async def is_settled(caller: PlainCaller) -> bool:
    return (await caller.ask("status")).body["ok"]["busy_actors"] == 0


async def test_without_its_buckets_what_is_decided_is_acknowledged_and_a_cold_read_fails_in_time(
    ground: Ground,
):
    connection_id, cold_id = await ground.caller.connect(), str(uuid4())
    stream = ground.caller.client.jetstream()
    for partition in range(4):
        await stream.delete_stream(f"KV_refreshd_connections_{partition:02d}")

    started_s = time.monotonic()
    assert (await ground.caller.refresh(connection_id)).code == "ok"
    answer = await ground.caller.refresh(cold_id)
    elapsed_s = time.monotonic() - started_s
    stories = await ground.caller.stories()

    assert answer.code == "DATABASE_ERROR"
    assert answer.headers["Nats-Service-Error-Code"] == "503"
    assert answer.body["error"]["message"].startswith("Database error occurred: ")
    assert elapsed_s < TIME_LIMIT_S
    assert [event["type"] for event in stories[connection_id][2:]] == [
        "ProviderTokenRefreshAttempted",
        "ProviderTokenRefreshSucceeded",
    ]
    failed = stories[cold_id][1]
    assert failed["type"] == "ProviderTokenRefreshFailed"
    assert failed["data"]["reason"].startswith("Database error occurred: ")
    assert failed["data"]["needs_user_action"] is False


async def test_without_the_event_stream_what_is_stored_is_acknowledged_all_the_same(
    ground: Ground,
):
    connection_id = await ground.caller.connect()
    await ground.caller.client.jetstream().delete_stream("REFRESHD_EVENTS")

    started_s = time.monotonic()
    answers = [await ground.caller.refresh(connection_id) for _ in range(2)]
    elapsed_s = time.monotonic() - started_s

    assert [answer.code for answer in answers] == ["ok", "ok"]
    assert elapsed_s < 2 * TIME_LIMIT_S
    assert (await ground.caller.get(connection_id))["generation"] == 3
