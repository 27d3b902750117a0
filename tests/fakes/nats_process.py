"""A nats-server that somebody else runs, with whatever configuration, on loopback."""

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Mapping
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
