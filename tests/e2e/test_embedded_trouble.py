"""The embedded server may be killed or run out of disk: the daemon goes on, and loses nothing."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import (
    DaemonProcess,
    PlainCaller,
    daemon_process,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.small_disk import fill, small_disk
from tests.fakes.token_daemon import connect, token, write_config

# nats-py leaves a socket to the collector where it is closed while it connects again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _server_of(daemon: DaemonProcess) -> int | None:
    pid = daemon.process.pid
    children = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    return int(children[0]) if children else None


def _times(daemon: DaemonProcess, event: str) -> int:
    return sum(event in line for line in daemon.said)


async def _status(caller: PlainCaller) -> dict[str, Any]:
    return (await caller.ask("status")).body["ok"]


class Callers:
    """Callers that replace credentials until told to stop."""

    def __init__(self, caller: PlainCaller, ids: list[str]) -> None:
        self._caller = caller
        self._ids = ids
        self.acknowledged: Counter[str] = Counter()
        self.is_over = False

    async def call_on(self, number: int) -> None:
        while not self.is_over:
            connection_id = self._ids[number % len(self._ids)]
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                answer = await self._caller.refresh(connection_id)
                self.acknowledged[connection_id] += answer.code == "ok"

    async def grown_by(self, commands: int) -> None:
        wanted = self.acknowledged.total() + commands
        await eventually(lambda: self.acknowledged.total() >= wanted, within_s=30)


async def test_a_server_that_is_killed_under_load_is_restarted_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
):
    async with daemon_process(tmp_path) as daemon, plain_caller(**daemon.context) as caller:
        ids = [await caller.connect() for _ in range(8)]
        callers = Callers(caller, ids)
        calling = [asyncio.create_task(callers.call_on(number)) for number in range(16)]
        for restarts in (1, 2, 3):
            await callers.grown_by(50)
            server = _server_of(daemon)
            assert server is not None
            os.kill(server, signal.SIGKILL)
            await eventually(lambda n=restarts: _times(daemon, "embedded_nats_restarted") == n)
        await callers.grown_by(50)
        callers.is_over = True
        await asyncio.gather(*calling)

        stories = await caller.stories()
        generations = {one: (await caller.get(one))["generation"] for one in ids}
        status = await _status(caller)

        assert await daemon.stop() == 0
    assert status["nats_restarts"] == 3
    for one in ids:
        assert generations[one] >= 1 + callers.acknowledged[one]
        outcomes = [event["type"] for event in stories[one]][3::2]
        assert outcomes.count("ProviderTokenRefreshSucceeded") == generations[one] - 1


@contextlib.asynccontextmanager
async def _on_small_disk(
    folder: Path, config: Path, **settings: object
) -> AsyncGenerator[tuple[DaemonProcess, PlainCaller, Path]]:
    with small_disk(folder, "24m") as disk:
        environment = {f"REFRESHD_NATS_{name.upper()}": str(v) for name, v in settings.items()}
        async with (
            daemon_process(
                disk / "data", "--config", str(config), environment=environment
            ) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            yield daemon, caller, disk


async def _code(caller: PlainCaller, connection_id: str) -> str:
    """Return what a caller of two seconds' patience is told; it is told nothing by a dead server."""
    headers = {"Refreshd-Timeout-Ms": "2000"}
    try:
        subject = f"connection.{connection_id}.token"
        return (await caller.ask(subject, {}, headers=headers, timeout_s=2.5)).code
    except (nats.errors.Error, TimeoutError):
        return "nothing"


