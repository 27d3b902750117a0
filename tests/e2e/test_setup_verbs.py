"""What sets a daemon up: init, check, systemd-unit, completion and --version, as a shell sees them."""

import json
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import anyio
import pytest

from domain.connection import ConnectionStatus
from runtime import VERSION
from runtime.cli.init_verb import TEMPLATE
from runtime.cli.systemd_unit import unit
from runtime.config import load_config
from tests.conftest import ROOT
from tests.fakes.daemon_process import daemon_process
from tests.fakes.refreshd_command import refreshd

SECRET = "canary-9b1f"


def _home(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "c"),
        "XDG_STATE_HOME": str(folder / "s"),
    }


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_init_writes_what_a_daemon_begins_with_and_says_what_to_type_next(tmp_path: Path):
    home = _home(tmp_path)
    done = await refreshd("init", str(tmp_path / "etc"), COLUMNS="80", **home)

    config, data = tmp_path / "etc" / "refreshd.toml", tmp_path / "s" / "refreshd"
    context = tmp_path / "c" / "nats" / "context" / "refreshd.json"
    assert (done.code, done.stderr) == (0, "")
    assert _mode(data / "keyring.json") == 0o600
    assert _mode(data) == 0o700
    assert context.readlink() == data / "context.json"
    assert f"refreshd serve --config {config}" in done.stdout
    checked = await refreshd("check", str(config), **home)
    assert (checked.code, checked.stdout) == (
        0,
        f"ok: 0 providers; keyring: {data / 'keyring.json'}\n",
    )
    async with daemon_process(data, "--config", str(config), environment=home):
        assert json.loads(context.read_text())["url"].startswith("nats://127.0.0.1:")
        status = await refreshd("status", "-o", "json", **home)
    assert status.code == 0


async def test_init_overwrites_nothing_and_makes_no_key_where_one_is_lost(tmp_path: Path):
    home = _home(tmp_path)
    await refreshd("init", str(tmp_path), **home)
    keyring = tmp_path / "s" / "refreshd" / "keyring.json"
    (tmp_path / "refreshd.toml").write_text("# mine\n")
    before = keyring.read_bytes()

    again = await refreshd("init", str(tmp_path), **home)
    kept = keyring.read_bytes()
    keyring.unlink()
    (keyring.parent / "nats").mkdir()
    lost = await refreshd("init", str(tmp_path), **home)

    assert [line.split()[0] for line in again.stdout.splitlines()[:3]] == ["kept"] * 3
    assert (tmp_path / "refreshd.toml").read_text() == "# mine\n"
    assert kept == before
    assert "MISSING  keyring" in lost.stdout
    assert not keyring.exists()


def test_each_setting_that_the_written_configuration_shows_is_one(tmp_path: Path):
    shown = [
        line.removeprefix("# ") if " = " in line or line.startswith("# [providers") else line
        for line in TEMPLATE.splitlines()
    ]
    file = tmp_path / "all.toml"
    file.write_text("\n".join(shown))

    config = load_config(file, environment={})

    assert set(config.providers) == {"google", "of-your-own"}
    assert config.nats.replicas == 3
    assert max(map(len, TEMPLATE.splitlines())) <= 88


async def test_check_tells_every_fault_with_file_path_and_message_and_exits_2(tmp_path: Path):
    (tmp_path / "empty").write_text("")
    file = tmp_path / "bad.toml"
    file.write_text(
        '[nats]\ncredz = "x"\nreplicas = 9\n[nats.link]\nprobes_missed_max = "no"\n'
        "[actors]\nlooks_max = 0\n[nothing]\n[log]\nlevel = 'loud'\n"
        f'[providers.google]\nclient_id = "me"\nclient_secret_file = "{tmp_path}/empty"\n'
        'margin = 3\n[providers.own]\ntoken_endpoint = "http://plain.example"\nclient_id = "a"\n'
        f'client_secret = "{SECRET}"\n[providers."Bad Slug"]\n'
    )

    found = await refreshd("check", str(file), REFRESHD_ACTORS_IDLE="3", REFRESHD_NATS_PORT="x")

    lines = dict(line.split(": ", 1) for line in found.stderr.splitlines())
    assert (found.code, found.stdout) == (2, "")
    assert lines[f"{file}:nats.credz"] == "no such key; did you mean creds_file?"
    assert lines[f"{file}:nats.replicas"] == "Expected `int` <= 5"
    assert lines[f"{file}:nats.link.probes_missed_max"] == "Expected `int`, got `str`"
    assert lines[f"{file}:actors.looks_max"] == "Expected `int` >= 1"
    assert lines[f"{file}:nothing"].startswith("no such section")
    assert lines[f"{file}:log.level"] == "expected debug, error, info, warning"
    assert lines[f"{file}:providers.google.margin"] == "no such key; did you mean margin_s?"
    assert lines[f"{file}:providers.google.client_secret_file"] == f"{tmp_path}/empty: empty"
    assert lines[f"{file}:providers.own.client_secret"].startswith("a secret comes by file")
    assert lines[f"{file}:providers.Bad Slug"] == "a slug is 1-50 of a-z, 0-9, _ and -"
    assert lines["environment:REFRESHD_ACTORS_IDLE"].startswith("no such key")
    assert "REFRESHD_NATS_PORT" in found.stderr
    assert SECRET not in found.stderr


