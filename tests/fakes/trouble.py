"""A store and an event log with random waits and faults, both drawn from one seed."""

import contextlib
from collections.abc import Generator, Sequence
from random import Random
from uuid import UUID

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from actors.ports import (
    Clock,
    EventLogUnavailableError,
    OutcomeUnknownError,
    Stored,
    StoreUnavailableError,
    Write,
    WriteConflictError,
)
from domain.credentials import Credentials, CredentialType, Opaque, Sealed, Secret
from domain.events import Event
from tests.fakes.world import MemoryConnectionStore, MemoryEventLog, PlainSealer


class BugError(RuntimeError):
    """What a bug in an adapter would raise: nothing that a port promises."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How often each fault strikes, from 0.0 (never) to 1.0 (always), and how slow all is."""

    wait_s_max: float = 0.0
    load_fails: float = 0.0
    write_fails: float = 0.0
    write_is_lost: float = 0.0
    """Outcome unknown, and it was not applied."""
    write_is_late: float = 0.0
    """Outcome unknown, and it will be applied unless somebody writes before."""
    answer_is_lost: float = 0.0
    """Outcome unknown, and it was applied."""
    somebody_else_writes: float = 0.0
    append_stops: float = 0.0
    """Before any single event of an append."""
    adapter_has_bug: float = 0.0


class Trouble:
    """The dice, and the rates until ``ended``."""

    def __init__(self, seed: int, rates: Rates) -> None:
        """Throw the same dice for the same seed."""
        self._random = Random(seed)
        self.rates = rates

    def ended(self) -> None:
        """Let nothing fail from now on."""
        self.rates = Rates(wait_s_max=self.rates.wait_s_max)

    def strikes(self, rate: float) -> bool:
        """Whether a fault of this rate strikes now."""
        return rate > 0 and self._random.random() < rate

    def wait_s(self) -> float:
        """Return how long something takes this time."""
        return self._random.random() * self.rates.wait_s_max

    async def wait(self) -> None:
        """Let others run, and sometimes take a while."""
        for _ in range(self._random.randrange(3)):
            await anyio.lowlevel.checkpoint()
        if self.rates.wait_s_max and self._random.random() < 1 / 2:
            await anyio.sleep(self.wait_s())


class _Turns:
    """Notices two operations of one connection at the same time."""

    def __init__(self) -> None:
        """Start with nobody at work."""
        self._at_work: set[UUID] = set()
        self.overlaps = 0

    @contextlib.contextmanager
    def taken(self, connection_id: UUID) -> Generator[None]:
        """Note that the body is an operation of a connection."""
        if connection_id in self._at_work:
            self.overlaps += 1
        self._at_work.add(connection_id)
        try:
            yield
        finally:
            self._at_work.discard(connection_id)


class TroubledConnectionStore(MemoryConnectionStore):
    """The memory store behind a bad network, with another writer around."""

    def __init__(self, trouble: Trouble, *, clock: Clock) -> None:
        """Take waits and faults from ``trouble``; the other writer looks at ``clock``."""
        super().__init__()
        self.turns = _Turns()
        self.foreign: set[bytes] = set()
        """The op_ids of the other writer."""
        self.tasks: TaskGroup | None = None
        """Where late copies of a write are under way."""
        self._trouble = trouble
        self._clock = clock

    async def load(self, connection_id: UUID) -> Stored:
        """See ``ConnectionStore.load``."""
        with self.turns.taken(connection_id):
            await self._trouble.wait()
            self._maybe_bug()
            if self._strikes("load_fails"):
                raise StoreUnavailableError("cannot be read")
            return await super().load(connection_id)

    async def write(self, write: Write) -> int:
        """See ``ConnectionStore.write``."""
        with self.turns.taken(write.connection.id):
            await self._trouble.wait()
            self._maybe_bug()
            if self._strikes("somebody_else_writes"):
                self._write_foreign(write)
            if self._strikes("write_fails"):
                raise StoreUnavailableError("cannot be written")
            if self._strikes("write_is_lost"):
                raise OutcomeUnknownError("lost")
            if self.tasks is not None and self._strikes("write_is_late"):
                self.tasks.start_soon(self._apply_late, write)
                raise OutcomeUnknownError("late")
            revision = await super().write(write)
            await self._trouble.wait()
            if self._strikes("answer_is_lost"):
                raise OutcomeUnknownError("answer lost")
            self._maybe_bug()
            return revision

    async def _apply_late(self, write: Write) -> None:
        """Apply a copy of a write that was under way for long."""
        await anyio.sleep(self._trouble.wait_s() * 10)
        with contextlib.suppress(WriteConflictError):
            await super().write(write)

    def _write_foreign(self, ours: Write) -> None:
        """Write as another owner would, but never over a write that is still in doubt.

        That one could not be told from a write that was never applied (see ``ports``).
        """
        written = self.records.get(ours.connection.id)
        if written is None or written.op_id == ours.op_id:
            return
        op_id = b"foreign" + len(self.history).to_bytes(9)
        connection = written.connection
        if connection.is_active:
            credentials = Credentials(
                credential_type=CredentialType.OAUTH2, payload=Opaque(data=op_id)
            )
            connection = connection.refreshed(credentials, now=self._clock.now())
        else:
            connection = msgspec.structs.replace(connection, alias=op_id.hex())
        self.foreign.add(op_id)
        self._apply(Write(connection, self.revisions[connection.id], op_id))

    def _strikes(self, fault: str) -> bool:
        return self._trouble.strikes(getattr(self._trouble.rates, fault))

    def _maybe_bug(self) -> None:
        if self._strikes("adapter_has_bug"):
            raise BugError("store")


class TroubledEventLog(MemoryEventLog):
    """The memory event log with waits, and appends that stop midway."""

    def __init__(self, trouble: Trouble) -> None:
        """Take waits and faults from ``trouble``."""
        super().__init__()
        self.turns = _Turns()
        self.before = self._maybe_stop
        self._trouble = trouble

    async def append(self, events: Sequence[Event]) -> None:
        """See ``EventLog.append``."""
        assert len({event.connection_id for event in events}) == 1
        with self.turns.taken(events[0].connection_id):
            await self._trouble.wait()
            await super().append(events)
            await self._trouble.wait()
            if self._trouble.strikes(self._trouble.rates.append_stops):
                raise EventLogUnavailableError("answer lost")

    def _maybe_stop(self, _event: Event) -> None:
        if self._trouble.strikes(self._trouble.rates.append_stops):
            raise EventLogUnavailableError("stopped midway")
        if self._trouble.strikes(self._trouble.rates.adapter_has_bug):
            raise BugError("event log")


class BuggySealer(PlainSealer):
    """A sealer that raises now and then."""

    def __init__(self, trouble: Trouble) -> None:
        """Take the faults from ``trouble``."""
        self._trouble = trouble

    def seal(self, secret: Secret, *, connection_id: UUID, generation: int) -> Sealed:
        """See ``Sealer.seal``."""
        if self._trouble.strikes(self._trouble.rates.adapter_has_bug):
            raise BugError("sealer")
        return super().seal(secret, connection_id=connection_id, generation=generation)
