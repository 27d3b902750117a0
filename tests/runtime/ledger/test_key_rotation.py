"""A key is added, takes over as records are written, and is retired, the first one too."""

import contextlib
import json
import signal
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog

from domain.result import Failure, FailureCode, Success
from runtime.cli.client import CommandClient
from runtime.config import Config
from runtime.daemon import KEYRING_FILE, run_daemon
from runtime.ledger.key_rotation import follow_rotation
from runtime.ledger.sealing import KeyringError, open_keyring
from runtime.ledger.streams import ensure_streams
from runtime.ledger.subjects import NO_TAG, bucket_stream
from runtime.nats.embedded import CONTEXT_FILE, read_context
from runtime.nats.jetstream_api import stream_info
from runtime.nats.link import NatsLink, open_link
from tests.fakes.daemon_process import daemon_process, external_nats, plain_caller
from tests.fakes.stream_settings import settings_of

CREDENTIALS = {
    "credential_type": "oauth2",
    "expires_at": "2099-01-01T00:00:00Z",
    "secret": {"access_token": "at", "refresh_token": "rt"},
}


def write_ring(data_dir: Path, primary: str, *others: str) -> None:
    """Write a keyring; a key is its id, thirty-two times over."""
    keys = [
        {"id": one, "key": b64encode(one[-1:].encode() * 32).decode()} for one in (primary, *others)
    ]
    file = data_dir / KEYRING_FILE
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(json.dumps({"primary": primary, "keys": keys}))
    file.chmod(0o600)


class Life(CommandClient):
    """One life of the daemon, and what it logged when it began."""

    missing: list[tuple[str, int]]

    async def connect(self) -> str:
        ids = {"user_id": str(uuid4()), "provider_id": str(uuid4()), "provider_slug": "schwab"}
        made = await self.call("connect", ids | {"credentials": CREDENTIALS})
        assert isinstance(made, Success)
        return made.value["connection_id"]

    async def renew(self, connection_id: str) -> None:
        body = {"credentials": CREDENTIALS}
        assert await self.call(f"connection.{connection_id}.refresh", body) == Success(None)

    async def token(self, connection_id: str) -> str:
        match await self.call(f"connection.{connection_id}.token", {}):
            case Success(value):
                return value["access_token"]
            case Failure() as failure:
                return failure.code


@contextlib.asynccontextmanager
async def life(data_dir: Path) -> AsyncGenerator[Life]:
    with structlog.testing.capture_logs() as logged:
        async with run_daemon(Config(), data_dir):
            began: list[MutableMapping[str, Any]] = list(logged)
            context = read_context(data_dir / CONTEXT_FILE)
            assert context is not None
            async with open_link(context.login(), name="test") as link:
                client = Life(link, prefix="refreshd.v1", timeout_s=5.0)
                client.missing = [
                    (line["key"], line["connections"])
                    for line in began
                    if line["event"] == "key_missing"
                ]
                yield client


async def test_the_first_key_is_retired_when_nothing_is_sealed_with_it_any_more(tmp_path: Path):
    write_ring(tmp_path, "k1")
    async with life(tmp_path) as daemon:
        one, two = await daemon.connect(), await daemon.connect()

    write_ring(tmp_path, "k2", "k1")
    async with life(tmp_path) as daemon:
        assert (await daemon.token(one), await daemon.token(two)) == ("at", "at")
        await daemon.renew(one)

    write_ring(tmp_path, "k2")
    async with life(tmp_path) as daemon:
        assert daemon.missing == [("k1", 1)]
        assert await daemon.token(one) == "at"
        assert await daemon.token(two) == FailureCode.PROVIDER_MISCONFIGURED

    write_ring(tmp_path, "k2", "k1")
    async with life(tmp_path) as daemon:
        assert daemon.missing == []
        assert await daemon.token(two) == "at"
        await daemon.renew(two)

    write_ring(tmp_path, "k2")
    async with life(tmp_path) as daemon:
        assert daemon.missing == []
        assert (await daemon.token(one), await daemon.token(two)) == ("at", "at")
        info = await stream_info(daemon._link, bucket_stream(0, NO_TAG))
        assert info is not None
        noted: Any = info.config["metadata"]
        assert (noted["refreshd.keyring"], noted["refreshd.keyring.earlier"]) == ("k2", "[]")


