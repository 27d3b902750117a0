"""Puts a peer under load and says what it did and what it cost.

    with running_postgres() as postgres, running_redis() as redis:
        async with running_nats(folder) as nats:
            servers = Servers(postgres=postgres, redis=redis, nats=nats)
            async with running_peer(PEERS["a"], servers) as peer:
                await peer.connect(500)
                print(await measure(peer, callers=256, requests=15_000, connections=500))

Peers on one cluster have a database each, so that any number can be alive and measured in turn;
``memory_mb`` tells them apart only where each has a cluster of its own.
"""

import asyncio
import contextlib
import random
import secrets
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import processes
from bench.bodies import refresh_body
from bench.daemon import ROOT
from bench.load import Load, Request, open_load
from bench.peers.in_process import Result, Stretch
from bench.peers.opening import Settings, Way, keyring_of
from bench.peers.servers import Server
from bench.peers.store import Pool, add_connections, audit, create_tables, open_pool
from runtime.nats.embedded import EmbeddedNats, NatsContext
from runtime.world import Uuid7Ids

POOL = 48
"""Of PostgreSQL's connections, for each peer; ``pool_sizes`` says why."""
HOT_POOL = 4
"""The same for one hot row: more would only wait for each other."""
LOAD_CLIENTS = 8
_LINE_BYTES_MAX = 64 * 1024 * 1024


class Transport(StrEnum):
    """How callers reach a peer; the values are the modules that serve it."""

    NONE = "in_process"
    """They are in its process."""
    NATS = "nats_responder"
    """As they reach the daemon."""


class PeerKind(NamedTuple):
    """One row of the table."""

    way: Way
    transport: Transport
    title: str


PEERS = {
    "a": PeerKind(Way.FOR_UPDATE, Transport.NONE, "SELECT FOR UPDATE, in process"),
    "a1": PeerKind(Way.ONE_STATEMENT, Transport.NONE, "one statement, in process"),
    "b": PeerKind(Way.REDIS_LOCK, Transport.NONE, "Redis lock, in process"),
    "c": PeerKind(Way.FOR_UPDATE, Transport.NATS, "SELECT FOR UPDATE behind NATS"),
    "c1": PeerKind(Way.ONE_STATEMENT, Transport.NATS, "one statement behind NATS"),
    "d": PeerKind(Way.ACTORS, Transport.NATS, "pykka actors behind NATS"),
}


class NatsServer(NamedTuple):
    """A nats-server, and how clients get in."""

    context: NatsContext
    pid: int


class Servers(NamedTuple):
    """What peers run on; Redis and NATS only where a peer needs them."""

    postgres: Server
    redis: Server | None = None
    nats: NatsServer | None = None


class Measured(NamedTuple):
    """One stretch of load on one peer. CPU is per request."""

    rate: float
    p50_ms: float
    p99_ms: float
    handler_us: float
    """The peer's process; in process, its callers as well."""
    database_us: float
    """All processes of PostgreSQL, and Redis."""
    server_us: float
    """NATS; 0 in process."""
    load_us: float
    """The callers where they have a process of their own; 0 in process."""
    memory_mb: float
    """The most that peer and NATS have had so far, and what the database has now (PSS)."""


class _Usage(NamedTuple):
    handler_s: float
    database_s: float
    server_s: float
    load_s: float


class RunningPeer:
    """A peer's process, its database, and what it has been asked for so far."""

    def __init__(
        self,
        *,
        kind: PeerKind,
        servers: Servers,
        process: asyncio.subprocess.Process,
        pool: Pool,
        key: bytes,
        load: Load | None,
        prefix: str,
    ) -> None:
        """Use ``running_peer``."""
        self.kind = kind
        self.ids: list[str] = []
        self._servers = servers
        self._process = process
        self._pool = pool
        self._keyring = keyring_of(key)
        self._load = load
        self._prefix = prefix
        self._refreshes = 0

    async def connect(self, connections: int) -> None:
        """Store so many connections; their ids are ``ids``."""
        ids = [one for one, _ in zip(Uuid7Ids(), range(connections), strict=False)]
        await add_connections(self._pool, ids, self._keyring)
        self.ids += [str(one) for one in ids]

    async def refresh(self, ids: list[str], *, callers: int, requests: int) -> Result:
        """Refresh connections of ``ids``, each request one of them at random.

        Raises:
            LoadError, RefusedError: A refresh was not done.
        """
        if self._load is None:
            result = await self._have_refreshed(ids, callers, requests)
        else:
            result = await self._refresh_over_nats(self._load, ids, callers, requests)
        self._refreshes += requests
        return result

    async def audit(self) -> None:
        """Hold what is stored to the daemon's laws.

        Raises:
            BrokenLawError, UnsealError: One is broken.
        """
        await audit(self._pool, self._keyring, refreshes=self._refreshes)

    def usage(self) -> _Usage:
        """Return the CPU seconds used so far."""
        own = self._own_servers()
        return _Usage(
            processes.cpu_s(self._process.pid),
            processes.family_cpu_s(self._servers.postgres.pid)
            + (processes.cpu_s(own.redis.pid) if own.redis else 0.0),
            processes.cpu_s(own.nats.pid) if own.nats else 0.0,
            time.process_time() if own.nats else 0.0,
        )

    def memory_mb(self) -> float:
        """Return what ``Measured`` says of memory."""
        own = self._own_servers()
        highest = [self._process.pid, *([own.nats.pid] if own.nats else ())]
        present = [
            *processes.family(self._servers.postgres.pid),
            *([own.redis.pid] if own.redis else ()),
        ]
        return sum(map(processes.highest_mb, highest)) + sum(map(processes.present_mb, present))

    def _own_servers(self) -> Servers:
        """Return the servers that this kind of peer uses."""
        return Servers(
            self._servers.postgres,
            self._servers.redis if self.kind.way is Way.REDIS_LOCK else None,
            self._servers.nats if self.kind.transport is Transport.NATS else None,
        )

    async def _have_refreshed(self, ids: list[str], callers: int, requests: int) -> Result:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        stretch = Stretch(callers=callers, requests=requests, ids=ids)
        self._process.stdin.write(msgspec.json.encode(stretch) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind.title}: its process has ended, see above")
        return msgspec.json.decode(line, type=Result)

    async def _refresh_over_nats(
        self, load: Load, ids: list[str], callers: int, requests: int
    ) -> Result:
        def make(number: int) -> Request:
            return f"{self._prefix}.{random.choice(ids)}.refresh", refresh_body(number)

        began_s = time.perf_counter()
        latencies_s = await load.run(make, callers=callers, requests=requests)
        return Result(took_s=time.perf_counter() - began_s, latencies_s=latencies_s)


