"""The files of deploy/, with other addresses, are three nats-servers and two daemons that work."""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import NATS_SERVER
from tests.fakes.refreshd_command import refreshd

DEPLOY = ROOT / "deploy"
NAMES: tuple[str, ...] = ("nats-1", "nats-2", "nats-3")


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Site:
    """The files, each server with ports of its own in place of hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(NAMES, free_ports(3), strict=True))
        self._routes = dict(zip(NAMES, free_ports(3), strict=True))
        self._monitoring = dict(zip(NAMES, free_ports(3), strict=True))
        shutil.copy(DEPLOY / "make-secrets.sh", folder)
        subprocess.run(["./make-secrets.sh"], cwd=folder, check=True, timeout=20)
        (folder / "run").mkdir()
        self.secrets = (folder / "secrets").rename(folder / "run" / "secrets")
        routes = self.secrets / "nats-routes.conf"
        routes.write_text(self._placed(routes.read_text(), 6222, self._routes))

    def _placed(self, text: str, port: int, ports: Mapping[str, int]) -> str:
        for name, own in ports.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{own}")
        return text

    def server_config(self, name: str) -> Path:
        text = (DEPLOY / "nats.conf").read_text()
        for key, port in (
            *(("port: 4222", self.ports[name]), ("http: 8222", self._monitoring[name])),
            ("port: 6222", self._routes[name]),
        ):
            assert key in text
            text = text.replace(key, f"{key.split(':')[0]}: {port}")
        config = self.folder / "etc" / name / "nats.conf"
        config.parent.mkdir(parents=True)
        config.write_text(text.replace("/data", str(self.folder / name)))
        return config

    def daemon_config(self) -> Path:
        text = (DEPLOY / "refreshd.toml").read_text()
        text = self._placed(self._placed(text, 4222, self.ports), 8222, self._monitoring)
        config = self.folder / "refreshd.toml"
        config.write_text(text.replace("/run/secrets", str(self.secrets)))
        return config

    @contextlib.asynccontextmanager
    async def servers(self) -> AsyncGenerator[None]:
        started = [
            await asyncio.create_subprocess_exec(
                *(NATS_SERVER, "--config", self.server_config(name), "--name", name),
                stderr=asyncio.subprocess.DEVNULL,
            )
            for name in NAMES
        ]
        try:
            yield
        finally:
            for server in started:
                server.kill()
                await server.wait()


@pytest.mark.timeout(120)
async def test_three_servers_and_two_members_of_the_files_take_a_connection_and_keep_it_thrice(
    tmp_path: Path,
):
    site = Site(tmp_path)
    config = site.daemon_config()
    async with site.servers():
        arguments = ("--config", str(config))
        checked = await refreshd("check", str(config))
        async with (
            daemon_process(tmp_path / "one", *arguments) as first,
            daemon_process(tmp_path / "two", *arguments),
            plain_caller(
                f"nats://127.0.0.1:{site.ports['nats-2']}",
                user="refreshd",
                password=(site.secrets / "nats-password").read_text(),
            ) as caller,
        ):

            async def is_answered() -> bool:
                return (await caller.ask("status", timeout_s=5)).code == "ok"

            await eventually(is_answered, within_s=30)
            one = await caller.connect()
            status = (await caller.ask("status")).body["ok"]
            info = await caller.client.jetstream().stream_info("REFRESHD_LEDGER_00")
            assert (await caller.get(one))["status"] == "active"
            assert await first.stop() == 0
            assert (await caller.get(one))["status"] == "active"

    assert checked.code == 0, checked.stderr
    assert len(status["cluster"]["members"]) == 2
    assert status["sync_always"] is True
    assert status["streams_with_fewer_replicas"] == {}
    assert info.config.num_replicas == 3
    assert not re.search("store_may_lose", "".join(first.said))