async def test_what_a_killed_daemon_left_in_its_ledger_alone_counts_and_not_what_it_replaced(
    tmp_path: Path,
):
    write_ring(tmp_path, "k1")
    async with life(tmp_path) as daemon:
        one, two = await daemon.connect(), await daemon.connect()
    write_ring(tmp_path, "k2", "k1")
    settings = {"REFRESHD_STATE_LIMITS_CHECKPOINT_S": "3600"}
    async with (
        daemon_process(tmp_path, environment=settings) as process,
        plain_caller(**process.context) as caller,
    ):
        assert (await caller.refresh(one)).code == "ok"
        await process.stop(signal.SIGKILL)
    write_ring(tmp_path, "k2")

    async with life(tmp_path) as daemon:
        assert daemon.missing == [("k1", 1)]
        assert await daemon.token(one) == "at"
        assert await daemon.token(two) == FailureCode.PROVIDER_MISCONFIGURED


@pytest.mark.parametrize("ring", [("k1",), ("k3",), ("k3", "k1")], ids=str)
async def test_a_ring_without_the_key_that_sealed_last_is_refused(
    tmp_path: Path, ring: tuple[str, ...]
):
    """One from before the rotation, another daemon's, and one that changed all keys at once."""
    write_ring(tmp_path, "k1")
    async with life(tmp_path) as daemon:
        one = await daemon.connect()
    write_ring(tmp_path, "k2", "k1")
    async with life(tmp_path) as daemon:
        pass
    write_ring(tmp_path, *ring)

    with pytest.raises(KeyringError, match="key 'k2' is not in it") as refused:
        async with life(tmp_path):
            pass

    assert str(tmp_path / KEYRING_FILE) in str(refused.value)
    write_ring(tmp_path, "k1", "k2")
    async with life(tmp_path) as daemon:
        assert await daemon.token(one) == "at"


async def test_while_others_cannot_checkpoint_a_retired_key_stays_noted(
    link: NatsLink, tmp_path: Path
):
    async def not_now() -> bool:
        return False

    async def written() -> bool:
        return True

    async def earlier_after(*ring: str, checkpoint: Callable[[], Awaitable[bool]]) -> set[str]:
        write_ring(tmp_path, *ring)
        keyring = open_keyring(tmp_path / KEYRING_FILE, create=False)
        streams = await ensure_streams(link, settings_of(1), keyring_id=lambda: "k1")
        await follow_rotation(link, streams, keyring, checkpoint=checkpoint)
        return {*(await ensure_streams(link, settings_of(1))).earlier_keys}

    assert await earlier_after("k2", "k1", checkpoint=written) == {"k1"}
    with structlog.testing.capture_logs() as logged:
        assert await earlier_after("k2", checkpoint=not_now) == {"k1"}
    assert [line["event"] for line in logged] == ["retired_keys_not_checked"]
    assert await earlier_after("k2", checkpoint=written) == set()


async def test_what_another_member_holds_in_its_ledger_alone_counts_for_a_retired_key(
    tmp_path: Path,
):
    """Its bucket still has what the retired key sealed; the ledger has what replaced that."""
    lazy = {"REFRESHD_STATE_LIMITS_CHECKPOINT_S": "3600"}
    one, two = tmp_path / "one", tmp_path / "two"
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        write_ring(one, "k1")
        async with daemon_process(one, "--nats", server.url) as first:
            ids = [await caller.connect() for _ in range(8)]
            await first.stop()
        write_ring(one, "k2", "k1")
        write_ring(two, "k2")
        async with daemon_process(one, "--nats", server.url, environment=lazy):
            for connection_id in ids:
                assert (await caller.refresh(connection_id)).code == "ok"
            async with daemon_process(two, "--nats", server.url, environment=lazy) as second:
                said = "\n".join(second.said)

    assert "key_missing" not in said
    assert "retired_keys_not_checked" not in said
