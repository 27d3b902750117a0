"""The owner of one connection: it takes commands one at a time, in the order they came.

A burst is drained in one go: decided one command after another, stored by one write, then
the events published, then each caller answered, all in order. Nothing is published that is
not stored, and nobody is told of a success that is not stored.

Two things can be left over when the world fails, and both are *debts*, kept in order and
paid before anything newer is published:

- events that the event log has not acknowledged;
- a write whose outcome is unknown. It is sent again, the same bytes, until the store says
  what became of it; only then are its events published, and they tell the truth. Its
  callers were answered ``DATABASE_ERROR`` when their time was up, and so is every command
  that comes before the write is settled, because what it would act on is not known.

An actor is a plain object; a task runs ``run`` only while there is something to do.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import anyio
import msgspec

from actors.mailbox import Envelope, Mailbox
from actors.ports import (
    Clock,
    ConnectionStore,
    EventLog,
    EventLogUnavailableError,
    Ids,
    Journal,
    OutcomeUnknownError,
    Sealer,
    Stored,
    StoreUnavailableError,
    Write,
    WriteConflictError,
)
from domain.commands import Command, Connect, Refresh
from domain.connection import ProviderConnection
from domain.credentials import Unsealed
from domain.decision import Decision, decide, store_failed
from domain.events import Event
from domain.result import Failure, FailureCode

_ANOTHER_WRITER = "another writer kept changing the connection"
_UNSETTLED = "an earlier write is still unsettled"
_INTERNAL = "internal error"


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound that the actors keep; all of them are configuration."""

    mailbox_commands_max: int = 1024
    burst_commands_max: int = 64
    """How many commands are decided and stored by one write."""
    resident_actors_max: int = 100_000
    idle_s: float = 300.0
    """How long an actor stays in memory after its last command."""
    resting_workers_max: int = 256
    """How many tasks rest between two actors while others are busy; none when all are idle."""
    conflict_retries_max: int = 8
    owed_events_max: int = 1024
    """How many unpublished events a connection may owe before it takes no more commands."""
    debt_pause_s_min: float = 0.05
    debt_pause_s_max: float = 2.0
    restarts_max: int = 5
    restarts_period_s: float = 60.0
    quarantine_s: float = 30.0


class World(NamedTuple):
    """The ports, shared by all actors of a directory."""

    store: ConnectionStore
    event_log: EventLog
    sealer: Sealer
    clock: Clock
    ids: Ids
    journal: Journal


class _Step(NamedTuple):
    """One command of a burst and what was decided on it."""

    envelope: Envelope
    decision: Decision


class _Unsettled(NamedTuple):
    """A write whose outcome is unknown, and the burst it stored."""

    write: Write
    before: ProviderConnection | None
    steps: tuple[_Step, ...]


def refused_as_overloaded(message: str) -> Failure:
    """Return the answer to a command that there is no room or no time for."""
    return Failure(code=FailureCode.OVERLOADED, message=message, retry_after_s=1.0)


