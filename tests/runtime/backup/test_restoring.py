"""A restore that was broken off goes on when it is repeated, and is never served half."""

import io
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from domain.result import Success
from runtime.backup import restoring
from runtime.backup.age import PrivateKeys, read_private, read_public, seal
from runtime.backup.archive import End, Head, Kept, encode
from runtime.backup.restoring import NotEmptyError, Restored, restore
from runtime.cli.client import CommandClient
from runtime.config import Config, KeysConfig, NatsConfig
from runtime.daemon import run_daemon
from runtime.ledger.restore_mark import HalfRestoredError
from runtime.ledger.sealing import open_keyring
from runtime.nats.embedded import CONTEXT_FILE, read_context
from runtime.nats.link import open_link
from tests.fakes.backups import IDENTITY
from tests.fakes.daemon_process import external_nats
from tests.fakes.refreshd_command import refreshd
from tests.runtime.backup.test_archive import HEAD, kept

COUNT = 300
BY: PrivateKeys = read_private(IDENTITY)


class KilledError(Exception):
    """Stands for whatever ends a restore."""


async def backup(head: Head) -> io.BytesIO:
    async def lines() -> AsyncGenerator[bytes]:
        yield encode(head)
        for number in range(COUNT):
            yield encode(kept(number + 1))
        yield encode(End(connections=COUNT))

    out = io.BytesIO()
    await seal(lines(), read_public([str(BY.identities[0].to_public())]), out)
    out.seek(0)
    return out


async def restored(head: Head, data_dir: Path) -> Restored:
    return await restore(Config(), data_dir, await backup(head), BY)


async def test_half_of_a_state_is_not_served_and_the_same_file_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taken = 0
    take = restoring._Writing.take

    async def take_some(writing: restoring._Writing, one: Kept) -> None:
        nonlocal taken
        taken += 1
        if taken > COUNT // 2:
            await writing.end()
            raise KilledError
        await take(writing, one)

    with monkeypatch.context() as patched:
        patched.setattr(restoring._Writing, "take", take_some)
        with pytest.raises(ExceptionGroup) as broken:
            await restored(HEAD, tmp_path)
    assert broken.group_contains(KilledError)

    of_which = f"backup {HEAD.id} of 2026-11-27T00:00:00Z"
    with pytest.raises(HalfRestoredError, match=f"{re.escape(of_which)} was broken off: repeat"):
        async with run_daemon(Config(), tmp_path):
            pass
    served = await refreshd("serve", "--data-dir", str(tmp_path))
    assert (served.code, of_which in served.stderr) == (4, True)
    with pytest.raises(NotEmptyError, match=f"{re.escape(of_which)} was restored in part"):
        await restored(msgspec.structs.replace(HEAD, id=UUID(int=10)), tmp_path)

    assert (await restored(HEAD, tmp_path)).connections == COUNT

    with pytest.raises(NotEmptyError, match="connections are stored here"):
        await restored(HEAD, tmp_path)
    async with run_daemon(Config(), tmp_path):
        context = read_context(tmp_path / CONTEXT_FILE)
        assert context is not None
        async with open_link(context.login(), name="test") as link:
            client = CommandClient(link, prefix="refreshd.v1")
            for number in (1, COUNT):
                answer = await client.call(f"connection.{UUID(int=number)}.token")
                assert isinstance(answer, Success)


async def test_the_first_start_after_a_restore_waits_for_nobody(tmp_path: Path):
    key_file = tmp_path / "keyring.json"
    open_keyring(key_file, create=True)
    async with external_nats(tmp_path) as server:
        config = Config(nats=NatsConfig(url=server.url), keys=KeysConfig(file=key_file))
        await restore(config, tmp_path / "one", await backup(HEAD), BY)

        with capture_logs() as logs:
            async with run_daemon(config, tmp_path / "two"):
                pass

    assert "partition_awaited" not in [one["event"] for one in logs]
