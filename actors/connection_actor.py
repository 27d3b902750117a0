"""The owner of one connection: it decides commands one at a time, in the order they came.

A command that can be decided is decided when it arrives, on the actor's newest state, by a plain
function call; what comes of it joins the partition's open group, and the answer goes out with
that group's acknowledgement. So the newest state may be ahead of what is stored, and no answer
shows it before it is: a read that arrives behind what is not acknowledged is answered with it.

Only what must wait has a line: everything, while the record is being read; commands that change
state, while a *flight* (``actors.flight``) asks the provider. An actor has no task.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import anyio

from actors.decided import changed
from actors.entry import EVENTS_MAX, Entry
from actors.envelope import Envelope
from actors.flight import Flight
from actors.house import House
from actors.looks import LookEnvelope, look, redate
from actors.partition import UNCLEAR, Partition
from actors.ports import Outcome, Stored
from actors.refused_events import refused_events
from actors.sealed import sealed
from actors.token_desk import IN_PROGRESS, TokenDesk, after_flight, read_ask, refusal_behind, served
from actors.waiting_line import WaitingLine, note_dropped
from actors.wish import Wish, opens_s
from actors.world import BROKEN, INTERNAL_ERROR, MAILBOX_FULL, TIMED_OUT, database_error
from domain.commands import Command, Get, GetToken
from domain.connection import ProviderConnection
from domain.decision import Reply, decide
from domain.events import Event, traced
from domain.refreshing import Step
from domain.remembered import Answers
from domain.result import Failure
from domain.token_read import Ask, Serve


class ConnectionActor:
    """One connection's newest state, what waits for it, its flight."""

    __slots__ = (
        "_desk",
        "_entries",
        "_flight",
        "_house",
        "_is_reading",
        "_line",
        "connection_id",
        "is_woken",
        "newest",
        "partition",
        "used_s",
    )

    def __init__(self, connection_id: UUID, partition: Partition, house: House) -> None:
        """Make an actor that knows nothing yet."""
        self.connection_id = connection_id
        self.partition = partition
        self.used_s = 0.0
        """When its last command came; the directory's."""
        self.is_woken = False
        """Whether no command has come, but a look; the directory's."""
        self._house = house
        self.newest: Stored | None = None
        """What is decided last; None where it is not known."""
        self._entries: tuple[Entry, ...] = ()
        """What is decided and not known to be stored, oldest first."""
        self._line: WaitingLine | None = None
        self._desk: TokenDesk | None = None
        self._flight: Flight | None = None
        self._is_reading = False

    @property
    def connection(self) -> ProviderConnection | None:
        """The newest state; None where there is none, or it is not known."""
        return None if self.newest is None else self.newest.connection

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._entries) or self._flight is not None or self._is_reading

    @property
    def knows_nothing(self) -> bool:
        """Whether there is nothing worth keeping in memory."""
        return not self.is_busy and (self.newest is None or self.newest == Stored(None))

    @property
    def queued_commands(self) -> int:
        """How many commands wait to be decided, or in an entry that is not being stored yet."""
        return len(self._line or ()) + sum([one.commands for one in self._entries if one.is_open])

    def take(self, envelope: Envelope) -> None:
        """Decide a command, or queue it; it is answered in time in either case.

        Raises:
            Exception: A bug, here or in an adapter; nothing was decided.
        """
        if self.newest is None and not self._is_reading:
            self.newest = self.partition.ledger.recall(self.connection_id)
        if self.newest is None:
            self._wait_for_record(envelope)
            return
        command, answers = envelope.command, self.newest.answers
        if isinstance(command, GetToken):
            self._take_token(envelope, command)
        elif isinstance(envelope, LookEnvelope):
            is_free = self._flight is None and not self._is_held()
            look(self, envelope, self._house.world) if is_free else self.wait_in_line(envelope)
        elif isinstance(command, Get):
            world = self._house.world
            decision = decide(self.connection, command, now=world.clock.now(), ids=world.ids)
            self.answer_behind(envelope, decision.reply)
        elif (reply := self._house.older_answers.recalled(envelope, answers)) is not None:
            self.answer_behind(envelope, reply)
        elif self._is_held():
            self.wait_in_line(envelope)
        else:
            self._decide(envelope, command)

    def know(self, stored: Stored) -> None:
        """Take over what was read, and serve those who waited for it."""
        self._is_reading, self.newest = False, stored
        callers = self._left_desk()
        self._serve_line()
        self._take_all(callers)

    def cannot_know(self, cause: str) -> None:
        """Answer those who waited for a record that cannot be read."""
        self._is_reading = False
        self.refuse([*self._left_line(), *self._left_desk()], database_error(cause), cause)

    def landed(self, flight: Flight) -> None:
        """Answer everyone who shared a flight that is over, and go on with the queue."""
        assert flight is self._flight
        self._flight = None
        callers, connection = self._left_desk(), self.connection
        failure = flight.failure
        if failure is not None or flight.is_fresh:
            callers = self._answer_all(callers, failure, opens_s(failure))
        self._take_all(callers)
        if failure is not None and (connection is None or connection.intent is not None):
            # It cannot be closed: commands must not take off for it again and again.
            self.refuse(self._left_line(), failure, "an open refresh cannot be closed")
        self._serve_line()
        self._house.rested(self)

    def callers_wait(self, until_s: float, failure: Failure) -> bool:
        """See ``actors.flight.Pilot``."""
        if self._desk is None:
            return False
        self._answer_all(self._desk.leave_until(until_s), failure)
        return len(self._desk) > 0

    def settled(self, entry: Entry) -> None:
        """See ``actors.entry.Maker``."""
        if entry.is_lost and entry.connection is not None:
            self.newest = None
            self._house.older_answers.forget()
        self._entries = tuple(one for one in self._entries if one is not entry)
        if self._flight is not None:
            self._flight.wake()
        self._house.rested(self)

    def broke(self, asked: Sequence[Envelope], error: Exception) -> None:
        """See ``Maker``."""
        if self._house.crashed(self, error) is None:
            self.refuse(asked, INTERNAL_ERROR, BROKEN)

    def commit(self, step: Step, *, no_sooner: datetime | None = None) -> Entry:
        """Decide a step of a flight or a look; the entry tells when it is stored."""
        assert self.newest is not None
        entry, answers = self._opened_entry(), self.newest.answers
        self._change(entry, step.connection, answers, step.events, no_sooner=no_sooner)
        return entry

    def take_in(self, outcome: Outcome, stored: Callable[[], None]) -> None:
        """Let what another daemon's flight brought end the intent that is open for it."""
        if self._is_held() and self._flight is not None:
            self._flight.take_in(outcome, stored)

    def tick(self, now_s: float) -> None:
        """Answer those whose time is up."""
        if self._desk is not None:
            in_time = TIMED_OUT if self._flight is None else IN_PROGRESS
            self._desk.answer_due(now_s, self.partition.refusal() or in_time)
        if self._line is not None:
            note_dropped(self, self._house, self._line.answer_late(now_s))

    def refuse_all(self, failure: Failure) -> None:
        """Answer everyone who waits for the record or for a flight with ``failure``."""
        for envelope in (*self._left_line(), *self._left_desk()):
            envelope.answer(failure)

    def _take_token(self, envelope: Envelope, ask: GetToken) -> None:
        """Answer from memory, or let the caller share a flight."""
        world, connection = self._house.world, self.connection
        asked = read_ask(connection, ask, world)
        reading = asked.reading
        if isinstance(reading, Serve):
            if self._flight is not None and self._flight.ends_access_token:
                self._wait_at_desk(envelope)
            else:
                if reading.stale:
                    redate(self, self._house.world)
                self.answer_behind(envelope, served(connection, asked, world, stale=reading.stale))
            return
        is_refused = isinstance(reading, Failure) and not asked.is_waited_out_by(envelope)
        if self._is_held() or (self._flight is not None and not is_refused):
            self._share_flight(envelope)
            return
        match reading:
            case Failure() if is_refused:
                self.answer_behind(envelope, reading)
            case Ask(can_wait) if (refusal := self.partition.refusal()) is not None:
                if can_wait:
                    self.answer_behind(envelope, served(connection, asked, world, stale=True))
                else:
                    envelope.answer(refusal)
            case Ask() | Failure():
                self._wait_at_desk(envelope)
                if envelope.is_answered:
                    return
                assert connection is not None
                self.take_off(asked.wish(ask, connection, envelope))

    def _decide(self, envelope: Envelope, command: Command) -> None:
        """Decide a command that may change state."""
        assert self.newest is not None
        refusal = self.partition.refusal()
        if refusal is not None and self.partition.is_unclear:
            self.refuse([envelope], refusal, UNCLEAR)
            return
        if refusal is not None or self.queued_commands >= self._house.limits.mailbox_commands_max:
            envelope.answer(refusal or MAILBOX_FULL)
            return
        world, (before, answers, _) = self._house.world, self.newest
        command = sealed(command, before, world)
        decision = decide(before, command, now=world.clock.now(), ids=world.ids)
        answers = self._house.older_answers.remembering(envelope, answers, decision.reply)
        is_changed = decision.connection is not before or answers is not self.newest.answers
        if not is_changed and not decision.events:
            self.answer_behind(envelope, decision.reply)
            return
        entry = self._opened_entry()
        self._change(entry, decision.connection, answers, traced(decision.events, envelope.trace))
        entry.owe(envelope, decision.reply)

    def _change(
        self,
        entry: Entry,
        connection: ProviderConnection | None,
        answers: Answers,
        events: Sequence[Event],
        *,
        no_sooner: datetime | None = None,
    ) -> None:
        """Put what was decided into an entry, and know it."""
        before = self.newest
        assert before is not None
        if connection is not before.connection or answers is not before.answers:
            world = self._house.world
            self.newest = changed(entry, before, connection, answers, world, no_sooner=no_sooner)
        entry.events.extend(events)

    def _opened_entry(self) -> Entry:
        """Return the entry of the open group, which may have to be begun."""
        entry = self._entries[-1] if self._entries else None
        if entry is None or not entry.is_open or len(entry.events) >= EVENTS_MAX:
            entry = Entry(self.connection_id, self)
            self._entries = (*self._entries, entry)
            self.partition.opened(entry)
        return entry

    def answer_behind(self, envelope: Envelope, reply: Reply) -> None:
        """Answer what shows the newest state: with the append that confirms it, or at once."""
        if not self._entries and self.partition.is_confirmed:
            envelope.answer(reply)
            return
        entry = self._entries[-1] if self._entries else self._opened_entry()
        commands_max = self._house.limits.mailbox_commands_max
        is_full = max(entry.commands, self.queued_commands) >= commands_max
        refusal = refusal_behind(envelope, is_unclear=self.partition.is_unclear, is_full=is_full)
        if refusal is not None:
            envelope.answer(refusal)
        else:
            entry.owe(envelope, reply)

    def refuse(self, envelopes: Sequence[Envelope], failure: Failure, cause: str) -> None:
        """Answer commands that cannot be decided; their events are told when that is possible."""
        for envelope in envelopes:
            envelope.answer(failure)
        try:
            for events in refused_events(self.connection, envelopes, cause, self._house.world):
                if self.partition.may_tell_refusal(len(events)):
                    self._opened_entry().events.extend(events)
        except Exception as error:  # noqa: BLE001 -- everybody is answered
            self._house.world.journal.crashed(self.connection_id, error)

    def _is_held(self) -> bool:
        """Whether commands that change state must wait for a flight.

        An intent that nobody here flies for was left open by a crash: a flight ends it.
        """
        if self._flight is not None:
            return self._flight.is_begun
        if self.connection is None or self.connection.intent is None:
            return False
        self.take_off(None)
        return True

    def take_off(self, wish: Wish | None) -> Flight:
        """Start a flight; one alone is ever under way."""
        self._flight = Flight(self, wish, world=self._house.world, limits=self._house.limits)
        self._house.fly(self._flight)
        return self._flight

    def _wait_for_record(self, envelope: Envelope) -> None:
        """Hold whatever comes until the record is read."""
        is_token = isinstance(envelope.command, GetToken)
        (self._wait_at_desk if is_token else self.wait_in_line)(envelope)
        if not self._is_reading and not envelope.is_answered:
            self._is_reading = True
            self._house.read(self)

    def wait_in_line(self, envelope: Envelope) -> None:
        """Queue a command, where there is room."""
        self._line = self._line or WaitingLine()
        self._line.join(envelope, commands_max=self._house.limits.mailbox_commands_max)

    def _share_flight(self, envelope: Envelope) -> None:
        """Let a caller wait for the flight, unless it waits for longer than that caller can."""
        assert self._flight is not None
        failure = self._flight.refusal(envelope.due_s)
        if failure is None:
            self._flight.joined(envelope.due_s)
            self._wait_at_desk(envelope)
        else:
            self._answer_all([envelope], failure)

    def _wait_at_desk(self, envelope: Envelope) -> None:
        house, connection = self._house, self.connection
        slug = "" if connection is None else connection.provider_slug
        self._desk = self._desk or TokenDesk(slug, house.token_callers)
        self._desk.wait(envelope, provider_max=house.limits.token_callers_per_provider_max)

    def _left_desk(self) -> list[Envelope]:
        """Let everyone go who waits at the desk."""
        desk, self._desk = self._desk, None
        return [] if desk is None else desk.leave()

    def _left_line(self) -> Sequence[Envelope]:
        """Let everyone go who waits in line."""
        line, self._line = self._line, None
        return () if line is None else line.leave()

    def _serve_line(self) -> None:
        """Take up what waited, in order; what has to wait again waits in the same order."""
        if self._line is not None:
            note_dropped(self, self._house, self._line.answer_late(anyio.current_time()))
            self._take_all(self._left_line())

    def _answer_all(
        self, callers: Iterable[Envelope], failure: Failure | None, opens_s: float = math.inf
    ) -> list[Envelope]:
        """Answer everyone who shared a flight, but those who have the time for another one."""
        try:
            answer = after_flight(self.connection, failure, self._house.world)
        except Exception as error:  # noqa: BLE001 -- a flight must land
            self._house.crashed(self, error)
            for envelope in callers:
                envelope.answer(INTERNAL_ERROR)
            return []
        patient: list[Envelope] = []
        for envelope in callers:
            assert isinstance(envelope.command, GetToken)
            reply = answer(envelope.command)
            if reply is failure and opens_s < envelope.due_s:
                patient.append(envelope)
            else:
                self.answer_behind(envelope, reply)
        return patient

    def _take_all(self, envelopes: Sequence[Envelope]) -> None:
        """Take up several; a bug that one meets is answered to that one."""
        refusal: Failure | None = None
        for envelope in envelopes:
            if refusal is not None:
                envelope.answer(refusal)
                continue
            try:
                self.take(envelope)
            except Exception as error:  # noqa: BLE001 -- the others must be served
                refusal = self._house.crashed(self, error)
                self.refuse([envelope], INTERNAL_ERROR, BROKEN)
