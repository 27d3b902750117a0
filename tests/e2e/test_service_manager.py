"""Under a service manager: ready when requests are served, reloads and stops that it hears of."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import daemon_process, external_nats, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.service_manager import service_manager
from tests.fakes.token_daemon import connect, token, write_config


@pytest.mark.parametrize("is_abstract", [False, True])
async def test_it_tells_when_it_is_ready_reloads_and_stops(tmp_path: Path, is_abstract: bool):
    config = tmp_path / "refreshd.toml"
    config.write_text("")
    with service_manager(tmp_path, is_abstract=is_abstract) as manager:
        async with daemon_process(
            tmp_path / "data",
            *("--config", str(config)),
            environment=manager.environment(),
        ) as daemon:
            await eventually(lambda: bool(manager.told("READY")))
            ready = manager.index(READY="1")
            async with plain_caller(**daemon.context) as caller:
                served = await caller.ask("status")
            before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            daemon.process.send_signal(signal.SIGHUP)
            await eventually(lambda: len(manager.told("READY")) == 2)
            config.write_text("nonsense = 1\n")
            daemon.process.send_signal(signal.SIGHUP)
            await eventually(lambda: len(manager.told("READY")) == 3)

            code = await daemon.stop()
            await eventually(lambda: bool(manager.told("STOPPING")))

    assert code == 0
    assert served.code == "ok"
    statuses = manager.told("STATUS")
    assert statuses[0] == "starts"
    assert manager.messages[ready]["STATUS"].startswith("ready nats=nats://127.0.0.1:")
    kinds = [
        name
        for message in manager.messages[ready:]
        for name in ("READY", "RELOADING", "STOPPING")
        if name in message
    ]
    assert kinds == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
    reload_us = [int(told) for told in manager.told("MONOTONIC_USEC")]
    assert before_us <= reload_us[0] <= reload_us[1]
    assert statuses[-4:-1] == [
        "reloaded",
        "reads its configuration",
        "configuration refused, the log says why; the former one is in force",
    ]
    stopping = manager.messages[manager.index(STOPPING="1")]
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) == 27_000_000
    assert not manager.told("WATCHDOG")


async def test_it_is_not_ready_before_requests_are_served(tmp_path: Path):
    with service_manager(tmp_path) as manager:
        async with (
            daemon_process(tmp_path / "data", environment=manager.environment()) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            await eventually(lambda: bool(manager.told("READY")))
            started = manager.told("EXTEND_TIMEOUT_USEC")
            answer = await caller.ask("status", timeout_s=2)

    assert answer.code == "ok"
    assert [int(told) for told in started] == [30_000_000] * len(started)
    assert started


async def test_the_watchdog_is_fed_while_nats_is_away_and_not_while_the_loop_stands_still(
    tmp_path: Path,
):
    with service_manager(tmp_path) as manager:
        async with (
            external_nats(tmp_path) as server,
            daemon_process(
                tmp_path / "data",
                *("--nats", server.url),
                environment=manager.environment(watchdog_s=0.4),
            ) as daemon,
        ):
            await eventually(lambda: len(manager.told("WATCHDOG")) > 3)
            await server.stop(signal.SIGKILL)
            fed = len(manager.told("WATCHDOG"))
            await eventually(lambda: len(manager.told("WATCHDOG")) > fed + 3)

            daemon.process.send_signal(signal.SIGSTOP)
            await eventually(lambda: _is_stopped(daemon.process.pid))
            fed = len(manager.told("WATCHDOG"))
            await asyncio.sleep(1.0)
            stood_still = len(manager.told("WATCHDOG")) - fed
            daemon.process.send_signal(signal.SIGCONT)
            await eventually(lambda: len(manager.told("WATCHDOG")) > fed + 3)

    assert stood_still <= 1


def _environment_of_the_server_of(pid: int) -> bytes:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Path(f"/proc/{child}/environ").read_bytes()


def _is_stopped(pid: int) -> bool:
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_a_watchdog_that_is_another_process_s_is_not_fed(tmp_path: Path):
    with service_manager(tmp_path) as manager:
        environment = manager.environment(watchdog_s=0.2) | {"WATCHDOG_PID": str(os.getpid())}
        async with daemon_process(tmp_path / "data", environment=environment):
            await eventually(lambda: bool(manager.told("READY")))

    assert not manager.told("WATCHDOG")


async def test_its_nats_server_inherits_nothing_of_it_and_no_secret_is_told(tmp_path: Path):
    with service_manager(tmp_path) as manager:
        async with running_fake_provider() as provider:
            config = write_config(tmp_path, provider)
            async with (
                daemon_process(
                    tmp_path / "data",
                    *("--config", str(config)),
                    environment=manager.environment(watchdog_s=0.5),
                ) as daemon,
                plain_caller(**daemon.context) as caller,
            ):
                await eventually(lambda: bool(manager.told("READY")))
                one, grant = await connect(caller, provider)
                assert (await token(caller, one)).code == "ok"
                inherited = _environment_of_the_server_of(daemon.process.pid)

        said = json.dumps(manager.messages)
        context = daemon.context

    assert b"NOTIFY_SOCKET" not in inherited
    assert b"WATCHDOG" not in inherited
    assert grant.refresh_token is not None
    for secret in (context["password"], grant.refresh_token, provider.client.client_secrets[0]):
        assert secret not in said


async def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path):
    gone = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "200000"}
    async with (
        daemon_process(tmp_path / "data", environment=gone) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        assert (await caller.ask("status")).code == "ok"
        assert await daemon.stop() == 0

    assert any("service_manager_not_told" in line for line in daemon.said)
