"""What the papers show is true: the settings, the Python of the README, the NATS permissions."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import msgspec
import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime.config import Config, load_config
from runtime.daemon import run_daemon
from runtime.fake_provider.server import running_fake_provider
from tests.conftest import ROOT
from tests.fakes.eventually import eventually

CREDENTIALS = {"credential_type": "oauth2", "secret": {"access_token": "at", "refresh_token": "rt"}}


def block(paper: str, language: str, start: str = "") -> str:
    text = (ROOT / paper).read_text()
    found = re.search(rf"```{language}\n({re.escape(start)}.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def readme() -> str:
    return (ROOT / "README.md").read_text()


def connect_body(user_id: str) -> bytes:
    body = {"user_id": user_id, "provider_id": user_id, "provider_slug": "schwab"}
    return json.dumps(body | {"credentials": CREDENTIALS}).encode()


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


@pytest.fixture
async def guarded_url(tmp_path: Path) -> AsyncGenerator[str]:
    """A server with the users of SECURITY.md, each with the password ``pw``."""
    config = tmp_path / "server.conf"
    config.write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{tmp_path}"\n'
        f'jetstream {{ store_dir: "{tmp_path}/js", sync_interval: always }}\n'
        + block("SECURITY.md", "", "authorization")
    )
    users = dict.fromkeys(("DAEMON", "APP", "TOKENS", "READER", "ADMIN"), "pw")
    server = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).parent / "nats-server", "-c", config),
        env=os.environ | users,
        stderr=subprocess.DEVNULL,
    )
    ports = tmp_path / f"nats-server_{server.pid}.ports"
    try:
        await eventually(lambda: ports.exists() and ports.read_text().endswith("}"))
        yield json.loads(ports.read_text())["nats"][0]
    finally:
        server.kill()
        await server.wait()


async def test_the_permissions_in_the_papers_let_each_do_its_part_and_no_more(
    guarded_url: str, tmp_path: Path
):
    password_file = tmp_path / "password"
    password_file.write_text("pw\n")
    environment = {
        "REFRESHD_NATS_URL": guarded_url,
        "REFRESHD_NATS_USER": "daemon",
        "REFRESHD_NATS_PASSWORD_FILE": str(password_file),
    }
    config = load_config(None, environment=environment)
    user_id = str(uuid4())

    async with run_daemon(config, tmp_path / "data"):
        clients = {
            name: await _user(guarded_url, name) for name in ("app", "tokens", "reader", "admin")
        }
        overheard: list[bytes] = []

        async def overhear(message: Msg) -> None:
            overheard.append(message.data)

        for name in ("_INBOX", "_INBOX_refreshd", "_INBOX_app", "_INBOX_tokens", "$KV", "$JS"):
            await clients["reader"].subscribe(f"{name}.>", cb=overhear)
        await clients["reader"].subscribe(">", cb=overhear)

        async def code(name: str, subject: str, body: bytes = b"") -> str:
            try:
                reply = await clients[name].request(f"refreshd.v1.{subject}", body, timeout=2)
            except nats.errors.TimeoutError:
                return "not allowed"
            return json.loads(reply.data).get("error", {}).get("code", "ok")

        made = await clients["app"].request("refreshd.v1.connect", connect_body(user_id), timeout=5)
        connection = f"connection.{json.loads(made.data)['ok']['connection_id']}"
        refresh = json.dumps({"credentials": CREDENTIALS}).encode()
        disconnect = json.dumps({"user_id": user_id}).encode()
        answers = await asyncio.gather(
            code("app", f"{connection}.refresh", refresh),
            code("app", f"{connection}.disconnect", disconnect),
            code("app", "connections.list"),
            code("tokens", f"{connection}.token"),
            code("tokens", f"{connection}.get"),
            code("reader", f"{connection}.token"),
            code("reader", f"{connection}.get"),
            code("reader", "connections.list"),
            code("reader", f"{connection}.refresh", refresh),
            code("admin", f"{connection}.get"),
            code("admin", "connections.list"),
        )
        ended = await code("admin", f"{connection}.disconnect", disconnect)
        for client in clients.values():
            await client.close()

    assert answers == [
        *("ok", "not allowed", "not allowed"),
        *("ok", "not allowed"),
        *("not allowed", "ok", "ok", "not allowed"),
        *("ok", "ok"),
    ]
    assert ended == "ok"
    assert overheard == []


async def _user(url: str, name: str) -> Client:
    """Connect one of the users of SECURITY.md, who says nothing of what he may not do."""

    async def swallow(_error: Exception) -> None:
        return

    return await nats.connect(
        url,
        user=name,
        password="pw",
        error_cb=swallow,
        inbox_prefix=f"_INBOX_{name}",
    )
