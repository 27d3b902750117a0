"""A backup: all that is stored in one sealed file, and a daemon that goes on from it."""

import asyncio
import base64
import contextlib
import json
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.backups import Keys, exported, new_keys, restored
from tests.fakes.daemon_process import (
    CREDENTIALS,
    PlainCaller,
    daemon_process,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import guarded_server
from tests.fakes.papers import block
from tests.fakes.plain_contract import STATUSES, stored
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import connect, token, write_config

CANARY = "canary-in-a-backup"
TYPES = ("oauth2", "api_key", "link_token", "certificate", "file_import", "custom")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return new_keys(tmp_path)


@contextlib.asynccontextmanager
async def running(
    data_dir: Path, *arguments: str, environment: dict[str, str] | None = None
) -> AsyncGenerator[PlainCaller]:
    """Yield a caller of a daemon."""
    async with (
        daemon_process(data_dir, *arguments, environment=environment) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        yield caller


async def all_of(caller: PlainCaller) -> dict[str, dict[str, Any]]:
    """Return what is shown of every connection."""
    answer = await caller.ask("connections.list", {"limit": 1000})
    assert answer.body["ok"]["cursor"] is None
    return {one["id"]: one for one in answer.body["ok"]["connections"]}


def names_in(folder: Path, part: str) -> list[str]:
    return [one.name for one in folder.iterdir() if part in one.name]


async def a_state(caller: PlainCaller, provider: FakeProvider) -> dict[str, str]:
    """Make a connection of every status, type and kind; return some ids by what they are."""
    for status in STATUSES:
        await stored(caller, status)
    for credential_type in TYPES:
        secret = {"access_token": CANARY, "more": [1, {"deep": "\u20ac"}]}
        about = {"credential_type": credential_type, "expires_at": "2098-01-01T00:00:00Z"}
        await caller.connect(credentials=about | {"secret": secret})
        await caller.connect(credentials=about | {"encrypted_data": "b3BhcXVl"})
    living, _ = await connect(caller, provider, lives_s=3600.0)
    expired, _ = await connect(
        caller, provider, alias="mine \u20ac", params={"region": "eu"}, lives_s=-1.0
    )
    rotated, _ = await connect(caller, provider, lives_s=-1.0)
    assert (await token(caller, rotated)).code == "ok"
    assert (await caller.ask(f"connection.{living}.synced")).code == "ok"
    again = {"Nats-Msg-Id": "before-the-backup"}
    assert (await caller.refresh(living, headers=again)).code == "ok"
    troubled, grant = await connect(caller, provider, lives_s=-1.0)
    provider.book.revoke(provider.book.get(grant.grant_id), "admin")  # type: ignore[arg-type]
    assert (await token(caller, troubled)).code == "REAUTH_REQUIRED"
    return {"living": living, "expired": expired, "rotated": rotated, "troubled": troubled}


async def test_a_daemon_with_another_keyring_goes_on_where_the_other_was(
    tmp_path: Path, keys: Keys
):
    file = tmp_path / "backup.age"
    async with running_fake_provider() as provider:
        on_demand = write_config(tmp_path, provider, refresh='"on_demand"')
        config = ("--config", str(on_demand))
        async with running(tmp_path / "one", *config) as caller:
            ids = await a_state(caller, provider)
            before = await all_of(caller)
            out = await exported(file, keys, *config, "--data-dir", str(tmp_path / "one"))
        assert out.code == 0, out.stderr
        assert json.loads(out.stdout)["connections"] == len(before) == 22
        assert file.stat().st_mode & 0o777 == 0o600
        assert CANARY.encode() not in file.read_bytes()
        assert CANARY not in out.stdout + out.stderr
        assert names_in(tmp_path, "backup") == ["backup.age"]

        partitions = {"REFRESHD_STATE_PARTITIONS": "3"}
        there = (*config, "--data-dir", str(tmp_path / "two"))
        back = await restored(file, keys, *there, **partitions)

        assert back.code == 0, back.stderr
        told = [json.loads(one.stdout) for one in (out, back)]
        assert told[0].keys() - told[1].keys() == {"file", "left_sealed"}
        assert told[1] == {name: told[0][name] for name in told[1]}
        assert told[1]["backup"] == keys.lines(file)[0]["id"]
        rings = [(tmp_path / name / "keyring.json").read_text() for name in ("one", "two")]
        assert rings[0] != rings[1]
        async with running(tmp_path / "two", *config) as caller:
            assert await all_of(caller) == before
            assert sum((await caller.by_status()).values()) == len(before)
            calls = provider.stats.calls
            answers = {name: await token(caller, ids[name]) for name in ids}
            assert answers["living"].body["ok"]["generation"] == 2
            assert answers["expired"].body["ok"]["generation"] == 2
            assert answers["rotated"].body["ok"]["generation"] == 2
            assert answers["troubled"].code == "REAUTH_REQUIRED"
            assert provider.stats.calls == calls + 1
            assert provider.stats.reuses_detected == 0
            again = {"Nats-Msg-Id": "before-the-backup"}
            assert (await caller.refresh(ids["living"], headers=again)).code == "ok"
            assert (await caller.get(ids["living"]))["generation"] == 2
            for connection_id, one in before.items():
                if one["status"] == "active" and one["provider_slug"] == "schwab":
                    given = (
                        one["credentials"]["credential_type"],
                        await token(caller, connection_id),
                    )
                    assert given[1].code in ("ok", "NOT_REFRESHABLE"), given
            stories = await caller.stories()
        assert stories.keys() <= {*ids.values()}


async def serve_in_vain(data_dir: Path, *arguments: str) -> None:
    """Let a daemon that has nothing stored go through all of it, and note that."""
    async with (
        daemon_process(data_dir, *arguments) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        # What it refuses is told by events, and the views' markers move on with them.
        for _ in range(100):
            assert (await caller.refresh(str(uuid4()))).code == "CONNECTION_NOT_FOUND"
        assert await daemon.stop() == 0


@pytest.mark.parametrize("was_served", [False, True])
async def test_what_was_restored_is_refreshed_in_time_although_nobody_asks(
    tmp_path: Path, keys: Keys, was_served: bool
):
    file = tmp_path / "backup.age"
    async with running_fake_provider() as provider:
        async with running(tmp_path / "one") as caller:
            connection_id, _ = await connect(caller, provider, lives_s=-1.0)
            assert (await exported(file, keys, "--data-dir", str(tmp_path / "one"))).code == 0
        # The provider has a profile only where it is restored.
        config = ("--config", str(write_config(tmp_path, provider)))
        if was_served:
            await serve_in_vain(tmp_path / "two", *config)
        back = await restored(file, keys, "--data-dir", str(tmp_path / "two"))
        assert back.code == 0, back.stderr
        async with running(tmp_path / "two", *config) as caller:

            async def is_refreshed() -> bool:
                return (await caller.get(connection_id))["generation"] == 2

            await eventually(is_refreshed, within_s=30)
        assert provider.stats.calls == 1


async def test_a_passphrase_seals_and_opens_as_well(tmp_path: Path):
    file, passphrase = tmp_path / "backup.age", tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    sealed = (str(file), "--passphrase-file", str(passphrase))
    async with running(tmp_path / "one") as caller:
        connection_id = await caller.connect()
        out = await refreshd("export", *sealed, "--data-dir", str(tmp_path / "one"))

    back = await refreshd("restore", *sealed, "--data-dir", str(tmp_path / "two"))

    assert (out.code, back.code) == (0, 0), out.stderr + back.stderr
    assert file.read_bytes().startswith(b"age-encryption.org/v1\n-> scrypt ")
    async with running(tmp_path / "two") as caller:
        assert (await token(caller, connection_id)).code == "ok"


async def test_every_secret_and_field_is_in_the_file_as_it_was_given(tmp_path: Path, keys: Keys):
    file = tmp_path / "backup.age"
    text = b'{"access_token": "\\u20ac",\n  "n": 1.0e2}'
    body = b'{"user_id":"%b","provider_id":"%b","provider_slug":"s","credentials":' % (
        (str(uuid4()).encode(),) * 2
    )
    body += b'{"credential_type":"oauth2","secret":' + text + b"}}"
    async with running(tmp_path / "data") as caller:
        made = await caller.ask("connect", body)
        out = await exported(file, keys, "--data-dir", str(tmp_path / "data"))
        piped = await refreshd(
            *(
                "export",
                "-",
                "--recipient",
                keys.recipient,
                "--data-dir",
                str(tmp_path / "nowhere"),
            ),
        )

    assert (out.code, piped.code, piped.stdout) == (0, 2, "")
    assert "give the daemon's --data-dir" in piped.stderr
    head, kept, end = keys.lines(file)
    assert (head["is"], head["format"], head["prefix"]) == ("refreshd_backup", 1, "refreshd.v1")
    assert kept["record"]["connection"]["id"] == made.body["ok"]["connection_id"]
    assert base64.b64decode(kept["secret"]) == text
    assert end == {"is": "end", "connections": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_where_connections_are_stored_nothing_is_restored(
    tmp_path: Path, keys: Keys, number: signal.Signals
):
    file, data_dir = tmp_path / "backup.age", tmp_path / "two"
    async with running(tmp_path / "one") as caller:
        await caller.connect()
        assert (await exported(file, keys, "--data-dir", str(tmp_path / "one"))).code == 0
        living = await restored(file, keys, "--data-dir", str(tmp_path / "one"))
    # Killed before a checkpoint it has left what it stored in its ledger alone.
    seldom = {"REFRESHD_STATE_LIMITS_CHECKPOINT_S": "60"}
    async with (
        daemon_process(data_dir, environment=seldom) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        connection_id = await caller.connect()
        await daemon.stop(number)

    refused = await restored(file, keys, "--data-dir", str(data_dir))

    assert living.code == 1
    assert "another refreshd uses this data folder" in living.stderr
    assert refused.code == 4
    assert "connections are stored here: a backup is restored into an empty" in refused.stderr
    async with running(data_dir) as caller:
        assert (await all_of(caller)).keys() == {connection_id}


async def test_an_export_waits_for_what_was_acknowledged_and_is_in_the_ledger_alone(
    tmp_path: Path, keys: Keys
):
    file, seldom = tmp_path / "backup.age", {"REFRESHD_STATE_LIMITS_CHECKPOINT_S": "2"}
    async with running(tmp_path / "data", environment=seldom) as caller:
        connection_id = await caller.connect()
        out = await exported(file, keys, "--data-dir", str(tmp_path / "data"))

    assert out.code == 0, out.stderr
    [kept] = keys.lines(file)[1:-1]
    assert kept["record"]["connection"]["id"] == connection_id


async def test_an_export_under_writes_has_each_connection_as_new_as_it_was_at_the_beginning(
    tmp_path: Path, keys: Keys
):
    file = tmp_path / "backup.age"
    async with running(tmp_path / "data") as caller:
        ids = [await caller.connect() for _ in range(200)]
        is_over = asyncio.Event()

        async def write() -> None:
            while not is_over.is_set():
                for connection_id in ids:
                    assert (await caller.refresh(connection_id)).code == "ok"

        writing = asyncio.create_task(write())
        await asyncio.wait({writing}, timeout=0.5)
        before = await all_of(caller)
        out = await exported(file, keys, "--data-dir", str(tmp_path / "data"))
        is_over.set()
        await writing

    assert out.code == 0, out.stderr
    last = {one["record"]["connection"]["id"]: one for one in keys.lines(file)[1:-1]}
    assert last.keys() == before.keys()
    for connection_id, one in last.items():
        generation = one["record"]["connection"]["generation"]
        assert generation >= before[connection_id]["generation"]
    back = await restored(file, keys, "--data-dir", str(tmp_path / "two"))
    assert back.code == 0, back.stderr
    async with running(tmp_path / "two") as caller:
        after = await all_of(caller)
    assert {i: one["generation"] for i, one in after.items()} == {
        i: one["record"]["connection"]["generation"] for i, one in last.items()
    }


async def test_a_file_that_is_cut_damaged_or_anothers_restores_nothing(tmp_path: Path, keys: Keys):
    file, bad, data_dir = tmp_path / "backup.age", tmp_path / "bad.age", tmp_path / "two"
    async with running(tmp_path / "one") as caller:
        for _ in range(3):
            await caller.connect()
        assert (await exported(file, keys, "--data-dir", str(tmp_path / "one"))).code == 0
    whole = file.read_bytes()
    (tmp_path / "other").mkdir()
    others = new_keys(tmp_path / "other")
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in keys.lines(file)[:-1])

    for text, opening, said in (
        (whole[:-20], keys, "damaged, or cut off"),
        (whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:], keys, "damaged, or cut off"),
        (whole, others, "another key"),
        (b"no such thing", keys, "it is not a file in the age format"),
        (keys.seal(bad, lines).read_bytes(), keys, "it is not a whole backup"),
        (keys.seal(bad, b"hello\n").read_bytes(), keys, "it is no backup of refreshd's"),
    ):
        bad.write_bytes(text)
        ended = await restored(bad, opening, "--data-dir", str(data_dir))
        assert ended.code == 2, said
        assert said in ended.stderr
        assert "AGE-SECRET" not in ended.stderr
    assert not data_dir.exists()


async def test_what_no_key_opens_stays_sealed_and_is_told(tmp_path: Path, keys: Keys):
    file, one = tmp_path / "backup.age", tmp_path / "one"
    async with running(one) as caller:
        connection_id = await caller.connect()
        ring = (one / "keyring.json").read_text()
        (one / "keyring.json").write_text(ring.replace('"k-', '"x-'))
        out = await exported(file, keys, "--data-dir", str(one))
    back = await restored(file, keys, "--data-dir", str(tmp_path / "two"))
    rings = [json.loads(ring), json.loads((tmp_path / "two" / "keyring.json").read_text())]
    rings[1]["keys"] += rings[0]["keys"]
    (tmp_path / "two" / "keyring.json").write_text(json.dumps(rings[1]))

    assert out.code == 1
    assert json.loads(out.stdout)["left_sealed"] == 1
    assert "1 connections are sealed with key 'k-" in out.stderr
    assert back.code == 0, back.stderr
    async with running(tmp_path / "two") as caller:
        answer = await token(caller, connection_id)
    assert answer.body["ok"]["access_token"] == CREDENTIALS["secret"]["access_token"]


async def test_the_daemons_rights_on_the_server_are_enough(tmp_path: Path, keys: Keys):
    users = ("daemon", "app", "tokens", "reader", "events", "admin", "setup", "audit")
    password = tmp_path / "password"
    password.write_text("pw\n")
    password.chmod(0o600)
    as_daemon = {"REFRESHD_NATS_USER": "daemon", "REFRESHD_NATS_PASSWORD_FILE": str(password)}
    papers = block("SECURITY.md", "", "accounts")
    async with guarded_server(tmp_path, papers, (one.upper() for one in users)) as url:
        there = ("--nats", url, "--data-dir", str(tmp_path / "data"))
        async with (
            daemon_process(tmp_path / "data", "--nats", url, environment=as_daemon),
            plain_caller(url, user="app", password="pw", inbox_prefix="_INBOX_app") as caller,
        ):
            await caller.connect()
            out = await exported(tmp_path / "backup.age", keys, *there, **as_daemon)
        assert out.code == 0, out.stderr
    (tmp_path / "fresh").mkdir()
    async with guarded_server(tmp_path / "fresh", papers, (one.upper() for one in users)) as url:
        there = ("--nats", url, "--data-dir", str(tmp_path / "data"))
        back = await restored(tmp_path / "backup.age", keys, *there, **as_daemon)
    assert back.code == 0, back.stderr
    assert json.loads(back.stdout)["connections"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "{folder}/b"), "--passphrase-file or --recipient is needed"),
        (("restore", "{folder}/b"), "--passphrase-file or --identity-file is needed"),
        (("export", "{folder}/b", "--recipient", "age1x"), "not a public key of age"),
        (("export", "{folder}/b", "--passphrase-file", "/nowhere"), "/nowhere: No such file"),
        (("export", "{folder}/b", "--passphrase-file", "{empty}"), "the passphrase is empty"),
        (("restore", "{folder}/b", "--identity-file", "{empty}"), "not private keys of age"),
        (("restore", "{folder}/b", "--passphrase-file", "{full}"), "/b: No such file"),
        (("restore", "-", "--passphrase-file", "{full}"), "restore reads its file twice"),
        (("restore", "/dev/stdin", "--passphrase-file", "{full}"), "restore reads its file twice"),
    ],
)
async def test_wrong_usage_is_2(tmp_path: Path, arguments: tuple[str, ...], said: str):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.write_text("\n")
    full.write_text("words\n")
    named = {"folder": tmp_path, "empty": empty, "full": full}

    ended = await refreshd(
        *(part.format(**named) for part in arguments), "--data-dir", str(tmp_path / "data")
    )

    assert ended.code == 2
    assert said in ended.stderr
    assert not (tmp_path / "data").exists()