@pytest.mark.parametrize("url", ["http://a:4222", "nats://a:4222x", "nats://us:p@:4222", "a b"])
async def test_check_refuses_what_is_no_address_of_a_server(url: str):
    found = await refreshd("check", "--nats", url)

    assert found.code == 2
    assert "nats.url: expected nats://host:port" in found.stderr
    assert "us:p" not in found.stderr


@pytest.mark.parametrize("url", ["a", "a:4222,b:4222", "nats://us:p@[::1]:4222", "tls://a"])
async def test_check_takes_the_address_of_a_server(url: str):
    assert (await refreshd("check", "--nats", url)).code == 0


async def test_check_reads_every_file_that_is_named(tmp_path: Path):
    (tmp_path / "keyring.json").write_text("{}")
    file = tmp_path / "refreshd.toml"
    file.write_text(
        f'[keys]\nfile = "{tmp_path}/keyring.json"\n'
        '[nats]\nurl = "nats://a:4222"\npassword_file = "/nowhere/password"\n'
        '[providers.google]\nclient_id = "me"\nclient_secret_file = "/nowhere/secret"\n'
    )

    found = await refreshd("check", str(file))

    places = [line.split(": ")[0] for line in found.stderr.splitlines()]
    keys = ("providers.google.client_secret_file", "keys.file", "nats.password_file")
    assert (found.code, places) == (2, [f"{file}:{key}" for key in keys])


async def test_check_names_a_file_that_cannot_be_read(tmp_path: Path):
    file = tmp_path / "refreshd.toml"

    found = await refreshd("check", str(file))

    assert (found.code, found.stderr) == (2, f"{file}: No such file or directory\n")


async def test_check_and_serve_name_the_line_at_which_a_file_is_no_toml(tmp_path: Path):
    file = tmp_path / "refreshd.toml"
    file.write_text(f'[log]\nlevel = "info\n\n[nats]\nurl = "nats://us:{SECRET}@a:4222"\n')

    found = await refreshd("check", str(file))
    refused = await refreshd("serve", "--config", str(file))

    told = f"{file}:2:14: no TOML: level: the text's closing quote is missing in this line\n"
    assert (found.code, found.stderr) == (2, told)
    assert (refused.code, refused.stderr) == (2, f"refreshd: {told}")