async def test_below_its_reserve_of_disk_space_no_refresh_token_is_presented(tmp_path: Path):
    async with (
        running_fake_provider() as provider,
        _on_small_disk(
            tmp_path, write_config(tmp_path, provider), free_bytes_min=8 * 1024 * 1024
        ) as (daemon, caller, disk),
    ):
        dead, _ = await connect(caller, provider)
        living, _ = await connect(caller, provider, lives_s=3600)
        ballast = fill(disk, free_bytes=4 * 1024 * 1024)

        refused = await token(caller, dead)
        stale = await token(caller, living, force=True)
        status = await _status(caller)
        await eventually(lambda: _times(daemon, "disk_is_low") == 1)
        ballast.unlink()
        await eventually(lambda: _times(daemon, "disk_has_room_again") == 1)
        answer = await token(caller, dead)

        assert (refused.code, answer.code) == ("DATABASE_ERROR", "ok")
        assert "disk space" in refused.body["error"]["message"]
        assert stale.body["ok"]["stale"]
        assert status["disk_is_low"]
        assert status["disk_free_bytes"] < 8 * 1024 * 1024
        assert provider.stats.calls == 1


async def test_a_full_disk_is_recovered_from_by_itself_and_no_grant_is_lost(tmp_path: Path):
    async with (
        running_fake_provider() as provider,
        _on_small_disk(
            tmp_path,
            # On demand: none is refreshed before the provider hangs.
            write_config(tmp_path, provider, max_concurrency="60", refresh='"on_demand"'),
            # So that some are at the provider when the disk is full.
            free_bytes_min=256 * 1024,
            write_silent_s=1.0,
        ) as (daemon, caller, disk),
    ):
        connected = [await connect(caller, provider) for _ in range(60)]
        ids = [one for one, _ in connected]
        provider.quirks.set({"hang": "after"})
        asked = [asyncio.create_task(token(caller, one)) for one in ids[:40]]
        await eventually(lambda: provider.stats.hanging == 40)
        ballast = fill(disk)
        provider.quirks.set({"hang": "no"})
        provider.release()
        full = await asyncio.gather(*(_code(caller, one) for one in ids))
        await asyncio.gather(*asked)
        ballast.unlink()

        async def all_have_one() -> bool:
            return {*await asyncio.gather(*(_code(caller, one) for one in ids))} == {"ok"}

        took_s = await eventually(all_have_one, within_s=20)
        stories = await caller.stories()
        restarts = _times(daemon, "embedded_nats_restarted")

        assert await daemon.stop() == 0
    assert "DATABASE_ERROR" in full
    assert took_s < 15
    assert restarts >= 1
    assert provider.stats.double_presentations == 0
    for one, grant in connected:
        held = provider.book.get(grant.grant_id)
        assert held is not None
        assert held.revoked is None
        assert [event["type"] for event in stories[one]][-2:] == [
            "ProviderTokenRefreshAttempted",
            "ProviderTokenRefreshSucceeded",
        ]


async def test_what_was_answered_on_a_full_disk_survives_a_stop_on_the_full_disk(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider, max_concurrency="20", refresh='"on_demand"')
        with small_disk(tmp_path, "24m") as disk:
            settings = {
                "REFRESHD_NATS_FREE_BYTES_MIN": "262144",
                "REFRESHD_SERVICE_DRAIN_GRACE_S": "8",
            }
            arguments = ("--config", str(config))
            async with (
                daemon_process(disk / "data", *arguments, environment=settings) as daemon,
                plain_caller(**daemon.context) as caller,
            ):
                ids = [(await connect(caller, provider))[0] for _ in range(20)]
                provider.quirks.set({"hang": "after"})
                asked = [asyncio.create_task(token(caller, one)) for one in ids]
                await eventually(lambda: provider.stats.hanging == 20)
                ballast = fill(disk)
                provider.quirks.set({"hang": "no"})
                provider.release()
                await eventually(lambda: _times(daemon, "outcome_spilled") > 0)

                assert await daemon.stop() == 0
                await asyncio.gather(*asked, return_exceptions=True)
            lost = _times(daemon, "outcome_lost")
            ballast.unlink()
            async with (
                daemon_process(disk / "data", *arguments, environment=settings) as again,
                plain_caller(**again.context) as caller,
            ):
                answers = await asyncio.gather(*(token(caller, one) for one in ids))

    assert lost == 0
    assert [answer.body["ok"]["generation"] for answer in answers] == [2] * 20
    assert provider.stats.calls == 20
