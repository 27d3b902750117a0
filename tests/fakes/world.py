"""In-memory ports for the tests of the actors; backend-neutral, with faults on demand."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import anyio
import anyio.lowlevel

from actors.entry import Entry
from actors.ports import CannotUnsealError, Outcome, PartitionLostError, Stored
from domain.connection import ProviderConnection
from domain.credentials import Sealed, Secret
from domain.events import Event
from domain.remembered import Answers

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Change(NamedTuple):
    """One entry as it was stored."""

    connection_id: UUID
    connection: ProviderConnection | None
    """None where nothing changed."""
    answers: Answers
    events: tuple[Event, ...]
    next_due: datetime | None = None
    """When it is to be looked at next."""


class MemoryLedger:
    """A ledger with the semantics of the real one, in a list of groups.

    ``before`` is called before each operation ("add", "append", "recall", "read") on each
    connection, and may wait or raise; ``after_append`` when a group was stored and nobody knows it yet.
    """

    def __init__(self, *, group_entries_max: int = 1_000) -> None:
        """Start empty."""
        self.records: dict[UUID, Stored] = {}
        self.groups: list[list[Change]] = []
        self.reads = 0
        self.has_room = True
        self.before: Callable[[str, UUID], object] | None = None
        self.after_append: Callable[[], object] | None = None
        self.is_lost = False
        """Whether another daemon has taken the partition."""
        self._group: list[Change] = []
        self._group_entries_max = group_entries_max

    @property
    def history(self) -> list[Change]:
        """Every entry that changed a connection, in order."""
        entries = [change for group in self.groups for change in group]
        return [change for change in entries if change.connection is not None]

    def changes_of(self, connection_id: UUID) -> list[Change]:
        """Every entry of one connection, in order."""
        entries = [change for group in self.groups for change in group]
        return [change for change in entries if change.connection_id == connection_id]

    @property
    def events(self) -> list[Event]:
        """Every event, in order."""
        entries = [change for group in self.groups for change in group]
        return [event for change in entries for event in change.events]

    def add(self, entry: Entry) -> bool:
        """See ``Ledger.add``."""
        if len(self._group) >= self._group_entries_max:
            return False
        if self.before is not None:
            self.before("add", entry.connection_id)
        next_due = None if entry.look is None else entry.look.at
        change = Change(
            entry.connection_id, entry.connection, entry.answers, (*entry.events,), next_due
        )
        self._group.append(change)
        return True

    async def append(self) -> None:
        """See ``Ledger.append``."""
        group = self._group
        try:
            await anyio.lowlevel.checkpoint()
            for change in group:
                await self._hook(self.before, "append", change.connection_id)
            if self.is_lost:
                raise PartitionLostError("another daemon has taken it")
            self.groups.append(group)
            for change in group:
                if change.connection is not None:
                    self.records[change.connection_id] = Stored(
                        change.connection, change.answers, change.next_due
                    )
        finally:
            self._group = []
        await self._hook(self.after_append)

    def recall(self, connection_id: UUID) -> Stored | None:
        """See ``Ledger.recall``: nothing is in memory."""
        if self.before is not None:
            self.before("recall", connection_id)
        return None

    async def read(self, connection_id: UUID) -> Stored:
        """See ``Ledger.read``."""
        self.reads += 1
        await anyio.lowlevel.checkpoint()
        await self._hook(self.before, "read", connection_id)
        return self.records.get(connection_id, Stored(None))

    async def _hook(self, hook: Callable[..., object] | None, *arguments: object) -> None:
        """Run a hook, which may be a coroutine function."""
        if hook is not None:
            result = hook(*arguments)
            if hasattr(result, "__await__"):
                await result  # type: ignore[misc]


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


class MemorySpill:
    """Keeps outcomes in a list; ``is_full`` is a disk without room."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self.kept: list[Outcome] = []
        self.ever_kept = 0
        self.is_full = False

    async def keep(self, outcome: Outcome) -> bool:
        """See ``Spill``."""
        await anyio.lowlevel.checkpoint()
        if self.is_full:
            return False
        self.kept.append(outcome)
        self.ever_kept += 1
        return True

    async def forget(self, outcome: Outcome) -> None:
        """See ``Spill``."""
        await anyio.lowlevel.checkpoint()
        self.kept.remove(outcome)


class CountingJournal:
    """Counts what it is told, and keeps it."""

    def __init__(self) -> None:
        """Start with every count at zero."""
        self.counts: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.errors: list[Exception] = []
        self.told: list[tuple[object, ...]] = []
        """The name of each call and its arguments, in order."""

    def crashed(self, connection_id: UUID, error: Exception) -> None:
        """See ``Journal``."""
        self._note("crashed", connection_id, error)
        self.errors.append(error)

    def quarantined(self, connection_id: UUID, quarantine_s: float) -> None:
        """See ``Journal``."""
        self._note("quarantined", connection_id, quarantine_s)

    def store_failed(self, connection_id: UUID, cause: str) -> None:
        """See ``Journal``."""
        self._note("store_failed", connection_id, cause)

    def dropped(self, connection_id: UUID, commands: int) -> None:
        """See ``Journal``."""
        self._note("dropped", connection_id, commands, count=commands)

    def events_dropped(self, events: int) -> None:
        """See ``Journal``."""
        self._note("events_dropped", events, count=events)

    def outcome_lost(self, connection_id: UUID) -> None:
        """See ``Journal``."""
        self._note("outcome_lost", connection_id)

    def outcome_unknown(self, provider_slug: str) -> None:
        """See ``Journal``; how often is told apart from troubles."""
        self.unknown[provider_slug] += 1

    def cut_off(self, connection_id: UUID) -> None:
        """See ``Journal``."""
        self._note("cut_off", connection_id)

    def client_paused(self, provider_slug: str, code: str, reason: str) -> None:
        """See ``Journal``."""
        self._note("client_paused", provider_slug, code, reason)

    def client_resumed(self, provider_slug: str) -> None:
        """See ``Journal``."""
        self._note("client_resumed", provider_slug)

    def cannot_unseal(self, connection_id: UUID) -> None:
        """See ``Journal``."""
        self._note("cannot_unseal", connection_id)

    def _note(self, name: str, *what: object, count: int = 1) -> None:
        self.counts[name] += count
        self.told.append((name, *what))
