"""The owner of one connection: it takes commands one at a time, in the order they came.

A burst is drained in one go: decided one command after another, stored by one write, then
the events published, then each caller answered, all in order. Nothing is published that is
not stored, and nobody is told of a success that is not stored.

What is left over when the world fails are *debts* (``actors.debts``), paid before anything newer
is published. Until a write in doubt is settled, what a command would act on is not known, and
it is answered ``DATABASE_ERROR``.

While a *flight* (``actors.flight``) asks the provider, reads are answered from what is stored and
commands that change state wait for it. Callers of ``token`` never stand in line with commands.

An actor is a plain object; a task runs ``run`` only while there is something to do.
"""

import math
from collections.abc import Callable, Sequence
from uuid import UUID

import anyio

from actors.burst import ANOTHER_WRITER, Burst, answer_failed
from actors.debts import Debts, UnsettledWrite
from actors.flight import Flight
from actors.landing import Wish, database_error
from actors.mailbox import Envelope, Mailbox, without_late_ones
from actors.ports import (
    EventLogUnavailableError,
    OutcomeUnknownError,
    Stored,
    StoreUnavailableError,
    WriteConflictError,
)
from actors.token_desk import IN_PROGRESS, TokenDesk, answer_from_memory
from actors.world import Limits, World, refused_as_overloaded
from domain.commands import Get, GetToken
from domain.events import Event
from domain.profile import ProviderProfile
from domain.result import Failure

_UNSETTLED = "an earlier write is still unsettled"
_INTERNAL = "internal error"
SpawnFlight = Callable[[Flight, Wish | None], None]