async def measure(
    peer: RunningPeer, *, callers: int, requests: int, connections: int, hot: bool = False
) -> Measured:
    """Refresh from so many callers, audit what is stored, and return what it took.

    Args:
        peer: It has at least ``connections``.
        callers: Each makes one request after another.
        requests: How many, together.
        connections: Each request goes to one of so many, at random.
        hot: All requests go to one connection.

    Raises:
        BrokenLawError, LoadError, RefusedError, UnsealError: The peer does not do what it should.
    """
    before = peer.usage()
    result = await peer.refresh(
        peer.ids[: 1 if hot else connections], callers=callers, requests=requests
    )
    used = [now - then for now, then in zip(peer.usage(), before, strict=True)]
    handler_us, database_us, server_us, load_us = (each_s / requests * 1e6 for each_s in used)
    await peer.audit()
    quantiles = statistics.quantiles(result.latencies_s, n=100)
    return Measured(
        requests / result.took_s,
        quantiles[49] * 1e3,
        quantiles[98] * 1e3,
        handler_us,
        database_us,
        server_us,
        load_us,
        peer.memory_mb(),
    )


@contextlib.asynccontextmanager
async def running_nats(folder: Path) -> AsyncGenerator[NatsServer]:
    """Yield a nats-server like the daemon's embedded one; then end it.

    Raises:
        EmbeddedNatsError: It does not start.
    """
    server = EmbeddedNats(folder, server_bin=None, port=None)
    try:
        login = await server.start()
        assert server.pid is not None
        yield NatsServer(NatsContext(login.url, login.user or "", login.password or ""), server.pid)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def running_peer(
    kind: PeerKind, servers: Servers, *, pool: int = POOL
) -> AsyncGenerator[RunningPeer]:
    """Yield a peer with an empty database of its own; then end its process.

    Args:
        kind: One of ``PEERS``.
        servers: Those that it needs, running.
        pool: How many connections to PostgreSQL it has.

    Raises:
        OSError, asyncpg.PostgresError: A server does not let it in.
    """
    name = f"{kind.way}_{secrets.token_hex(4)}"
    prefix = f"bench.{name}"
    socket, key = servers.postgres.socket, secrets.token_bytes(32)
    settings = Settings(
        way=kind.way,
        key=key,
        postgres=str(socket),
        database=name,
        pool=pool,
        redis=None if servers.redis is None else str(servers.redis.socket),
        nats=None if servers.nats is None else servers.nats.context,
        subject=f"{prefix}.*.refresh",
    )
    async with open_pool(socket, "postgres", size=1) as admin:
        await admin.execute(f"CREATE DATABASE {name}")
    async with contextlib.AsyncExitStack() as stack:
        audited = await stack.enter_async_context(open_pool(socket, name, size=1))
        await create_tables(audited)
        process = await stack.enter_async_context(_process(kind, settings))
        load = None
        if kind.transport is Transport.NATS:
            assert servers.nats is not None
            load = await open_load(servers.nats.context, clients=LOAD_CLIENTS)
            stack.callback(load.close)
        yield RunningPeer(
            kind=kind,
            servers=servers,
            process=process,
            pool=audited,
            key=key,
            load=load,
            prefix=prefix,
        )


@contextlib.asynccontextmanager
async def _process(
    kind: PeerKind, settings: Settings
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Yield the peer's process once it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.peers.{kind.transport}"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        if await process.stdout.readline() != b"ready\n":
            raise SystemExit(f"{kind.title}: its process did not start, see above")
        yield process
        process.stdin.close()
        async with asyncio.timeout(10):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
