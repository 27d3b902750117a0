"""What the papers show is true: the settings, and the Python of the README."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

from runtime.config import Config, load_config
from runtime.daemon import run_daemon
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.papers import ROOT, block


def readme() -> str:
    return (ROOT / "README.md").read_text()


def test_the_settings_in_the_papers_are_all_settings_and_their_defaults(tmp_path: Path):
    text = block("docs/configuration.md", "toml")
    file = tmp_path / "refreshd.toml"
    file.write_text(text)

    shown = tomllib.loads(text)
    defaults = json.loads(msgspec.json.encode(Config(), enc_hook=str))

    assert load_config(file, environment={}) == Config()
    for section, settings in defaults.items():
        for key, value in settings.items():
            if value is None:
                assert re.search(rf"^# .*\b{key}\b", text, re.MULTILINE), f"{section}.{key}"
            else:
                assert shown[section][key] == value, f"{section}.{key}"


async def test_the_python_of_the_readme_gets_one_token_for_a_hundred_callers(tmp_path: Path):
    home = tmp_path / "home"
    data_dir = home / ".local/state/refreshd"
    section = tomllib.loads(
        re.findall(r"^\[providers.*?(?=^\$)", readme(), re.MULTILINE | re.DOTALL)[0]
    )
    (tmp_path / "client-secret").write_text("fake-secret\n")
    async with running_fake_provider() as provider:
        fake = section["providers"]["fake"]
        assert fake["token_endpoint"].endswith("/token")
        fake["token_endpoint"] = provider.token_endpoint
        fake["client_secret_file"] = str(tmp_path / "client-secret")
        grant = provider.create(expires_in=-1.0)
        (tmp_path / "grant.json").write_text(
            json.dumps({"access_token": grant.access_token, "refresh_token": grant.refresh_token})
        )
        async with run_daemon(Config(providers={"fake": fake}), data_dir):
            ran = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "ignore", "-c", block("README.md", "python")),
                stdout=subprocess.PIPE,
                env=os.environ | {"HOME": str(home)},
                cwd=tmp_path,
            )
            said, _ = await ran.communicate()
        calls = provider.stats.calls

    assert said.decode().splitlines()[0] == "1 token for 100 callers"
    assert calls == 1
