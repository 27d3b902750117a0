"""A copy made as docs/backup.md says is one that a daemon goes on from."""

import asyncio
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.fakes.daemon_process import daemon_process, external_nats, plain_caller
from tests.fakes.refreshd_command import refreshd


async def test_a_daemon_starts_on_a_copy_and_the_keyring_that_was_kept_apart(tmp_path: Path):
    folder, copy = tmp_path / "refreshd", tmp_path / "restored" / "refreshd"
    async with daemon_process(folder) as daemon, plain_caller(**daemon.context) as caller:
        connection_id = await caller.connect()
        assert (await caller.refresh(connection_id)).code == "ok"
        assert await daemon.stop() == 0
    with tarfile.open(tmp_path / "state.tar", "w") as tar:
        tar.add(folder, "refreshd", filter=lambda one: None if "keyring" in one.name else one)
    async with daemon_process(folder) as daemon, plain_caller(**daemon.context) as caller:
        assert (await caller.refresh(connection_id)).code == "ok"

    shutil.unpack_archive(tmp_path / "state.tar", copy.parent)
    without = await refreshd("serve", "--data-dir", str(copy))
    shutil.copy(folder / "keyring.json", copy)

    assert without.code == 2
    assert "restore the keyring" in without.stderr
    async with daemon_process(copy) as daemon, plain_caller(**daemon.context) as caller:
        assert "connections=1 " in daemon.said[-1]
        assert (await caller.get(connection_id))["generation"] == 2
        assert (await caller.refresh(connection_id)).code == "ok"
        stories = await caller.stories()
    assert len(stories[connection_id]) == 6


async def asked(client: Client, subject: str, body: object = None) -> dict[str, Any]:
    message = await client.request(
        f"$JS.API.STREAM.{subject}", b"" if body is None else json.dumps(body).encode(), timeout=10
    )
    answer = json.loads(message.data)
    assert "error" not in answer, answer
    return answer


async def backup(client: Client, stream: str) -> tuple[dict[str, Any], list[bytes]]:
    """Do what ``nats stream backup`` does."""
    inbox = client.new_inbox()
    chunks: list[bytes] = []
    whole = asyncio.Event()

    async def take(message: Msg) -> None:
        if not message.data:
            whole.set()
            return
        chunks.append(message.data)
        await client.publish(message.reply, b"")

    subscription = await client.subscribe(inbox, cb=take)
    described = await asked(client, f"SNAPSHOT.{stream}", {"deliver_subject": inbox})
    async with asyncio.timeout(10):
        await whole.wait()
    await subscription.unsubscribe()
    return {"config": described["config"], "state": described["state"]}, chunks


async def restore(client: Client, stream: str, description: object, chunks: list[bytes]) -> None:
    """Do what ``nats stream restore`` does."""
    subject = (await asked(client, f"RESTORE.{stream}", description))["deliver_subject"]
    for chunk in chunks:
        await client.request(subject, chunk, timeout=10)
    end = await client.request(subject, b"", timeout=10)
    assert "error" not in json.loads(end.data)


@pytest.mark.parametrize("environment", [{}, {"REFRESHD_SERVICE_PREFIX": "refreshd.v2"}])
async def test_streams_that_were_saved_while_no_daemon_ran_are_gone_on_from(
    tmp_path: Path, environment: dict[str, str]
):
    data_dir = tmp_path / "data"
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        client = caller.client
        caller.prefix = environment.get("REFRESHD_SERVICE_PREFIX", caller.prefix)
        arguments = (data_dir, "--nats", server.url)
        async with daemon_process(*arguments, environment=environment) as daemon:
            ids = [await caller.connect() for _ in range(8)]
            assert await daemon.stop() == 0
        streams = (await asked(client, "NAMES"))["streams"]
        saved = {stream: await backup(client, stream) for stream in streams}
        async with daemon_process(*arguments, environment=environment) as daemon:
            for connection_id in ids:
                assert (await caller.refresh(connection_id)).code == "ok"
            assert await daemon.stop() == 0
        for stream, (description, chunks) in saved.items():
            await asked(client, f"DELETE.{stream}")
            await restore(client, stream, description, chunks)

        async with daemon_process(*arguments, environment=environment) as daemon:
            assert "connections=8 " in daemon.said[-1]
            for connection_id in ids:
                assert (await caller.get(connection_id))["generation"] == 1
                assert (await caller.refresh(connection_id)).code == "ok"
