"""Several nats-servers that are one JetStream cluster, any of which may be killed or paused."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from tests.fakes.eventually import eventually
from tests.fakes.nats_process import NATS_SERVER

USER, PASSWORD = "refreshd", "of-the-cluster"
_START_S, _HEAL_S = 60.0, 60.0


class ClusterServer:
    """One of the servers, on ports of its own that stay the same."""

    def __init__(self, folder: Path, name: str, *, port: int, route: int, monitoring: int) -> None:
        """Know where it is to listen; it is not started."""
        self.name = name
        self.port, self.route, self.monitoring = port, route, monitoring
        self.url = f"nats://127.0.0.1:{port}"
        self.monitoring_url = f"http://127.0.0.1:{monitoring}"
        self.is_paused = False
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process is there and not paused."""
        process = self._process
        return process is not None and process.returncode is None and not self.is_paused

    def write_config(self, cluster: str, routes: list[int]) -> None:
        """Write its configuration file."""
        settings = {
            "server_name": self.name,
            "host": "127.0.0.1",
            "port": self.port,
            "http": f"127.0.0.1:{self.monitoring}",
            "log_file": str(self._folder / f"{self.name}.log"),
            "authorization": {"user": USER, "password": PASSWORD},
            "jetstream": {"store_dir": str(self._folder / self.name), "sync_interval": "always"},
            "cluster": {
                "ping_interval": "2s",
                "ping_max": 2,
                "name": cluster,
                "host": "127.0.0.1",
                "port": self.route,
                "routes": [f"nats-route://127.0.0.1:{one}" for one in routes],
            },
        }
        self._config.write_text(json.dumps(settings))

    async def start(self) -> None:
        """Start its process; it may not be ready yet."""
        assert self._process is None or self._process.returncode is not None
        self._process = await asyncio.create_subprocess_exec(
            *(NATS_SERVER, "-c", self._config), stderr=asyncio.subprocess.DEVNULL
        )

    async def kill(self) -> None:
        """Kill its process, paused or not, and return when it has ended."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> None:
        """End its process in order."""
        await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still as it is: its sockets stay open."""
        self._send(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """Let a paused one go on."""
        self._send(signal.SIGCONT)
        self.is_paused = False

    async def heal(self) -> None:
        """Let it go on, or start it."""
        if self.is_paused:
            self.resume()
        if not self.is_running:
            await self.start()

    @property
    def _config(self) -> Path:
        return self._folder / f"{self.name}.conf"

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._send(number)
            if self.is_paused:
                self.resume()
            await self._process.wait()


class NatsCluster:
    """Servers that route to each other; make one with ``nats_cluster``."""

    def __init__(self, folder: Path, servers: int) -> None:
        """Choose the ports and write the configurations; nothing is started."""
        ports = iter(_free_ports(3 * servers))
        self.servers = [
            ClusterServer(
                folder, f"n{number}", port=next(ports), route=next(ports), monitoring=next(ports)
            )
            for number in range(1, servers + 1)
        ]
        for server in self.servers:
            server.write_config(f"cluster-{folder.name}", [one.route for one in self.servers])

    @property
    def urls(self) -> list[str]:
        """The address of each server, without a user."""
        return [server.url for server in self.servers]

    @property
    def url(self) -> str:
        """All addresses in one text, as ``nats.url`` takes them."""
        return ",".join(self.urls)

    def named(self, name: str) -> ClusterServer:
        """Return the server of a name."""
        return next(server for server in self.servers if server.name == name)

    async def connected(self, client_name: str) -> ClusterServer:
        """Return the server that a client whose name begins so is connected to."""
        found: list[ClusterServer] = []

        async def is_found() -> bool:
            for server in self.servers:
                if server.is_running:
                    connections = await _shown(server, "connz")
                    names = [str(one.get("name", "")) for one in connections["connections"]]
                    if any(name.startswith(client_name) for name in names):
                        found.append(server)
            return bool(found)

        await eventually(is_found, within_s=_HEAL_S)
        return found[0]

    async def leader_of(self, stream: str) -> ClusterServer:
        """Return the server that leads a stream now."""
        names: list[str] = []

        async def is_known() -> bool:
            with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
                async with self.client() as client:
                    info = await client.jetstream().stream_info(stream)
                if info.cluster is not None and info.cluster.leader:
                    names.append(info.cluster.leader)
            return bool(names)

        await eventually(is_known, within_s=_HEAL_S)
        return self.named(names[0])

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        """Yield a client of one of the servers that run."""
        urls = [server.url for server in self.servers if server.is_running]
        client = await nats.connect(
            urls, user=USER, password=PASSWORD, allow_reconnect=False, connect_timeout=2
        )
        try:
            yield client
        finally:
            await client.close()

    async def heal(self) -> None:
        """Let every server run, and return when all of them hold all that any holds."""
        for server in self.servers:
            await server.heal()
        await eventually(self._is_whole, within_s=_HEAL_S)

    async def end(self) -> None:
        """Kill every server."""
        for server in self.servers:
            await server.kill()

    async def _is_whole(self) -> bool:
        """Whether each stream has a leader, and each replica of it is current."""
        with contextlib.suppress(
            OSError, httpx2.HTTPError, nats.errors.Error, nats.js.errors.Error, TimeoutError
        ):
            for server in self.servers:
                meta = (await _shown(server, "jsz")).get("meta_cluster", {})
                if not meta.get("leader") or meta.get("cluster_size") != len(self.servers):
                    return False
                if (await _shown(server, "healthz"))["status"] != "ok":
                    return False
            async with self.client() as client:
                streams = await client.jetstream().streams_info()
            return all(
                one.cluster is not None
                and one.cluster.leader
                and all(peer.current and not peer.offline for peer in one.cluster.replicas or ())
                for one in streams
            )
        return False


@contextlib.asynccontextmanager
async def nats_cluster(folder: Path, *, servers: int = 3) -> AsyncGenerator[NatsCluster]:
    """Yield a cluster in which streams can be made; it is killed afterwards."""
    cluster = NatsCluster(folder, servers)
    try:
        await cluster.heal()
        await eventually(lambda: _is_stream_made(cluster), within_s=_START_S)
        yield cluster
    finally:
        await cluster.end()


async def _is_stream_made(cluster: NatsCluster) -> bool:
    """Whether a stream with a replica on each server could be made; it is gone again."""
    with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
        async with cluster.client() as client:
            stream = client.jetstream()
            await stream.add_stream(
                name="probe", subjects=["probe"], num_replicas=len(cluster.servers)
            )
            return await stream.delete_stream("probe")
    return False


async def _shown(server: ClusterServer, page: str) -> dict[str, Any]:
    """Return what a server's monitoring tells."""
    async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as http:
        return (await http.get(f"{server.monitoring_url}/{page}")).json()


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all of them different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
