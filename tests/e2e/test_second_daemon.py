"""A second daemon on one prefix is a member; beside one of version 0.1 it is refused."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import nats.micro
import pytest
from nats.micro.service import ServiceConfig

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.cluster import PARTITIONS, Cluster
from tests.fakes.daemon_process import (
    ExternalNats,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import connect, token, write_config


@contextlib.asynccontextmanager
async def _version_0_1(caller: PlainCaller, prefix: str = "refreshd.v1") -> AsyncGenerator[None]:
    """Have a service that tells of itself what a daemon of version 0.1 tells."""
    metadata = {"daemon": "d-0001", "partitions": "4", "prefix": prefix}
    config = ServiceConfig(name="refreshd", version="0.1.0", metadata=metadata)
    service = await nats.micro.add_service(caller.client, config)
    await caller.client.flush()
    try:
        yield
    finally:
        await service.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[ExternalNats]:
    async with external_nats(tmp_path) as running:
        yield running


async def test_a_start_beside_a_daemon_of_version_0_1_is_refused_and_names_it(
    tmp_path: Path, server: ExternalNats
):
    async with plain_caller(server.url) as caller, _version_0_1(caller):
        refused = await refreshd("serve", "--data-dir", str(tmp_path / "d"), "--nats", server.url)
        arguments = ("--nats", server.url, "--take-over")
        async with daemon_process(tmp_path / "d", *arguments) as taking:
            assert taking.said[-1].startswith("ready ")

    assert refused.code == 75
    assert "daemon d-0001 of version 0.1 serves refreshd.v1" in refused.stderr.splitlines()[-1]
    assert "--take-over" in refused.stderr


async def test_a_daemon_of_another_prefix_is_nobody_to_ask(tmp_path: Path, server: ExternalNats):
    async with (
        plain_caller(server.url) as caller,
        _version_0_1(caller, "other.v1"),
        daemon_process(tmp_path / "d", "--nats", server.url) as started,
    ):
        assert started.said[-1].startswith("ready ")


async def test_who_has_another_keyring_is_refused(tmp_path: Path, server: ExternalNats):
    async with daemon_process(tmp_path / "one", "--nats", server.url):
        second = await refreshd("serve", "--data-dir", str(tmp_path / "two"), "--nats", server.url)

    assert second.code == 2
    assert "is it another daemon's keyring?" in second.stderr


async def test_folders_of_their_own_and_one_keyring_are_a_cluster_too(
    tmp_path: Path, server: ExternalNats
):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with (
        plain_caller(server.url) as caller,
        Cluster(tmp_path / "one", caller, "--nats", server.url) as cluster,
        daemon_process(tmp_path / "one", "--nats", server.url) as first,
        daemon_process(tmp_path / "two", "--nats", server.url, environment=keys) as second,
    ):
        ids = [first.daemon_id, second.daemon_id]
        await eventually(lambda: cluster.ear.are_balanced(ids))


async def test_the_last_member_that_stops_waits_for_its_providers_and_the_next_start_for_nobody(
    tmp_path: Path, server: ExternalNats
):
    async with (
        running_fake_provider() as provider,
        plain_caller(server.url) as caller,
        Cluster(
            tmp_path / "data",
            caller,
            *("--config", str(write_config(tmp_path, provider)), "--nats", server.url),
        ) as cluster,
    ):
        (former,) = await cluster.joined_by(1)
        connection_id, _ = await connect(caller, provider)
        provider.quirks.set({"hang": "after"})
        asked = asyncio.create_task(token(caller, connection_id))
        await eventually(lambda: provider.stats.hanging == 1)
        former.process.send_signal(signal.SIGTERM)
        await eventually(lambda: any("draining" in line for line in former.said))
        provider.quirks.set({"hang": "no"})

        await cluster.joined_by(1)
        again = asyncio.create_task(token(caller, connection_id))
        provider.release()
        answers = [await asked, await again]

    assert [answer.code for answer in answers] == ["ok", "ok"]
    assert {answer.body["ok"]["generation"] for answer in answers} == {2}
    assert provider.stats.calls == 1


async def test_a_start_after_a_kill_waits_for_the_former_owner_unless_its_folder_says_that_it_is_dead(
    tmp_path: Path, server: ExternalNats
):
    patience = {"REFRESHD_CLUSTER_MEMBER_TIMEOUT_S": "2"}
    shared = patience | {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    arguments = ("--nats", server.url)
    async with plain_caller(server.url) as caller:
        async with daemon_process(tmp_path / "one", *arguments, environment=patience) as first:
            await first.stop(signal.SIGKILL)
        async with (
            Cluster(tmp_path / "two", caller, *arguments) as cluster,
            daemon_process(tmp_path / "two", *arguments, environment=shared) as elsewhere,
        ):
            assert sum("partition_awaited" in line for line in elsewhere.said) == PARTITIONS
            await eventually(lambda: cluster.ear.are_balanced([elsewhere.daemon_id]))
            await elsewhere.stop(signal.SIGKILL)
        async with (
            Cluster(tmp_path / "two", caller, *arguments) as cluster,
            daemon_process(tmp_path / "two", *arguments, environment=shared) as again,
        ):
            assert not any("partition_awaited" in line for line in again.said)
            await eventually(lambda: cluster.ear.are_balanced([again.daemon_id]))


async def test_a_start_after_a_stop_waits_for_nobody_on_whatever_data_folder(
    tmp_path: Path, server: ExternalNats
):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with plain_caller(server.url) as caller:
        async with daemon_process(tmp_path / "one", "--nats", server.url) as former:
            connection_id = await caller.connect()
            assert await former.stop() == 0
        arguments = ("--nats", server.url)
        async with daemon_process(tmp_path / "two", *arguments, environment=keys) as elsewhere:
            assert (await caller.get(connection_id))["generation"] == 1
            assert not any("partition_awaited" in line for line in elsewhere.said)


async def test_a_start_is_not_ready_while_it_waits_for_who_may_still_own_its_partitions(
    tmp_path: Path, server: ExternalNats
):
    arguments = ("--nats", server.url)
    environment = {
        "REFRESHD_HTTP_LISTEN": "127.0.0.1:0",
        "REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json"),
    }
    async with daemon_process(tmp_path / "one", *arguments) as former:
        await former.stop(signal.SIGKILL)
    async with (
        plain_caller(server.url) as caller,
        Cluster(tmp_path / "two", caller, *arguments) as cluster,
        daemon_process(tmp_path / "two", *arguments, environment=environment) as elsewhere,
        httpx2.AsyncClient(base_url=elsewhere.http) as web,
    ):
        awaiting = await web.get("/readyz")
        await eventually(lambda: cluster.ear.are_balanced([elsewhere.daemon_id]), within_s=20)
        owning = await web.get("/readyz")

    said = f"[-]ledger failed: partition 0 may still be {former.daemon_id}'s, which is silent"
    assert (awaiting.status_code, said in awaiting.text.splitlines()) == (503, True)
    assert owning.status_code == 200
    assert sum("partition_awaited" in line for line in elsewhere.said) == PARTITIONS
