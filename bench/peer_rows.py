"""The peers as rows of the benchmark: see ``bench.peers`` for what each of them does."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from bench.measured import Measured
from bench.peers.measuring import (
    HOT_POOL,
    PEERS,
    RunningPeer,
    Servers,
    measure,
    running_nats,
    running_peer,
)
from bench.peers.servers import (
    CannotServeError,
    Package,
    ensure_installed,
    running_postgres,
    running_redis,
)
from bench.results import (
    ACTORS,
    BEHIND_NATS,
    FOR_UPDATE,
    FOR_UPDATE_ALONE,
    FOR_UPDATE_HOT,
    ONE_STATEMENT,
    ONE_STATEMENT_BEHIND_NATS,
    REDIS_LOCK,
)
from bench.rows import CALLERS, CONNECTIONS, Row

_KINDS = {
    FOR_UPDATE: "a",
    ONE_STATEMENT: "a1",
    REDIS_LOCK: "b",
    BEHIND_NATS: "c",
    ONE_STATEMENT_BEHIND_NATS: "c1",
    ACTORS: "d",
}
_REQUESTS = 10_000


class PeerRow(Row):
    """Refreshes by a peer; what it has stored is audited after each stretch."""

    def __init__(
        self, name: str, peer: RunningPeer, *, callers: int, requests: int, is_hot: bool = False
    ) -> None:
        """Ask ``peer``, which has ``CONNECTIONS`` connections."""
        super().__init__(name, requests=requests)
        self._peer = peer
        self._callers = callers
        self._is_hot = is_hot

    async def measure(self, requests: int) -> Measured:
        """See ``Row``."""
        found = await measure(
            self._peer,
            callers=self._callers,
            requests=requests,
            connections=CONNECTIONS,
            hot=self._is_hot,
        )
        return Measured(
            rate=found.rate,
            p50_ms=found.p50_ms,
            p99_ms=found.p99_ms,
            load_us=found.load_us or None,
            daemon_us=found.handler_us,
            server_us=found.server_us or None,
            database_us=found.database_us,
            peak_mib=found.memory_mb,
        )


class Peers:
    """Opens the peers that are wanted; why one cannot be had is in ``skipped``, by its row."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, folder: Path, is_wanted: Callable[[str], bool]
    ) -> None:
        """Have none yet; ``stack`` ends them."""
        self.rows: list[PeerRow] = []
        self.skipped: dict[str, str] = {}
        self._stack = stack
        self._folder = folder
        self._is_wanted = is_wanted

    async def open(self) -> None:
        """Install and start what is needed."""
        more = {FOR_UPDATE: (FOR_UPDATE_HOT, FOR_UPDATE_ALONE)}
        wanted = [name for name in _KINDS if any(map(self._is_wanted, (name, *more.get(name, ()))))]
        if not wanted:
            return
        try:
            ensure_installed(Package.POSTGRES)
        except CannotServeError as error:
            self.skipped = dict.fromkeys(wanted, str(error))
            return
        servers = Servers(
            postgres=self._stack.enter_context(running_postgres()),
            nats=await self._stack.enter_async_context(running_nats(self._folder)),
        )
        for name in wanted:
            if name == REDIS_LOCK:
                try:
                    ensure_installed(Package.REDIS)
                except CannotServeError as error:
                    self.skipped[name] = str(error)
                    continue
                servers = servers._replace(redis=self._stack.enter_context(running_redis()))
            peer = await self._stack.enter_async_context(running_peer(PEERS[_KINDS[name]], servers))
            await peer.connect(CONNECTIONS)
            self._add(PeerRow(name, peer, callers=CALLERS, requests=_REQUESTS))
            if name == FOR_UPDATE:
                await self._add_hot(servers)
                self._add(PeerRow(FOR_UPDATE_ALONE, peer, callers=1, requests=1_000))

    async def _add_hot(self, servers: Servers) -> None:
        """Add the hot row, with a pool of the size that is best for it."""
        hot = running_peer(PEERS[_KINDS[FOR_UPDATE]], servers, pool=HOT_POOL)
        peer = await self._stack.enter_async_context(hot)
        await peer.connect(CONNECTIONS)
        self._add(PeerRow(FOR_UPDATE_HOT, peer, callers=CALLERS, requests=2_000, is_hot=True))

    def _add(self, row: PeerRow) -> None:
        if self._is_wanted(row.name):
            self.rows.append(row)