async def test_check_show_is_toml_with_each_origin_and_no_secret(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    file = tmp_path / "refreshd.toml"
    file.write_text(
        f'[nats]\nurl = "nats://us:{SECRET}@a:4222,nats://us:{SECRET}@b:4222"\n'
        "[service.limits]\nlists_max = 3\n"
        f'[providers.google]\nclient_id = "me"\nclient_secret_file = "{secret}"\n'
        f'[providers.google.extra_headers]\nx-key = "{SECRET}"\n'
    )

    shown = await refreshd("check", str(file), "--show", REFRESHD_ACTORS_LOOKS_MAX="9")

    assert shown.code == 0, shown.stderr
    assert SECRET not in shown.stdout
    document = tomllib.loads(shown.stdout)
    assert document["nats"]["url"] == "nats://***@a:4222,nats://***@b:4222"
    assert document["providers"]["google"]["extra_headers"] == {"x-key": "***"}
    assert document["providers"]["google"]["client_secret_file"] == str(secret)
    assert document["state"]["limits"]["checkpoint_s"] == 1.0
    origins = _origins(shown.stdout)
    assert origins["nats.url"] == origins["service.limits.lists_max"] == str(file)
    assert origins["actors.looks_max"] == "$REFRESHD_ACTORS_LOOKS_MAX"
    assert origins["nats.replicas"] == "default"
    assert origins["providers.google.client_id"] == str(file)
    assert origins["providers.google.token_endpoint"] == "shipped: google"


def _origins(text: str) -> dict[str, str]:
    section, found = "", dict[str, str]()
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif " = " in line:
            found[f"{section}.{line.split(' = ')[0]}"] = line.rpartition(" # ")[2]
    return found


async def test_what_check_shows_is_the_same_configuration(tmp_path: Path):
    file, shown_file = tmp_path / "refreshd.toml", tmp_path / "shown.toml"
    file.write_text('[service]\nprefix = "acme.tokens"\n[log]\nlevel = "debug"\n')

    shown = await refreshd("check", str(file), "--show", REFRESHD_CLUSTER_HELD_MAX="77")
    shown_file.write_text(shown.stdout)

    variables = {"REFRESHD_CLUSTER_HELD_MAX": "77"}
    assert load_config(shown_file, environment={}) == load_config(file, environment=variables)


async def test_a_relative_secret_file_is_found_where_systemd_has_put_it(tmp_path: Path):
    (tmp_path / "google-secret").write_text("s")
    file = tmp_path / "etc.toml"
    file.write_text('[providers.google]\nclient_id = "me"\nclient_secret_file = "google-secret"\n')

    without = await refreshd("check", str(file))
    within = await refreshd("check", str(file), CREDENTIALS_DIRECTORY=str(tmp_path))

    assert (without.code, within.code) == (2, 0)
    assert f"{ROOT / 'google-secret'}: No such file or directory" in without.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_knows_the_verbs(shell: str, tmp_path: Path):
    made = await refreshd("completion", shell)

    assert made.code == 0
    assert all(verb in made.stdout for verb in ("serve", "token", "disconnect", "check"))
    assert all(status in made.stdout for status in ConnectionStatus)
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(made.stdout)
        assert _parses(program, tmp_path / "script")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
@pytest.mark.parametrize(
    "words",
    [
        ("import",),
        ("import", "--dry-run"),
        ("connect", "--credentials-file"),
        ("refresh", "--credentials-file"),
        ("export",),
        ("restore",),
        ("check",),
    ],
)
async def test_bash_completes_names_of_files(words: tuple[str, ...], tmp_path: Path):
    made = await refreshd("completion", "bash")
    (tmp_path / "script").write_text(made.stdout)
    (tmp_path / "tokens.ndjson").touch()
    ask = 'source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _refreshd; echo $COMPREPLY'

    shell = ["bash", "-c", ask, "bash", "refreshd", *words, "tok"]
    told = await anyio.run_process(shell, cwd=tmp_path)

    assert told.stdout == b"tokens.ndjson\n"


@pytest.mark.parametrize("verb", ["token", "get", "refresh", "revoke", "history", "explain"])
async def test_a_connection_that_is_not_named_is_asked_for_as_the_papers_give_it(verb: str):
    told = await refreshd(verb)

    assert told.code == 2
    assert "CONNECTION-ID" in told.stderr
    assert "--connection-id" not in told.stderr


async def test_a_status_that_is_none_is_told_with_the_six():
    refused = await refreshd("list", "--status", "odd", "-o", "json")

    told = json.loads(refused.stderr)["error"]["message"]
    assert refused.code == 2
    assert all(f'"{status}"' in told for status in ConnectionStatus)


def _parses(shell: str, script: Path) -> bool:
    return subprocess.run([shell, "-n", script], check=False, timeout=20).returncode == 0


async def test_the_version_is_told():
    told = await refreshd("--version")

    assert (told.code, told.stdout) == (0, f"{VERSION}\n")


def _settings(text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line and line[0] not in "#["]
    return dict(line.split("=", 1) for line in lines)


async def test_the_unit_in_the_repository_is_what_the_program_prints():
    printed = await refreshd("systemd-unit")
    kept = (ROOT / "deploy" / "refreshd.service").read_text()
    settings = _settings(kept)

    assert printed.code == 0
    assert _settings(printed.stdout).keys() == settings.keys()
    assert kept == unit("/opt/refreshd/bin/refreshd")
    assert (settings["Type"], settings["KillMode"]) == ("notify-reload", "mixed")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_unit_and_finds_little_to_harden(tmp_path: Path):
    program = tmp_path / "refreshd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "refreshd.service"
    file.write_text(unit(str(program)))

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    secured = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    # systemd before 253 does not know the type; whatever else it said is ours to mend.
    ours = [line for line in verified.stderr.splitlines() if "refreshd.service" in line]
    assert [line for line in ours if "notify-reload" not in line] == []
    assert secured.returncode == 0, secured.stdout[-2000:] + secured.stderr
