"""Signals: SIGHUP ends nothing, SIGTERM begins nothing and keeps its time, and no answer is lost."""

import asyncio
import contextlib
import signal
import stat
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import nats.errors
import pytest

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import (
    DaemonProcess,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, token, write_config

# nats-py leaves a socket to the collector where it is closed while it connects again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
_REFRESHED = ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]


@contextlib.asynccontextmanager
async def _daemon(
    folder: Path, provider: FakeProvider, *, grace_s: float = 25.0, **settings: str
) -> AsyncGenerator[tuple[DaemonProcess, PlainCaller]]:
    """Yield a daemon with an embedded server that refreshes at a provider, and its caller."""
    config = write_config(folder, provider, **settings)
    async with (
        daemon_process(
            folder / "data",
            *("--config", str(config)),
            environment={"REFRESHD_SERVICE_DRAIN_GRACE_S": str(grace_s)},
        ) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        yield daemon, caller


async def test_sighup_ends_neither_the_daemon_nor_a_refresh(tmp_path: Path):
    async with running_fake_provider() as provider, _daemon(tmp_path, provider) as (daemon, caller):
        connected = [await connect(caller, provider) for _ in range(4)]
        provider.quirks.set({"hang": "after"})
        asked = [asyncio.create_task(token(caller, one)) for one, _ in connected]
        await eventually(lambda: provider.stats.hanging == 4)

        for _ in range(2):
            daemon.process.send_signal(signal.SIGHUP)
        await eventually(lambda: any("reloaded" in line for line in daemon.said))
        provider.release()

        assert {answer.code for answer in await asyncio.gather(*asked)} == {"ok"}
        assert daemon.process.returncode is None


async def test_after_sigterm_no_request_is_begun_and_those_who_wait_are_told_at_once(
    tmp_path: Path,
):
    async with (
        running_fake_provider() as provider,
        # On demand: none is refreshed before the provider hangs.
        _daemon(tmp_path, provider, max_concurrency="4", refresh='"on_demand"') as (daemon, caller),
    ):
        ids = [(await connect(caller, provider))[0] for _ in range(60)]
        provider.quirks.set({"hang": "after"})
        asked = [asyncio.create_task(token(caller, one, timeout_ms=20_000)) for one in ids]
        await eventually(lambda: provider.stats.hanging == 4)
        daemon.process.send_signal(signal.SIGTERM)
        await eventually(lambda: sum(one.done() for one in asked) == 56)
        provider.release()

        assert await daemon.stop_by_itself() == 0

        codes = Counter(answer.code for answer in await asyncio.gather(*asked))
        assert codes == {"ok": 4, "SHUTTING_DOWN": 56}
        assert provider.stats.calls == 4


async def test_a_provider_that_does_not_answer_holds_a_stop_no_longer_than_its_grace(
    tmp_path: Path,
):
    async with running_fake_provider() as provider:
        async with _daemon(tmp_path, provider, grace_s=4.0, timeout_s="30") as (daemon, caller):
            connection_id, _ = await connect(caller, provider)
            provider.quirks.set({"hang": "before"})
            asked = asyncio.create_task(token(caller, connection_id))
            await eventually(lambda: provider.stats.hanging == 1)
            began_s = time.monotonic()

            code = await daemon.stop()

            took_s = time.monotonic() - began_s
            answer = await asked
        provider.quirks.set({"hang": "no"})
        provider.release()
        async with _daemon(tmp_path, provider) as (_, caller):
            story = await _types(caller, connection_id)

    assert code == 0
    assert 2.0 < took_s < 4.5
    assert answer.code in {"SHUTTING_DOWN", "REFRESH_IN_PROGRESS"}
    assert any("refresh_cut_off" in line and connection_id in line for line in daemon.said)
    assert story == ["ProviderTokenRefreshAttempted"]


async def _types(caller: PlainCaller, connection_id: str) -> list[str]:
    """Return the types of a connection's events, without those of its connect."""
    stories = await caller.stories()
    return [event["type"] for event in stories[connection_id]][2:]


def _outcomes(folder: Path) -> list[Path]:
    files = (folder / "data" / "outcomes").iterdir()
    return sorted(file for file in files if file.name != "ballast")


async def _lost_its_server(folder: Path, provider: FakeProvider, end: signal.Signals) -> str:
    """Let an external server die for good amid a rotation, then the daemon; return the connection."""
    provider.quirks.set({"hang": "after"})
    config = write_config(folder, provider, timeout_s="10")
    arguments = ("--config", str(config))
    grace = {"REFRESHD_SERVICE_DRAIN_GRACE_S": "6"}
    async with external_nats(folder) as server:
        async with daemon_process(
            folder / "data", *arguments, "--nats", server.url, environment=grace
        ) as daemon:
            async with plain_caller(server.url) as caller:
                connection_id, _ = await connect(caller, provider)
                asked = asyncio.create_task(token(caller, connection_id))
                await eventually(lambda: provider.stats.hanging == 1)
                await server.stop(signal.SIGKILL)
                provider.release()
                if end is signal.SIGKILL:
                    # Nobody may be told to stop: what is in doubt is spilled by then.
                    await eventually(
                        lambda: [f.name[0] != "." for f in _outcomes(folder)] == [True]
                    )
                await daemon.stop(end)
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    asked.cancel()
            said = "\n".join(daemon.said)
        assert end is signal.SIGKILL or "outcome_spilled" in said
    provider.quirks.set({"hang": "no"})
    return connection_id


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_rotated_token_survives_a_server_that_is_gone_for_good_and_the_daemons_end(
    tmp_path: Path, end: signal.Signals
):
    async with running_fake_provider() as provider:
        connection_id = await _lost_its_server(tmp_path, provider, end)
        (file,) = _outcomes(tmp_path)
        mode = stat.S_IMODE(file.stat().st_mode)
        content = file.read_bytes()
        async with (
            external_nats(tmp_path) as server,
            daemon_process(
                tmp_path / "data",
                *("--config", str(tmp_path / "refreshd.toml"), "--nats", server.url),
            ) as daemon,
            plain_caller(server.url) as caller,
        ):
            first = await token(caller, connection_id)
            calls = provider.stats.calls
            second = await token(caller, connection_id, force=True)
            story = await _types(caller, connection_id)
            left = _outcomes(tmp_path)
            said = "\n".join(daemon.said)

    assert mode == 0o600
    assert first.code == second.code == "ok"
    assert (first.body["ok"]["generation"], calls) == (2, 1)
    assert first.body["ok"]["access_token"].encode() not in content
    assert provider.stats.double_presentations == 0
    assert story == _REFRESHED * 2
    assert left == []
    assert "outcome_taken_in" in said
    assert connection_id in said
