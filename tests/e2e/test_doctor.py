"""``refreshd doctor`` against daemons: what is sound is said to be, what is not has its mend."""

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.config import load_config
from runtime.daemon import run_daemon
from runtime.fake_provider.server import running_fake_provider
from runtime.nats.link import Login, open_link
from tests.fakes.daemon_process import DaemonProcess, daemon_process
from tests.fakes.nats_process import guarded_server, nats_process
from tests.fakes.page_users import daemon, user
from tests.fakes.papers import block
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import write_config


async def test_a_daemon_on_its_own_is_sound_and_what_others_can_read_is_named(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = str(write_config(tmp_path, provider, secret="canary-of-the-secret"))
        async with daemon_process(tmp_path / "data", "--config", config) as process:
            here = ("--config", config, "--data-dir", str(process.data_dir))
            found = await refreshd("doctor", *here, "-o", "json")
            table = await refreshd("doctor", *here, COLUMNS="80")

    assert (found.code, table.code) == (0, 0), found
    findings = json.loads(found.stdout)
    [exposed] = [one for one in findings if one["state"] != "ok"]
    assert (exposed["check"], exposed["state"]) == ("secrets", "warning")
    assert "providers.fake.client_secret_file" in exposed["text"]
    assert {"permissions", "keys", "clock of nats", "profiles", "keyring"} <= {
        one["check"] for one in findings
    }
    long = [line for line in table.stdout.splitlines() if len(line) > 80]
    assert all(str(tmp_path) in line for line in long)
    assert f"{tmp_path / 'client-secret'}\n" in table.stdout
    assert "canary" not in found.stdout + table.stdout


async def test_what_is_wrong_on_this_machine_is_said_without_a_daemon(tmp_path: Path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "keyring.json").write_text("{}")
    (tmp_path / "data" / "keyring.json").chmod(0o644)
    config = tmp_path / "refreshd.toml"
    config.write_text('[providers.fake]\ntoken_endpoint = "http://x.example/token"\n')

    here = ("--config", str(config), "--data-dir", str(tmp_path / "data"))
    found = await refreshd("doctor", *here, "-o", "jsonl")

    findings = {one["check"]: one for one in map(json.loads, found.stdout.splitlines())}
    assert found.code == 1
    assert {check for check, one in findings.items() if one["state"] == "problem"} == {
        *("daemon", "profiles", "keyring")
    }
    assert "providers.fake" in findings["profiles"]["text"]
    assert "chmod 0600" in findings["keyring"]["text"]
    assert all(one["mend"] for one in findings.values() if one["state"] != "ok")


async def test_why_no_daemon_answers_is_told_apart_with_the_mend_of_each(tmp_path: Path):
    data, users = tmp_path / "data", [{"user": "us", "password": "pw"}]
    async with nats_process(tmp_path, {"authorization": {"users": users}}) as server:
        there = server.login.url.replace("://", "://us:pw@")
        absent = await told_of_daemon("--nats", there, "--data-dir", str(data))
        refused = await told_of_daemon("--nats", server.login.url, "--data-dir", str(data))
    away = await told_of_daemon("--nats", server.login.url, "--data-dir", str(data))
    async with daemon_process(data) as process:
        process.process.send_signal(signal.SIGSTOP)
        mute = await told_of_daemon("--data-dir", str(data), "--timeout-s", "0.5")
        process.process.send_signal(signal.SIGCONT)
        context = json.loads((data / "context.json").read_text())
        (data / "context.json").write_text(json.dumps(context | {"password": "wrong"}))
        stranger = await told_of_daemon("--data-dir", str(data))
    gone = await told_of_daemon("--data-dir", str(data))

    assert "no daemon answers on refreshd.v1.>" in absent["text"]
    assert absent["mend"].startswith("NATS is there; start one with `refreshd serve")
    assert "NATS refuses the login" in refused["text"]
    assert refused["mend"].startswith("look at nats.user and nats.password_file")
    assert "no NATS server listens there" in away["text"]
    assert away["mend"].startswith("start nats-server there")
    assert "a daemon listens" in mute["text"]
    assert mute["mend"].startswith("see whether its process stands still")
    assert "NATS refuses the login" in stranger["text"]
    assert stranger["mend"].startswith(f"{data / 'context.json'} is of another server")
    assert gone["text"].endswith("Connection refused: no daemon listens there")
    assert gone["mend"] == f"start one with `refreshd serve --data-dir {data}`"
    assert "pw" not in str([absent, refused, away, mute, stranger, gone])


async def told_of_daemon(*options: str) -> dict[str, str]:
    """Return what ``doctor`` finds of the daemon, which a verb says in the same words."""
    found = await refreshd("doctor", *options, "-o", "json")
    asked = await refreshd("list", *options)
    [told] = [one for one in json.loads(found.stdout) if one["check"] == "daemon"]
    assert (found.code, told["state"]) == (1, "problem")
    assert (asked.code, asked.stderr) == (69, f"refreshd: {told['text']}: {told['mend']}\n")
    return told


BROKEN = [
    ("[nope]\n", "nope"),
    ("[providers.fake\n", "refreshd.toml"),
    ("[log]\nlevel = 7\n", "level"),
    ("providers = 7\n", "providers"),
]


@pytest.mark.parametrize(("text", "named"), BROKEN)
async def test_beside_a_broken_configuration_all_else_is_looked_at(
    daemon: DaemonProcess, tmp_path: Path, text: str, named: str
):
    config = tmp_path / "refreshd.toml"
    config.write_text(text)

    here = ("--config", str(config), "--data-dir", str(daemon.data_dir))
    found = await refreshd("doctor", *here, "-o", "json")

    [broken] = [one for one in json.loads(found.stdout) if one["check"] == "configuration"]
    assert (found.code, broken["state"]) == (1, "problem")
    assert named in broken["text"]
    assert f"`refreshd check {config}`" in broken["mend"]
    states = {one["check"]: one["state"] for one in json.loads(found.stdout)}
    assert states["daemon"] == states["partitions"] == states["keyring"] == "ok"
    assert ("profiles" in states) == text.startswith(("[nope]", "[log]"))


@pytest.mark.parametrize("text", ["[nats]\nurl = 7\n", '[service]\nprefix = "a b"\n'])
async def test_where_the_broken_part_says_where_the_daemon_is_none_is_asked_unless_named(
    daemon: DaemonProcess, tmp_path: Path, text: str
):
    config = tmp_path / "refreshd.toml"
    config.write_text(text)
    here = ("--config", str(config), "--data-dir", str(daemon.data_dir), "-o", "json")

    found = await refreshd("doctor", *here)
    named = await refreshd("doctor", *here, "--nats", "nats://127.0.0.1:9")

    [told] = [one for one in json.loads(found.stdout) if one["check"] == "daemon"]
    assert (told["state"], told["text"][:9]) == ("warning", "not asked")
    [told] = [one for one in json.loads(named.stdout) if one["check"] == "daemon"]
    assert told["state"] == "problem"


@pytest.mark.parametrize(("text", "named"), BROKEN)
async def test_a_verb_that_asks_says_how_to_do_so_beside_a_broken_file(
    daemon: DaemonProcess, tmp_path: Path, text: str, named: str
):
    config = tmp_path / "refreshd.toml"
    config.write_text(text)
    here = ("--data-dir", str(daemon.data_dir))

    refused = await refreshd("list", "--config", str(config), *here)
    asked = await refreshd("list", *here, "--config", "/dev/null", REFRESHD_CONFIG=str(config))

    assert refused.code == 2
    assert named in refused.stderr
    assert "to ask without this file: --config /dev/null" in refused.stderr
    assert (asked.code, asked.stderr) == (0, "")


async def status_with(tmp_path: Path, page: str) -> dict[str, Any]:
    """Return what a reader is told by a daemon that is let in as the page has it."""
    names = ("DAEMON", "APP", "TOKENS", "READER", "EVENTS", "ADMIN", "SETUP", "AUDIT")
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(guarded_server(tmp_path, page, names))
        await stack.enter_async_context(daemon(url, tmp_path))
        reader = await stack.enter_async_context(user(url, "reader"))
        return await reader.ok("status")


async def test_a_right_that_the_daemons_user_lacks_is_named(tmp_path: Path):
    page = block("SECURITY.md", "", "accounts")
    lacking = page.replace(', "$JS.API.DIRECT.GET.REFRESHD_EVENTS"', "", 1)
    assert lacking != page

    status = await status_with(tmp_path, lacking)

    assert status["lacking_permissions"] == ["publish $JS.API.DIRECT.GET.REFRESHD_EVENTS"]


async def test_the_pages_own_user_lacks_nothing(tmp_path: Path):
    status = await status_with(tmp_path, block("SECURITY.md", "", "accounts"))

    assert status["lacking_permissions"] == []


async def test_the_keys_that_seal_are_told_and_no_key_is(nats_login: Login, tmp_path: Path):
    environment = {"REFRESHD_NATS_URL": nats_login.url, "REFRESHD_NATS_USER": nats_login.user or ""}
    password = tmp_path / "password"
    password.write_text(nats_login.password or "")
    password.chmod(0o600)
    environment["REFRESHD_NATS_PASSWORD_FILE"] = str(password)
    config = load_config(None, environment=environment)

    async with run_daemon(config, tmp_path / "data"), open_link(nats_login, name="test") as link:
        answer = await link.request("refreshd.v1.status", b"", timeout_s=5)
    keys = msgspec.json.decode(answer.data)["ok"]["keys"]
    keyring = json.loads((tmp_path / "data" / "keyring.json").read_text())

    assert keys == {
        "primary": keyring["primary"],
        "held": [keyring["primary"]],
        "sealed_with": [keyring["primary"]],
    }
    assert keyring["keys"][0]["key"].encode() not in answer.data
