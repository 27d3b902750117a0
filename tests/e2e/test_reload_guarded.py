"""A reload where other daemons, other users' rights and secrets in bad files are in the way."""

import asyncio
import base64
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.cluster import Cluster, cluster_of
from tests.fakes.daemon_process import DaemonProcess, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import guarded_server
from tests.fakes.papers import block
from tests.fakes.refreshd_command import refreshd
from tests.fakes.steady_callers import SteadyCallers
from tests.fakes.token_daemon import connect, token, write_config

CANARY = "canary-5d21c0"
SECOND = {"id": "k-2", "key": base64.b64encode(bytes(range(32))).decode()}


def _lines(daemon: DaemonProcess, *events: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in daemon.said if line.startswith("{")]
    return [line for line in found if line["event"] in events]


async def _reload(*daemons: DaemonProcess) -> list[str]:
    """Send SIGHUP to each, and return what came of it."""
    events = ("reloaded", "reload_refused")
    before = [len(_lines(one, *events)) for one in daemons]
    for one in daemons:
        one.process.send_signal(signal.SIGHUP)
    for one, lines in zip(daemons, before, strict=True):
        await eventually(lambda one=one, lines=lines: len(_lines(one, *events)) > lines)
    return [_lines(one, *events)[-1]["event"] for one in daemons]


@pytest.mark.timeout(90)
async def test_two_members_change_key_and_profile_under_load_and_either_opens_all(tmp_path: Path):
    async with running_fake_provider() as provider, cluster_of(tmp_path, provider) as cluster:
        members = await cluster.of(2)
        callers = SteadyCallers(cluster.caller, provider)
        await callers.prepare(connections=6, grants=6)
        keyring = _keyring_of(members[0])
        ring = json.loads(keyring.read_text())

        async with callers.busy():
            keyring.write_text(json.dumps({**ring, "keys": [*ring["keys"], SECOND]}))
            added = await _reload(*members)
            keyring.write_text(json.dumps({"primary": "k-2", "keys": [*ring["keys"], SECOND]}))
            rotated = await _reload(*members)
            _write_profile(tmp_path, provider)
            changed = await _reload(*members)
            await callers.more(3)
        await callers.check()
        await _left_alone(cluster, members)
        opened = [await token(cluster.caller, one) for one in callers.grants]

    assert [*added, *rotated, *changed] == ["reloaded"] * 6
    assert callers.errors == []
    assert {answer.code for answer in opened} == {"ok"}


def _keyring_of(member: DaemonProcess) -> Path:
    return member.data_dir / "keyring.json"


def _write_profile(folder: Path, provider: FakeProvider) -> None:
    write_config(folder, provider, max_concurrency="1", rate_per_s="200", burst="20")


async def _left_alone(cluster: Cluster, members: list[DaemonProcess]) -> None:
    await cluster.left_by(members[0], signal.SIGKILL)
    await cluster.balanced(within_s=20)


async def test_the_daemon_s_own_rights_are_enough_for_a_new_key(tmp_path: Path):
    password = tmp_path / "password"
    password.write_text("pw")
    passwords = ("DAEMON", "APP", "TOKENS", "READER", "EVENTS", "ADMIN", "SETUP", "AUDIT")
    permissions = block("SECURITY.md", "", "accounts")
    async with guarded_server(tmp_path, permissions, passwords) as url:
        environment = {
            "REFRESHD_NATS_URL": url,
            "REFRESHD_NATS_USER": "daemon",
            "REFRESHD_NATS_PASSWORD_FILE": str(password),
        }
        async with daemon_process(tmp_path / "data", environment=environment) as daemon:
            keyring = _keyring_of(daemon)
            ring = json.loads(keyring.read_text())
            keyring.write_text(json.dumps({"primary": "k-2", "keys": [*ring["keys"], SECOND]}))

            became = await _reload(daemon)
            assert await daemon.stop() == 0
        keyring.write_text(json.dumps(ring))
        former = await refreshd("serve", "--data-dir", str(tmp_path / "data"), **environment)

    assert became == ["reloaded"]
    # What sealed last was noted beside the state.
    assert former.code == 2
    assert "key 'k-2' is not in it" in former.stderr


async def test_a_new_key_waits_where_it_cannot_be_noted_and_nothing_else_is_taken(tmp_path: Path):
    async with running_fake_provider() as provider, cluster_of(tmp_path, provider) as cluster:
        (daemon,) = await cluster.of(1)
        keyring = _keyring_of(daemon)
        ring = json.loads(keyring.read_text())
        keyring.write_text(json.dumps({"primary": "k-2", "keys": [SECOND]}))
        await cluster.caller.client.jetstream().delete_stream("KV_refreshd_connections_00")

        became = await _reload(daemon)

        refused = _lines(daemon, "reload_refused")[-1]

    assert became == ["reload_refused"]
    assert "KV_refreshd_connections_00" in refused["message"]
    assert ring["primary"] != "k-2"


@pytest.mark.parametrize(
    "text",
    [
        f'[providers.fake]\nclient_secret = "{CANARY}"\n',
        f'[nats]\nurl = "http://us:{CANARY}@a:4222"\n',
        f'[log]\nlevel = "{CANARY}"\n',
        f'[nats]\nreplicas = "{CANARY}"\n',
        f'[providers.fake]\nproxy = "http://us:{CANARY}@p:1"\n',
        f"[providers.fake]\nextra_headers = {{ authorization = '{CANARY}' }}\n",
        f'[keys]\nfile = "PLACE/{"keyring-of-canary"}"\n',
        f'[providers.fake]\nclient_auth = "{CANARY}"\nmargin_s = "{CANARY}"\n',
        f"a = {CANARY}\n",
        f'[providers.fake]\nreuse_policy = "{CANARY}"\n',
    ],
)
async def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, text: str):
    bad = tmp_path / "keyring-of-canary"
    bad.write_text(f'{{"primary": "{CANARY}", "keys": ["{CANARY}"]}}')
    bad.chmod(0o600)
    config = tmp_path / "refreshd.toml"
    config.write_text("")
    async with daemon_process(tmp_path / "data", "--config", str(config)) as daemon:
        await asyncio.to_thread(config.write_text, text.replace("PLACE", str(tmp_path)))

        became = await _reload(daemon)
        checked = await refreshd("check", str(config), "--data-dir", str(tmp_path / "data"))
        assert await daemon.stop() == 0

    assert became == ["reload_refused"]
    assert checked.code == 2
    assert CANARY not in "".join((*daemon.said, checked.stdout, checked.stderr))


async def test_the_daemon_is_killed_in_the_middle_of_reloads_and_starts_again(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider, refresh='"on_demand"')
        for number in range(4):
            async with (
                daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
                plain_caller(**daemon.context) as caller,
            ):
                one, _ = await connect(caller, provider)
                keyring = _keyring_of(daemon)
                ring = json.loads(keyring.read_text())
                fresh = {**SECOND, "id": f"k-{number}"}
                keyring.write_text(
                    json.dumps({"primary": fresh["id"], "keys": [*ring["keys"], fresh]})
                )
                asked = asyncio.create_task(token(caller, one))
                daemon.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.004 * number)
                await daemon.stop(signal.SIGKILL)
                asked.cancel()
                await asyncio.wait([asked])
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            found = await caller.ask("connections.list", {})

    assert len(found.body["ok"]["connections"]) == 4
    assert not _lines(daemon, "key_missing", "cannot_unseal")