class ConnectionActor:
    """One connection's state in memory, its mailbox and its debts."""

    __slots__ = (
        "_debt_due_s",
        "_debt_pause_s",
        "_debts",
        "_in_hand",
        "_limits",
        "_mailbox",
        "_stored",
        "_wake",
        "_world",
        "connection_id",
    )

    def __init__(self, connection_id: UUID, *, world: World, limits: Limits) -> None:
        """Make an actor that has read nothing yet."""
        self.connection_id = connection_id
        self._world = world
        self._limits = limits
        self._stored: Stored | None = None
        self._mailbox: Mailbox | None = None
        self._in_hand: Sequence[Envelope] = ()
        self._debts: list[Event | _Unsettled] | None = None
        self._debt_due_s = 0.0
        self._debt_pause_s = 0.0
        self._wake: anyio.Event | None = None

    @property
    def knows_nothing(self) -> bool:
        """Whether there is nothing worth keeping in memory: no stored connection."""
        return self._stored is None or self._stored.connection is None

    @property
    def queued_commands(self) -> int:
        """How many commands wait in the mailbox."""
        return 0 if self._mailbox is None else len(self._mailbox)

    def offer(self, envelope: Envelope) -> bool:
        """Queue a command; False at once when the mailbox is full."""
        if self._mailbox is None:
            self._mailbox = Mailbox(self._limits.mailbox_commands_max)
        if not self._mailbox.offer(envelope):
            return False
        if self._wake is not None:
            self._wake.set()
        return True

    async def run(self) -> None:
        """Serve until the mailbox is empty and no debt is left.

        Raises:
            Exception: A bug, here or in an adapter. The commands in hand are unanswered;
                the caller must ``recover`` or ``refuse_all``.
        """
        while True:
            if self._debts and anyio.current_time() >= self._debt_due_s:
                await self._pay_debts()
            batch = self._mailbox.take(self._limits.burst_commands_max) if self._mailbox else []
            if batch:
                self._in_hand = batch
                await self._serve(batch)
                self._in_hand = ()
            elif self._debts:
                await self._rest_until_debts_are_due()
            else:
                self._debts = self._mailbox = None
                return

    def recover(self) -> None:
        """After a crash: answer the commands in hand and forget what was read.

        Queued commands and debts stay; the store tells the rest.
        """
        in_hand, self._in_hand = self._in_hand, ()
        self._stored = None
        for envelope in in_hand:
            envelope.reply(self._failed(envelope.command, None, _INTERNAL).reply)

    def refuse_all(self, failure: Failure) -> None:
        """Answer everything in hand and in the mailbox with ``failure``."""
        unanswered = [
            *self._in_hand,
            *(self._mailbox.take(len(self._mailbox)) if self._mailbox else ()),
        ]
        self._in_hand = ()
        for envelope in unanswered:
            envelope.reply(failure)

    async def _serve(self, batch: list[Envelope]) -> None:
        """Decide a burst, store it, publish it, answer it."""
        # The late ones have their answer: a crash or cancellation must not answer them again.
        self._in_hand = batch = self._without_late_ones(batch)
        if not batch:
            return
        if len(self._debts or ()) >= self._limits.owed_events_max:
            for envelope in batch:
                envelope.reply(refused_as_overloaded("the connection's events cannot be published"))
            return
        if any(isinstance(debt, _Unsettled) for debt in self._debts or ()):
            self._answer_failed(batch, self._stored, _UNSETTLED)
            return
        for _ in range(self._limits.conflict_retries_max):
            try:
                if self._stored is None:
                    self._stored = await self._world.store.load(self.connection_id)
            except StoreUnavailableError as error:
                self._answer_failed(batch, None, str(error))
                return
            steps = self._decide(batch, self._stored.connection)
            if await self._stored_by_one_write(steps, self._stored):
                return
        self._answer_failed(batch, None, _ANOTHER_WRITER)

    async def _stored_by_one_write(self, steps: list[_Step], before: Stored) -> bool:
        """Store what ``steps`` decided and finish them; False asks to read and decide again."""
        after = steps[-1].decision.connection
        if after is not None and after is not before.connection:
            write = Write(after, before.revision, next(self._world.ids).bytes)
            try:
                self._stored = Stored(after, await self._world.store.write(write))
            except WriteConflictError:
                self._stored = None
                return False
            except StoreUnavailableError as error:
                self._finish_unwritten(steps, before, str(error))
                return True
            except OutcomeUnknownError as error:
                self._owe_settling(steps, before, write, str(error))
                return True
        await self._publish([event for step in steps for event in step.decision.events])
        for step in steps:
            step.envelope.reply(step.decision.reply)
        return True

    def _decide(self, batch: list[Envelope], connection: ProviderConnection | None) -> list[_Step]:
        """Decide one command after another, each on what the one before it left."""
        now = self._world.clock.now()
        steps: list[_Step] = []
        for envelope in batch:
            command = self._sealed(envelope.command, connection)
            decision = decide(connection, command, now=now, ids=self._world.ids)
            connection = decision.connection
            steps.append(_Step(envelope, decision))
        return steps

    def _sealed(self, command: Command, connection: ProviderConnection | None) -> Command:
        """Return ``command`` with its plaintext sealed for the generation it would become."""
        if not isinstance(command, Connect | Refresh):
            return command
        credentials = command.credentials
        if not isinstance(credentials, Unsealed):
            return command
        generation = 1 if connection is None else connection.generation + 1
        payload = self._world.sealer.seal(
            credentials.secret, connection_id=self.connection_id, generation=generation
        )
        return msgspec.structs.replace(command, credentials=credentials.sealed_as(payload))

    def _without_late_ones(self, batch: list[Envelope]) -> list[Envelope]:
        """Return the commands whose caller still waits; the others are not executed."""
        now_s = anyio.current_time()
        if all(envelope.deadline_s > now_s for envelope in batch):
            return batch
        in_time = [envelope for envelope in batch if envelope.deadline_s > now_s]
        self._world.journal.dropped(self.connection_id, len(batch) - len(in_time))
        for envelope in batch:
            if envelope.deadline_s <= now_s:
                envelope.reply(refused_as_overloaded("time was up before the command was taken up"))
        return in_time

    async def _publish(self, events: list[Event]) -> None:
        """Publish in order, or owe what cannot be published now."""
        if not events:
            return
        if self._debts:
            self._debts.extend(events)
            return
        try:
            await self._world.event_log.append(events)
        except EventLogUnavailableError:
            self._owe(events)

    def _failed(
        self, command: Command, connection: ProviderConnection | None, cause: str
    ) -> Decision:
        """Return the store-failure decision for ``command``."""
        return store_failed(
            connection, command, cause=cause, now=self._world.clock.now(), ids=self._world.ids
        )

    def _answer_failed(
        self, envelopes: Sequence[Envelope], stored: Stored | None, cause: str
    ) -> None:
        """Answer ``DATABASE_ERROR`` at once; the events follow when they can be published."""
        self._world.journal.store_failed(self.connection_id, cause)
        connection = None if stored is None else stored.connection
        for envelope in envelopes:
            decision = self._failed(envelope.command, connection, cause)
            self._owe(decision.events)
            envelope.reply(decision.reply)

    def _finish_unwritten(self, steps: list[_Step], before: Stored, cause: str) -> None:
        """Finish a burst whose write was certainly not applied.

        What was decided before the first change still holds; the change and all that was
        decided on top of it did not happen.
        """
        held = 0
        while steps[held].decision.connection is before.connection:
            self._owe(steps[held].decision.events)
            steps[held].envelope.reply(steps[held].decision.reply)
            held += 1
        self._answer_failed([step.envelope for step in steps[held:]], before, cause)

    def _owe_settling(self, steps: list[_Step], before: Stored, write: Write, cause: str) -> None:
        """Answer a burst whose write is in doubt, and owe its events until it is settled."""
        self._world.journal.store_failed(self.connection_id, cause)
        self._owe((_Unsettled(write, before.connection, tuple(steps)),))
        for step in steps:
            failed = self._failed(step.envelope.command, before.connection, cause)
            step.envelope.reply(failed.reply)

    def _owe(self, debts: Sequence[Event | _Unsettled]) -> None:
        """Add debts behind those already owed; they are tried at once when nothing else waits."""
        if not debts:
            return
        if not self._debts:
            self._debts = []
            self._debt_pause_s = self._limits.debt_pause_s_min
            self._debt_due_s = anyio.current_time()
        self._debts.extend(debts)

    async def _pay_debts(self) -> None:
        """Try once to settle and publish what is owed, oldest first; stop at what fails."""
        assert self._debts is not None
        while self._debts:
            head = self._debts[0]
            if isinstance(head, _Unsettled):
                paid = await self._settle(head)
            else:
                paid = await self._publish_owed()
            if not paid:
                self._debt_due_s = anyio.current_time() + self._debt_pause_s
                self._debt_pause_s = min(2 * self._debt_pause_s, self._limits.debt_pause_s_max)
                return

    async def _settle(self, unsettled: _Unsettled) -> bool:
        """Learn what became of a write, and put its true events in its place."""
        assert self._debts is not None
        try:
            revision = await self._world.store.write(unsettled.write)
        except (StoreUnavailableError, OutcomeUnknownError):
            return False
        except WriteConflictError:
            self._stored = None
            decisions = [
                self._failed(step.envelope.command, unsettled.before, _ANOTHER_WRITER)
                for step in unsettled.steps
            ]
            applied = False
        else:
            self._stored = Stored(unsettled.write.connection, revision)
            decisions = [step.decision for step in unsettled.steps]
            applied = True
        self._debts[0:1] = [event for decision in decisions for event in decision.events]
        self._world.journal.write_settled(self.connection_id, applied=applied)
        return True

    async def _publish_owed(self) -> bool:
        """Publish the owed events up to the first unsettled write."""
        assert self._debts is not None
        events: list[Event] = []
        for debt in self._debts:
            if isinstance(debt, _Unsettled):
                break
            events.append(debt)
        try:
            await self._world.event_log.append(events)
        except EventLogUnavailableError:
            return False
        del self._debts[: len(events)]
        return True

    async def _rest_until_debts_are_due(self) -> None:
        """Wait for the next try, or for a command, whichever comes first."""
        self._wake = anyio.Event()
        with anyio.move_on_after(max(0.0, self._debt_due_s - anyio.current_time())):
            await self._wake.wait()
        self._wake = None
