"""The demo's verdict is read from the store and the stream: each broken promise shows."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
import pytest

from runtime.cli.client import CommandClient
from runtime.cli.demo import Run, verdict
from runtime.config import Config
from runtime.daemon import run_daemon
from runtime.data_folder import KEYRING_FILE
from runtime.ledger.sealing import Keyring, open_keyring
from runtime.ledger.subjects import NO_TAG, bucket_stream, partition_of
from runtime.nats.embedded import CONTEXT_FILE, read_context
from runtime.nats.jetstream_api import last_message
from runtime.nats.link import NatsLink, open_link
from tests.fakes.connections import record_subject
from tests.fakes.daemon_process import CREDENTIALS


class Scene(NamedTuple):
    """One connection, refreshed once, and what its caller knows."""

    link: NatsLink
    client: CommandClient
    keyring: Keyring
    run: Run
    connection_id: str

    async def broken(self) -> list[int]:
        """Return the positions of the promises that the verdict finds broken."""
        checks = await verdict(self.link, self.client, self.keyring, self.run, 1)
        return [position for position, check in enumerate(checks) if not check.kept]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with run_daemon(Config(), tmp_path):
        context = read_context(tmp_path / CONTEXT_FILE)
        assert context is not None
        async with open_link(context.login(), name="test") as link:
            client = CommandClient(link, prefix="refreshd.v1")
            connection_id = str(uuid4())
            body = {
                "user_id": connection_id,
                "provider_id": connection_id,
                "provider_slug": "demo",
                "connection_id": connection_id,
                "credentials": CREDENTIALS,
            }
            await client.call("connect", body)
            refresh = {"credentials": CREDENTIALS}
            await client.call(f"connection.{connection_id}.refresh", refresh)
            run = Run()
            run.acknowledged[connection_id] = 1
            run.tokens[connection_id] = {"at"}
            keyring = open_keyring(tmp_path / KEYRING_FILE, create=False)
            yield Scene(link, client, keyring, run, connection_id)


async def test_an_honest_run_breaks_no_promise(scene: Scene):
    assert await scene.broken() == []


async def test_a_refresh_that_was_acknowledged_and_is_not_stored_shows(scene: Scene):
    scene.run.acknowledged[scene.connection_id] = 2

    assert await scene.broken() == [1, 2, 3]


async def test_a_connection_that_is_not_there_shows(scene: Scene):
    scene.run.acknowledged[str(uuid4())] = 1

    assert 1 in await scene.broken()


async def test_a_refused_refresh_shows(scene: Scene):
    scene.run.refused["DATABASE_ERROR"] = 1

    assert await scene.broken() == [1]


async def test_a_secret_that_nobody_was_told_is_stored_shows(scene: Scene):
    scene.run.tokens[scene.connection_id] = {"another"}

    assert await scene.broken() == [4]


async def test_a_record_that_is_another_generation_than_its_events_tell_shows(scene: Scene):
    connection_id = UUID(scene.connection_id)
    subject = record_subject(connection_id, 4)
    stream = bucket_stream(partition_of(connection_id, 4), NO_TAG)
    await scene.client.call("connections.list", {})
    message = await last_message(scene.link, stream, subject)
    assert message is not None
    record = msgspec.msgpack.decode(message.data)
    record["connection"]["generation"] = 5
    await scene.link.request(subject, msgspec.msgpack.encode(record), timeout_s=5)

    assert await scene.broken() == [2, 4]
