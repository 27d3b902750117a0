"""A nats-server that somebody else runs, with whatever configuration, on loopback."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import anyio

from runtime.nats.link import Login
from tests.fakes.eventually import eventually

NATS_SERVER = Path(sys.executable).parent / "nats-server"


class NatsProcess(NamedTuple):
    """Where it listens."""

    login: Login
    monitoring_url: str


@contextlib.asynccontextmanager
async def nats_process(folder: Path, settings: Mapping[str, object]) -> AsyncGenerator[NatsProcess]:
    """Yield a server of that configuration, with HTTP monitoring and without a password."""
    fixed = {"host": "127.0.0.1", "port": -1, "http": "127.0.0.1:-1", "ports_file_dir": str(folder)}
    config = folder / "external.conf"
    config.write_text(json.dumps(fixed | dict(settings)))
    async with await anyio.open_process(
        [NATS_SERVER, "-c", config], stdout=None, stderr=None
    ) as process:
        try:
            ports = folder / f"nats-server_{process.pid}.ports"
            await eventually(lambda: ports.exists() and ports.read_text().endswith("}"))
            listening = json.loads(ports.read_text())
            yield NatsProcess(Login(url=listening["nats"][0]), listening["monitoring"][0])
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def guarded_server(
    folder: Path, permissions: str, passwords: Iterable[str]
) -> AsyncGenerator[str]:
    """Yield the URL of a server with the users of a paper.

    Args:
        folder: For its files.
        permissions: The block of the paper, whose passwords are variables.
        passwords: Those variables; each is ``pw``.
    """
    config = folder / "server.conf"
    config.write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{folder}"\n'
        f'jetstream {{ store_dir: "{folder}/js", sync_interval: always }}\n{permissions}'
    )
    server = await asyncio.create_subprocess_exec(
        *(NATS_SERVER, "-c", config),
        env=os.environ | dict.fromkeys(passwords, "pw"),
        stderr=subprocess.DEVNULL,
    )
    ports = folder / f"nats-server_{server.pid}.ports"
    try:
        await eventually(lambda: ports.exists() and ports.read_text().endswith("}"))
        yield json.loads(ports.read_text())["nats"][0]
    finally:
        server.kill()
        await server.wait()
