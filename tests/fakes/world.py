"""In-memory ports for the tests of the actors; backend-neutral, with faults on demand."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import anyio

from actors.ports import CannotUnsealError, Stored, Write, WriteConflictError
from domain.credentials import Sealed, Secret
from domain.events import Event

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryConnectionStore:
    """A store with the semantics of the real one, in a dictionary.

    ``before`` is awaited before each operation and may wait or raise the port's errors;
    ``after_write`` likewise after a write was applied.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.records: dict[UUID, Write] = {}
        self.revisions: dict[UUID, int] = {}
        self.history: list[Write] = []
        self.loads = 0
        self.before: Callable[[str, UUID], object] | None = None
        self.after_write: Callable[[Write], object] | None = None
        self._sequence = 0

    async def load(self, connection_id: UUID) -> Stored:
        """See ``ConnectionStore.load``."""
        self.loads += 1
        await self._hook(self.before, "load", connection_id)
        written = self.records.get(connection_id)
        if written is None:
            return Stored(None, 0)
        return Stored(written.connection, self.revisions[connection_id])

    async def write(self, write: Write) -> int:
        """See ``ConnectionStore.write``."""
        connection_id = write.connection.id
        await self._hook(self.before, "write", connection_id)
        revision = self.revisions.get(connection_id, 0)
        if revision != write.expected_revision:
            written = self.records.get(connection_id)
            if written is not None and written.op_id == write.op_id:
                return revision
            raise WriteConflictError
        revision = self._apply(write)
        await self._hook(self.after_write, write)
        return revision

    def _apply(self, write: Write) -> int:
        """Store a write and return its revision."""
        self._sequence += 1
        self.records[write.connection.id] = write
        self.revisions[write.connection.id] = self._sequence
        self.history.append(write)
        return self._sequence

    async def _hook(self, hook: Callable[..., object] | None, *arguments: object) -> None:
        """Run a hook, which may be a coroutine function, and let others run."""
        await anyio.lowlevel.checkpoint()
        if hook is not None:
            result = hook(*arguments)
            if hasattr(result, "__await__"):
                await result  # type: ignore[misc]


class MemoryEventLog:
    """An event log in a list; each event id is stored once."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[Event] = []
        self.before: Callable[[Event], object] | None = None
        """Called before each single event is stored; may raise EventLogUnavailableError."""
        self._ids: set[UUID] = set()

    async def append(self, events: Sequence[Event]) -> None:
        """See ``EventLog.append``."""
        for event in events:
            await anyio.lowlevel.checkpoint()
            if self.before is not None:
                self.before(event)
            if event.id not in self._ids:
                self._ids.add(event.id)
                self.events.append(event)


class PlainSealer:
    """Seals nothing: it writes down what it was asked to seal, so that tests can look."""

    def seal(self, secret: Secret, *, connection_id: UUID, generation: int) -> Sealed:
        """See ``Sealer.seal``."""
        return Sealed(
            key_id="plain",
            nonce=f"{connection_id}:{generation}".encode(),
            ciphertext=secret.reveal(),
        )

    def unseal(self, sealed: Sealed, *, connection_id: UUID, generation: int) -> Secret:
        """See ``Sealer.unseal``."""
        if sealed.nonce != f"{connection_id}:{generation}".encode():
            raise CannotUnsealError
        return Secret(sealed.ciphertext)


class TickingClock:
    """A clock that goes on by a millisecond whenever it is read."""

    def __init__(self) -> None:
        """Start at ``EPOCH``."""
        self.time = EPOCH

    def now(self) -> datetime:
        """See ``Clock.now``."""
        self.time += timedelta(milliseconds=1)
        return self.time


class CountingIds:
    """Ids in ascending order, the same in every run."""

    def __init__(self, last: int = 0) -> None:
        """Start after ``last``."""
        self._last = last

    def __iter__(self) -> "CountingIds":
        """Return itself."""
        return self

    def __next__(self) -> UUID:
        """See ``Ids``."""
        self._last += 1
        return UUID(int=(7 << 76) | (2 << 62) | self._last)


class CountingJournal:
    """Counts what it is told."""

    def __init__(self) -> None:
        """Start with every count at zero."""
        self.counts: Counter[str] = Counter()
        self.errors: list[Exception] = []

    def crashed(self, connection_id: UUID, error: Exception) -> None:
        """See ``Journal``."""
        self.counts["crashed"] += 1
        self.errors.append(error)

    def quarantined(self, connection_id: UUID, quarantine_s: float) -> None:
        """See ``Journal``."""
        self.counts["quarantined"] += 1

    def store_failed(self, connection_id: UUID, cause: str) -> None:
        """See ``Journal``."""
        self.counts["store_failed"] += 1

    def dropped(self, connection_id: UUID, commands: int) -> None:
        """See ``Journal``."""
        self.counts["dropped"] += commands

    def write_settled(self, connection_id: UUID, *, applied: bool) -> None:
        """See ``Journal``."""
        self.counts["settled_applied" if applied else "settled_not_applied"] += 1

    def outcome_held(self, connection_id: UUID, cause: str) -> None:
        """See ``Journal``."""
        self.counts["outcome_held"] += 1

    def outcome_lost(self, connection_id: UUID) -> None:
        """See ``Journal``."""
        self.counts["outcome_lost"] += 1

    def outcome_superseded(self, connection_id: UUID) -> None:
        """See ``Journal``."""
        self.counts["outcome_superseded"] += 1

    def client_paused(self, provider_slug: str, code: str, reason: str) -> None:
        """See ``Journal``."""
        self.counts["client_paused"] += 1

    def cannot_unseal(self, connection_id: UUID) -> None:
        """See ``Journal``."""
        self.counts["cannot_unseal"] += 1