class ConnectionActor:
    """One connection's state in memory, its mailbox, its debts, its flight."""

    __slots__ = (
        "_debts",
        "_desk",
        "_flight",
        "_in_hand",
        "_limits",
        "_mailbox",
        "_spawn",
        "_stored",
        "_wake",
        "_world",
        "connection_id",
    )

    def __init__(
        self, connection_id: UUID, *, world: World, limits: Limits, spawn: SpawnFlight
    ) -> None:
        """Make an actor that has read nothing yet.

        Args:
            connection_id: Whose actor.
            world: The ports.
            limits: The bounds.
            spawn: Gives a flight a task of its own.
        """
        self.connection_id = connection_id
        self._world = world
        self._limits = limits
        self._spawn = spawn
        self._stored: Stored | None = None
        self._mailbox: Mailbox | None = None
        self._desk: TokenDesk | None = None
        self._in_hand: Sequence[Envelope] = ()
        self._debts: Debts | None = None
        self._flight: Flight | None = None
        self._wake: anyio.Event | None = None

    @property
    def knows_nothing(self) -> bool:
        """Whether there is nothing worth keeping in memory: no stored connection, no debt."""
        if self._debts or self._flight is not None:
            return False
        return self._stored is None or self._stored.connection is None

    @property
    def queued_commands(self) -> int:
        """How many commands wait in the mailbox."""
        return 0 if self._mailbox is None else len(self._mailbox)

    async def wound_up(self) -> None:
        """Return when no flight is under way and nothing is owed; the store tells the rest."""
        while self._flight is not None and not self._flight.is_over:
            await self._rest(math.inf)
        self._stored = self._flight = None
        if self._debts:
            await self._debts.pay_all()

    def answer_at_once(self, envelope: Envelope) -> bool:
        """Answer a ``token`` from memory, when nothing is under way that could change it."""
        stored = self._stored if self._flight is None else self._flight.stored
        if stored is None or self.queued_commands or self._in_hand or self._debts:
            return False
        return answer_from_memory(stored.connection, envelope, self._world, self._limits)

    def offer(self, envelope: Envelope) -> bool:
        """Queue a command; False at once when the mailbox is full.

        A ``token`` is always taken: how many may wait is bounded per daemon.
        """
        if isinstance(envelope.command, GetToken):
            self._open_desk().asking.append(envelope)
        else:
            if self._mailbox is None:
                self._mailbox = Mailbox(self._limits.mailbox_commands_max)
            if not self._mailbox.offer(envelope):
                return False
        self._awake()
        return True

    async def run(self) -> None:
        """Serve until nobody waits, no flight is under way and no debt is left.

        Raises:
            Exception: A bug, here or in an adapter. The commands in hand are unanswered;
                the caller must ``recover`` or ``refuse_all``.
        """
        while True:
            if self._debts and anyio.current_time() >= self._debts.due_s:
                await self._debts.pay()
            if self._flight is not None:
                if not self._flight.is_over:
                    self._serve_during(self._flight)
                    await self._rest(self._next_due_s())
                else:
                    self._land(self._flight)
                continue
            batch = self._mailbox.take(self._limits.burst_commands_max) if self._mailbox else []
            if batch:
                self._in_hand = batch
                await self._serve(batch)
                self._in_hand = ()
            elif self._desk is not None and self._desk.asking:
                await self._serve_askers(self._desk)
            elif self._debts:
                await self._rest(self._debts.due_s)
            else:
                self._debts = self._mailbox = self._desk = None
                return

    def recover(self) -> None:
        """After a crash: answer the commands in hand and forget what was read.

        Queued commands, a flight and debts stay; the store tells the rest.
        """
        in_hand, self._in_hand, self._stored = self._in_hand, (), None
        answer_failed(in_hand, None, _INTERNAL, self._world)
        if self._desk is not None:
            self._desk.refuse_all(database_error(_INTERNAL))

    def forget(self) -> None:
        """Give up what is still owed: the actor leaves memory."""
        if self._debts:
            self._debts.forget()

    def refuse_all(self, failure: Failure) -> None:
        """Answer everything in hand, in the mailbox and at the desk with ``failure``."""
        queued = self._mailbox.take(len(self._mailbox)) if self._mailbox else []
        unanswered, self._in_hand = (*self._in_hand, *queued), ()
        for envelope in unanswered:
            envelope.reply(failure)
        if self._desk is not None:
            self._desk.refuse_all(failure)

    async def _serve(self, batch: list[Envelope]) -> None:
        """Decide a burst, store it, publish it, answer it."""
        # The late ones have their answer: a crash or cancellation must not answer them again.
        batch, late = without_late_ones(batch, anyio.current_time())
        if late:
            self._drop(late)
        self._in_hand = batch
        if not batch:
            return
        if self._owes_too_much():
            for envelope in batch:
                envelope.reply(refused_as_overloaded("events cannot be published now"))
            return
        if self._debts and self._debts.has_unsettled_write:
            self._answer_failed(batch, self._stored, _UNSETTLED)
            return
        for _ in range(self._limits.conflict_retries_max):
            try:
                stored = await self._loaded()
            except StoreUnavailableError as error:
                self._answer_failed(batch, None, str(error))
                return
            if stored.connection is not None and stored.connection.intent is not None:
                assert self._mailbox is not None
                self._mailbox.put_back(batch)
                self._in_hand = ()
                self._take_off(stored)
                return
            if await self._finished(Burst(batch, stored, self.connection_id, self._world)):
                return
        self._answer_failed(batch, None, ANOTHER_WRITER)

    async def _loaded(self) -> Stored:
        """Return what is stored, read where it is not known.

        Raises:
            StoreUnavailableError: It cannot be read.
        """
        if self._stored is None:
            self._stored = await self._world.store.load(self.connection_id)
        return self._stored

    async def _finished(self, burst: Burst) -> bool:
        """Carry a burst out, also when the daemon stops meanwhile: what was begun is told truly.

        To begin it anew is safe: the store knows the write, and the event log the events.
        """
        try:
            return await self._carried_out(burst)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self._limits.last_burst_s, shield=True) as scope:
                await self._carried_out(burst)
            if scope.cancelled_caught:
                burst.answer_at_the_end()
            if burst.is_answered:
                self._in_hand = ()
            raise

    async def _carried_out(self, burst: Burst) -> bool:
        """Store a burst, publish and answer it; False asks to read and decide again."""
        write = burst.write
        if write is not None:
            try:
                self._stored = Stored(write.connection, await self._world.store.write(write))
            except WriteConflictError:
                self._stored = None
                return False
            except StoreUnavailableError as error:
                self._world.journal.store_failed(self.connection_id, str(error))
                self._owe(burst.answer_unwritten(str(error)))
                return True
            except OutcomeUnknownError as error:
                self._world.journal.store_failed(self.connection_id, str(error))
                self._owe((burst.answer_in_doubt(str(error)),))
                return True
        await self._publish(burst.events)
        burst.answer()
        return True

    def _owes_too_much(self) -> bool:
        """Whether too many events are unpublished: this connection's, or the daemon's."""
        own, limits = len(self._debts or ()), self._limits
        all_of_them = self._world.owed.events
        return own >= limits.owed_events_max or all_of_them >= limits.owed_events_total_max

    def _drop(self, late: Sequence[Envelope]) -> None:
        """Refuse commands whose callers' time is up, and count them."""
        self._world.journal.dropped(self.connection_id, len(late))
        for envelope in late:
            envelope.reply(refused_as_overloaded("time was up before the command was taken up"))

    async def _serve_askers(self, desk: TokenDesk) -> None:
        """Answer those whom the present token satisfies; the others share a flight."""
        if self._debts and self._debts.has_unsettled_write:
            desk.refuse_all(database_error(_UNSETTLED))
            return
        try:
            stored = await self._loaded()
        except StoreUnavailableError as error:
            self._world.journal.store_failed(self.connection_id, str(error))
            desk.refuse_all(database_error(str(error)))
            return
        late, wish = desk.sort(stored.connection)
        if late:
            self._drop(late)
        if wish is not None:
            self._take_off(stored, wish)

    def _take_off(self, stored: Stored, wish: Wish | None = None) -> None:
        """Start a flight; one alone is ever under way."""
        assert self._flight is None
        assert stored.connection is not None
        slug = stored.connection.provider_slug
        self._flight = Flight(
            stored,
            self._world.providers.profile(slug) or ProviderProfile(slug=slug),
            world=self._world,
            limits=self._limits,
            publish=self._publish,
            ended=self._awake,
        )
        self._spawn(self._flight, wish)

    def _serve_during(self, flight: Flight) -> None:
        """Answer what needs not wait for the flight, and those whose time is up."""
        stored = flight.stored
        desk = self._open_desk()
        while desk.asking:
            envelope = desk.asking[0]
            at_once = stored is not None and desk.answer_at_once(stored.connection, envelope)
            desk.asking.popleft()
            if not at_once:
                desk.wait(envelope)
        desk.answer_due(flight.failure or IN_PROGRESS)
        if not self._mailbox:
            return
        if stored is not None:
            reads = self._mailbox.sift(lambda envelope: isinstance(envelope.command, Get))
            self._in_hand = reads
            Burst(reads, stored, self.connection_id, self._world).answer()
            self._in_hand = ()
        due_s = anyio.current_time() + self._limits.answer_margin_s
        late = self._mailbox.sift(lambda envelope: envelope.deadline_s <= due_s)
        if late:
            self._drop(late)

    def _land(self, flight: Flight) -> None:
        """Take over what the flight left, and answer everyone who shared it."""
        self._flight, self._stored = None, flight.stored
        desk = self._open_desk()
        connection = None if flight.stored is None else flight.stored.connection
        if flight.failure and connection and connection.intent and self._mailbox:
            # It cannot be closed: commands must not take off for it again and again.
            held = self._mailbox.take(len(self._mailbox))
            self._answer_failed(held, flight.stored, "an open refresh cannot be closed")
        if connection is not None and (flight.is_fresh or flight.failure is not None):
            failure = None if flight.is_fresh else flight.failure
            desk.answer_waiting(desk.after_flight(connection, failure))
        elif flight.failure is not None:
            desk.refuse_all(flight.failure)
        else:
            desk.look_again()

    def _open_desk(self) -> TokenDesk:
        if self._desk is None:
            self._desk = TokenDesk(world=self._world, limits=self._limits)
        return self._desk

    async def _publish(self, events: Sequence[Event]) -> None:
        """Publish in order, or owe what cannot be published now."""
        if not events:
            return
        if self._debts:
            self._debts.owe(events)
            return
        try:
            await self._world.event_log.append(events)
        except EventLogUnavailableError:
            self._owe(events)

    def _answer_failed(
        self, envelopes: Sequence[Envelope], stored: Stored | None, cause: str
    ) -> None:
        """Answer ``DATABASE_ERROR`` at once; the events follow when they can be published."""
        self._world.journal.store_failed(self.connection_id, cause)
        connection = None if stored is None else stored.connection
        self._owe(answer_failed(envelopes, connection, cause, self._world))

    def _owe(self, debts: Sequence[Event | UnsettledWrite]) -> None:
        """Add debts behind those already owed."""
        if self._debts is None:
            self._debts = Debts(
                self.connection_id, world=self._world, limits=self._limits, settled=self._know
            )
        self._debts.owe(debts)

    def _know(self, stored: Stored | None) -> None:
        self._stored = stored

    def _awake(self) -> None:
        """End the rest, if the actor rests."""
        if self._wake is not None:
            self._wake.set()

    def _next_due_s(self) -> float:
        """Return when something must be done even if nothing happens."""
        debts_due_s = self._debts.due_s if self._debts else math.inf
        desk_due_s = self._desk.due_s if self._desk is not None else math.inf
        margin_s = self._limits.answer_margin_s
        held_due_s = self._mailbox.earliest_deadline_s() - margin_s if self._mailbox else math.inf
        return min(debts_due_s, desk_due_s, held_due_s)

    async def _rest(self, until_s: float) -> None:
        """Wait until then, or for something to happen, whichever comes first."""
        self._wake = anyio.Event()
        with anyio.move_on_after(max(0.0, until_s - anyio.current_time())):
            await self._wake.wait()
        self._wake = None
