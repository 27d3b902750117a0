"""A partition whose connections are looked at again and again, and what came of that."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import anyio
import msgspec

from actors.entry import Entry
from actors.waker import Told
from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.looks import Look, is_moved
from domain.profile import ProviderProfile
from domain.result import Success
from runtime.ledger.due_scan import DuePolicy, DueScan
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.world import Uuid7Ids
from tests.fakes.connections import active
from tests.fakes.faulty_streams import FaultyStreams
from tests.fakes.ledger_worlds import MemoryWorld, entry_of, store, taken

BEGIN = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
ids = Uuid7Ids()


class Town:
    """Connections that are to be looked at again and again, and whoever looks after them."""

    def __init__(self, pauses_s: list[float]) -> None:
        self.world = MemoryWorld()
        self.streams: FaultyStreams = self.world.streams()
        self.ledger: PartitionLedger | None = None
        self.offset_s = 0.0
        self.connections: list[UUID] = []
        self.looks: list[tuple[UUID, float]] = []
        """Who was looked at when it was due, and how late that was."""
        self.noted: list[UUID] = []
        """Who was asked to say when it is due, and had not said so."""
        self._pauses_s = pauses_s
        self._tasks: anyio.abc.TaskGroup | None = None
        self._deciding = anyio.Lock()

    def now_s(self) -> float:
        """The wall clock."""
        return BEGIN.timestamp() + anyio.current_time() + self.offset_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s(), UTC)

    def note(self, connection_id: UUID, told: Told) -> None:
        """Do as an actor does that is to say when it is due: here, in a minute."""
        assert self._tasks is not None
        self._tasks.start_soon(self._noted, connection_id, told)

    async def _noted(self, connection_id: UUID, told: Told) -> None:
        async with self._deciding:
            assert self.ledger is not None
            known = (await self.ledger.read(connection_id)).next_due
            if known is None:
                self.noted.append(connection_id)
                known = self.now() + timedelta(seconds=60)
                await self._store(connection_id, known)
        told(Success(None), known)

    def scan(self, name: str = "policy", **limits: int) -> DueScan:
        """Return the scan of the partition by a policy that has a profile for everyone."""
        assert self.ledger is not None
        profile = ProviderProfile(slug=active(next(ids)).provider_slug)
        return DueScan(
            self.ledger,
            DuePolicy(name, lambda _slug: profile),
            now_s=self.now_s,
            limits=LedgerLimits(**limits),
            note=self.note,
        )

    async def store_unindexed(self, count: int) -> None:
        """Store connections as an earlier version did."""
        assert self.ledger is not None
        for _ in range(count):
            self.connections.append(next(ids))
            await store(self.ledger, entry_of(_refreshable(self.connections[-1])))
        await self.ledger.records.checkpointed()

    @contextlib.asynccontextmanager
    async def owned(self, *, counts: bool = False) -> AsyncGenerator[PartitionLedger]:
        """Own the partition beside the body, and be killed after."""
        self.streams = self.world.streams()
        ledger = self.ledger = await taken(self.streams, now_s=self.now_s)
        self._deciding = anyio.Lock()
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            ledger.due.wake = self.wake
            for run in (ledger.records.run, ledger.events.run, ledger.due.run):
                tasks.start_soon(run)
            if counts:
                tasks.start_soon(ledger.due.counts.run)
            yield ledger
            tasks.cancel_scope.cancel()

    def wake(self, connection_id: UUID, *, slug: str, urgent_s: float, told: Told) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._look, connection_id, told)

    async def _look(self, connection_id: UUID, told: Told) -> None:
        """Do as an actor does: what is due, by the record."""
        assert self.ledger is not None
        async with self._deciding:
            next_due = (await self.ledger.read(connection_id)).next_due
            now = self.now()
            if next_due is not None and next_due <= now:
                self.looks.append((connection_id, (now - next_due).total_seconds()))
                known, next_due = next_due, now + timedelta(seconds=self._pause_s())
                await self._store(connection_id, next_due, known=known)
        told(Success(None), next_due)

    def _pause_s(self) -> float:
        return self._pauses_s[len(self.looks) % len(self._pauses_s)]

    async def connect(self, due_in_s: float) -> None:
        self.connections.append(next(ids))
        await self.store(self.connections[-1], self.now() + timedelta(seconds=due_in_s))

    async def connect_many(self, count: int, slug: str, *, due_in_s: float) -> None:
        assert self.ledger is not None
        at, entries = self.now() + timedelta(seconds=due_in_s), list[Entry]()
        for _ in range(count):
            self.connections.append(next(ids))
            connection = active(self.connections[-1])
            entries.append(entry_of(msgspec.structs.replace(connection, provider_slug=slug)))
            entries[-1].look, entries[-1].is_look_new = Look(at, at), True
        await store(self.ledger, *entries)

    async def store(
        self, connection_id: UUID, at: datetime, *, known: datetime | None = None
    ) -> None:
        async with self._deciding:
            await self._store(connection_id, at, known=known)

    async def _store(
        self, connection_id: UUID, at: datetime, *, known: datetime | None = None
    ) -> None:
        assert self.ledger is not None
        entry: Entry = entry_of(active(connection_id))
        entry.look, entry.is_look_new = Look(at, at), is_moved(known, at)
        await store(self.ledger, entry)

    async def late_s(self) -> float:
        """Return how late the connection is that should have been looked at first."""
        assert self.ledger is not None
        due = [(await self.ledger.read(one)).next_due for one in self.connections]
        return max(((self.now() - at).total_seconds() for at in due if at), default=0.0)


def _refreshable(connection_id: UUID) -> ProviderConnection:
    """Return a connection whose secret the daemon has sealed."""
    connection = active(connection_id)
    assert connection.credentials is not None
    sealed = Sealed(key_id="k", nonce=b"nonce", ciphertext=b"secret")
    credentials = msgspec.structs.replace(connection.credentials, payload=sealed)
    return msgspec.structs.replace(connection, credentials=credentials)
