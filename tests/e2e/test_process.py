"""The daemon as a process: it starts, drains and ends as operators expect, or says why not."""

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import nats.errors
import pytest

from tests.fakes.daemon_process import (
    CREDENTIALS,
    DaemonProcess,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import nats_process
from tests.fakes.refreshd_command import refreshd


def nats_server_of(pid: int) -> int:
    children = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    (child,) = children
    return int(child)


def restarted(daemon: DaemonProcess) -> int:
    return sum("embedded_nats_restarted" in line for line in daemon.said)


def is_gone(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_fifty_requests_in_flight_and_ends_all(
    tmp_path: Path, number: signal.Signals
):
    async with daemon_process(tmp_path) as daemon:
        server = nats_server_of(daemon.process.pid)
        async with plain_caller(**daemon.context) as caller:
            ids = [await caller.connect() for _ in range(10)]
            sent = caller.client.stats["out_msgs"]
            asking = [asyncio.create_task(caller.refresh(ids[n % 10])) for n in range(50)]
            await eventually(lambda: caller.client.stats["out_msgs"] >= sent + 50)
            await caller.client.flush()

            code = await daemon.stop(number)

            answers = await asyncio.gather(*asking)
        assert [answer.code for answer in answers] == ["ok"] * 50
        assert code == 0
        assert is_gone(server)

    async with daemon_process(tmp_path) as again, plain_caller(**again.context) as caller:
        assert [(await caller.get(i))["generation"] for i in ids] == [6] * 10
        assert again.said[-1].endswith("connections=10 version=0.2.0")


async def test_a_killed_daemon_takes_its_server_along_and_loses_nothing_acknowledged(
    tmp_path: Path,
):
    acknowledged = 0
    async with daemon_process(tmp_path) as daemon:
        server = nats_server_of(daemon.process.pid)
        async with plain_caller(**daemon.context) as caller:
            connection_id = await caller.connect()

            async def refresh_on() -> None:
                nonlocal acknowledged
                while (await caller.refresh(connection_id, timeout_s=1)).code == "ok":
                    acknowledged += 1

            asking = [asyncio.create_task(refresh_on()) for _ in range(8)]
            await eventually(lambda: acknowledged > 50)

            await daemon.stop(signal.SIGKILL)

            await eventually(lambda: is_gone(server))
            results = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(result, nats.errors.Error) for result in results)

    async with daemon_process(tmp_path) as again, plain_caller(**again.context) as caller:
        generation = (await caller.get(connection_id))["generation"]
        assert (await caller.refresh(connection_id)).code == "ok"
    assert generation >= 1 + acknowledged


async def test_a_second_daemon_on_the_same_folder_is_refused(tmp_path: Path):
    async with daemon_process(tmp_path):
        second = await refreshd("serve", "--data-dir", str(tmp_path))

    assert second.code == 1
    assert "another refreshd uses this data folder" in second.stderr


async def test_an_answer_of_a_provider_that_cannot_be_looked_at_is_one_line_and_75(tmp_path: Path):
    async with daemon_process(tmp_path) as daemon:
        file = tmp_path / "outcomes" / "a-connection.an-attempt"
        await asyncio.to_thread(file.mkdir)
        await daemon.stop()

    ended = await refreshd("serve", "--data-dir", str(tmp_path))

    assert ended.code == 75
    assert ended.stderr.splitlines()[-1].startswith(f"refreshd: {file}: Is a directory: ")
    assert "Traceback" not in ended.stderr


async def test_no_server_at_the_given_address_is_one_line_and_69(tmp_path: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"nats://user:hidden@127.0.0.1:{closed.getsockname()[1]}"
        settings = {"REFRESHD_NATS_LINK_CONNECT_TIMEOUT_S": "0.5"}

        ended = await refreshd("serve", "--data-dir", str(tmp_path), "--nats", url, **settings)

    assert ended.code == 69
    assert "cannot connect to nats://127.0.0.1:" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert "hidden" not in ended.stderr


async def test_a_wrong_setting_is_named_with_its_path_and_2(tmp_path: Path):
    config = tmp_path / "refreshd.toml"
    config.write_text('[nats]\ncredz = "x"\n')

    ended = await refreshd("serve", "--data-dir", str(tmp_path), "--config", str(config))

    assert ended.code == 2
    assert "refreshd.toml" in ended.stderr
    assert "credz" in ended.stderr
    assert "$.nats" in ended.stderr


async def test_without_the_keyring_that_sealed_what_is_stored_it_does_not_start(tmp_path: Path):
    async with daemon_process(tmp_path) as daemon:
        async with plain_caller(**daemon.context) as caller:
            await caller.connect()
        await daemon.stop()
    (tmp_path / "keyring.json").unlink()

    ended = await refreshd("serve", "--data-dir", str(tmp_path))

    assert ended.code == 2
    assert "restore the keyring" in ended.stderr
    assert not (tmp_path / "keyring.json").exists()


async def test_another_partition_count_is_refused(tmp_path: Path):
    async with daemon_process(tmp_path) as daemon:
        await daemon.stop()

    ended = await refreshd("serve", "--data-dir", str(tmp_path), REFRESHD_STATE_PARTITIONS="8")

    assert ended.code == 69
    assert "set up with 4" in ended.stderr


async def test_it_warns_of_a_server_that_it_cannot_see_to_be_durable(tmp_path: Path):
    async with (
        external_nats(tmp_path) as server,
        daemon_process(tmp_path / "data", "--nats", server.url) as daemon,
    ):
        said = "\n".join(daemon.said)

    assert "store_may_lose_acknowledged_writes" in said
    assert "sync_interval: always" in said


async def test_a_start_that_is_not_let_in_ends_at_once_and_tells_nothing_else(tmp_path: Path):
    settings = {"authorization": {"users": [{"user": "us", "password": "pw"}]}}
    async with nats_process(tmp_path, settings) as server:
        url = server.login.url
        began_s = time.monotonic()
        ended = await refreshd(
            *("serve", "--data-dir", str(tmp_path / "data"), "--nats", url),
            REFRESHD_HTTP_LISTEN="",
            REFRESHD_NATS_LINK_CONNECT_TIMEOUT_S="60",
        )

    assert ended.code == 69
    assert time.monotonic() - began_s < 30
    *before, last = ended.stderr.splitlines()
    assert last == f"refreshd: cannot connect to {url}: nats: 'Authorization Violation'"
    assert all('"nats_error"' in line and url in line for line in before)


async def test_the_daemon_ends_with_an_error_when_its_server_ends_too_often(tmp_path: Path):
    once = {"REFRESHD_NATS_RESTARTS_MAX": "1"}
    async with daemon_process(tmp_path, environment=once) as daemon:
        for restarts in (0, 1):
            await eventually(lambda n=restarts: restarted(daemon) == n)
            os.kill(nats_server_of(daemon.process.pid), signal.SIGKILL)

        code = await daemon.stop_by_itself()

    assert code == 1
    assert "ended with code -9, which is more than 1 times within 600 s" in daemon.said[-1]


async def test_the_demo_says_that_nothing_was_lost():
    small = ("--connections", "20", "--refreshes", "200", "--callers", "20", "--herd", "500")
    shown = await refreshd("demo", *small)

    assert shown.code == 0
    assert shown.stdout.count("kept") == 5
    assert "BROKEN" not in shown.stdout
    assert "No refresh was lost, doubled or reordered, and no grant burned." in shown.stdout
    requests, spent, alive, callers = (
        next(line for line in shown.stdout.splitlines() if line.strip().startswith(begins))
        for begins in ("requests", "spent", "grants alive", "callers with")
    )
    assert requests.split()[-2:] == ["100", "500"]
    assert spent.split()[-2:] == ["0", "100"]
    assert "100 of 100" in alive
    assert alive.rstrip().endswith(" 0 of 100")
    assert "500 of 500" in callers


async def test_credentials_come_by_standard_input_and_never_by_an_argument():
    usage = await refreshd("connect", "--help")
    refused = await refreshd("connect", "--credentials", json.dumps(CREDENTIALS))

    assert "--credentials-file" in usage.stdout
    assert refused.code == 2


async def test_a_second_daemon_with_a_keyring_of_its_own_is_refused(tmp_path: Path):
    async with external_nats(tmp_path) as server:
        async with daemon_process(tmp_path / "one", "--nats", server.url):
            pass

        other = await refreshd("serve", "--data-dir", str(tmp_path / "two"), "--nats", server.url)

    assert other.code == 2
    assert "another daemon's keyring?" in other.stderr


async def test_a_profile_whose_answers_no_record_could_hold_is_refused(tmp_path: Path):
    config = tmp_path / "refreshd.toml"
    config.write_text(
        '[providers.fake]\ntoken_endpoint = "http://127.0.0.1:9/token"\nclient_id = "c"\n'
        'client_auth = "none"\nanswer_bytes_max = 1000000\n'
    )

    ended = await refreshd("serve", "--data-dir", str(tmp_path / "d"), "--config", str(config))

    assert ended.code == 69
    assert "providers.fake.answer_bytes_max is 1000000, but a record has room for" in ended.stderr
