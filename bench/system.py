"""A daemon, its load and its views: what most rows of the benchmark stand on."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from bench.bodies import connect_body
from bench.daemon import RunningDaemon, running_daemon
from bench.load import open_load
from bench.load_process import Driven, LoadProcess, Stretch
from bench.measured import Measured
from bench.processes import Processes, children
from bench.views import Views
from runtime.data_folder import KEYRING_FILE
from runtime.ledger.streams import PARTITIONS_DEFAULT
from runtime.nats.embedded import CONTEXT_FILE
from runtime.nats.link import NatsLink, open_link
from runtime.world import Uuid7Ids

PREFIX = "refreshd.v1"
_CONNECTING = 256
_PAUSE_S = 0.1


class _Partition(msgspec.Struct):
    records_lag: int
    events_lag: int


class _Ledger(msgspec.Struct):
    partitions: list[_Partition]


class _Owned(msgspec.Struct):
    owner: str | None


class _Cluster(msgspec.Struct):
    partitions: list[_Owned]


class _Status(msgspec.Struct):
    ledger: _Ledger
    cluster: _Cluster


class _Answer(msgspec.Struct):
    ok: _Status


_status = msgspec.json.Decoder(_Answer)


def new_ids(count: int) -> list[str]:
    """Return so many new ids."""
    return [str(one) for one, _ in zip(Uuid7Ids(), range(count), strict=False)]


class System:
    """A running daemon with connections of ours."""

    def __init__(
        self,
        daemon: RunningDaemon,
        load: LoadProcess,
        link: NatsLink,
        *,
        partitions: int,
        others: Sequence[RunningDaemon] = (),
    ) -> None:
        """Have no connections yet; ``others`` are members of the daemon's cluster."""
        self.daemon = daemon
        self._pids = [one.process.pid for one in (daemon, *others)]
        self.link = link
        self.load = load
        self.ids: list[str] = []
        self.generations: Counter[str] = Counter()
        self._refreshes: Counter[str] = Counter()
        self._views = Views(link, partitions=partitions)

    async def connect(
        self, ids: Sequence[str], *, body: Callable[[str], bytes] = connect_body
    ) -> None:
        """Connect so many new connections; ``body`` makes the request of each.

        Raises:
            LoadError: One was refused.
        """
        load = await open_load(self.daemon.context, clients=1)
        await load.run(
            lambda number: (f"{PREFIX}.connect", body(ids[number])),
            callers=_CONNECTING,
            requests=len(ids),
            expected=None,
        )
        load.close()
        self.know(ids)

    def know(self, ids: Sequence[str]) -> None:
        """Take it that these are stored, with their first credentials."""
        self.ids += ids
        self.generations.update(ids)

    async def measure(self, stretch: Stretch) -> Measured:
        """Put a load on, and return what it came to; what was refreshed is kept to be checked.

        CPU counts until the views have caught up: that is work of these refreshes, too.

        Raises:
            LoadError: A request was refused.
        """
        pid = self.daemon.process.pid
        daemon, server = Processes(lambda: self._pids), Processes(lambda: children(pid))
        driven = await self.load.drive(stretch)
        await self._caught_up()
        measured = Measured(
            rate=driven.rate,
            p50_ms=driven.p50_ms,
            p99_ms=driven.p99_ms,
            load_us=driven.cpu_us,
            daemon_us=daemon.used_us(stretch.requests),
            server_us=server.used_us(stretch.requests),
            peak_mib=daemon.highest_mb() + server.highest_mb(),
        )
        self._note(driven)
        return measured

    async def check(self) -> None:
        """Hold the views against what was answered since the last time.

        Raises:
            WrongOutcomeError: They differ.
        """
        refreshes, self._refreshes = self._refreshes, Counter()
        if refreshes:
            await self._views.check(refreshes, self.generations)

    async def settle(self) -> None:
        """Pass over what was stored so far."""
        await self._views.skip()

    def refreshed(self, connection_id: str, times: int) -> None:
        """Expect that a connection was refreshed so often."""
        self.generations[connection_id] += times
        self._refreshes[connection_id] += times

    async def _caught_up(self) -> None:
        """Return when no view lags behind its ledger."""
        while True:
            partitions = (await self._status()).ledger.partitions
            if not any(one.records_lag or one.events_lag for one in partitions):
                return
            await asyncio.sleep(_PAUSE_S)

    async def shared(self) -> None:
        """Return when every member owns a partition."""
        while True:
            partitions = (await self._status()).cluster.partitions
            owners = {one.owner for one in partitions}
            if None not in owners and len(owners) == len(self._pids):
                return
            await asyncio.sleep(_PAUSE_S)

    async def _status(self) -> _Status:
        answer = await self.link.request(f"{PREFIX}.status", b"", timeout_s=10)
        return _status.decode(answer.data).ok

    def _note(self, driven: Driven) -> None:
        for subject, answers in driven.answered.items():
            words = subject.split(".")
            if words[-1] == "refresh":
                self.refreshed(words[-2], answers)


@contextlib.asynccontextmanager
async def opened_system(
    folder: Path,
    *,
    partitions: int = PARTITIONS_DEFAULT,
    settings: Mapping[str, str] = MappingProxyType({}),
    members: int = 1,
) -> AsyncGenerator[System]:
    """Yield a daemon with an embedded server, which syncs before it answers, and end it.

    Args:
        folder: The daemon's data folder.
        partitions: How many ledgers.
        settings: Environment variables of the daemon.
        members: How many daemons; the others are on the first one's server.
    """
    environment = {"REFRESHD_STATE_PARTITIONS": str(partitions), **settings}
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(running_daemon(folder, settings=environment))
        login, others = daemon.context.login(), list[RunningDaemon]()
        environment["REFRESHD_KEYS_FILE"] = str(folder / KEYRING_FILE)
        for number in range(1, members):
            place = folder / f"member{number}"
            place.mkdir(mode=0o700)
            other = running_daemon(place, server=login, settings=environment)
            others.append(stack.enter_context(other))
        load = stack.enter_context(LoadProcess(folder / CONTEXT_FILE))
        async with open_link(login, name="bench") as link:
            system = System(daemon, load, link, partitions=partitions, others=others)
            await system.shared()
            yield system
