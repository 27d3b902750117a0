"""The owner of one connection: it decides commands one at a time, in the order they came.

A command that can be decided is decided when it arrives, on the actor's newest state, by a plain
function call; what comes of it joins the partition's open group, and the answer goes out with
that group's acknowledgement. So the newest state may be ahead of what is stored, and no answer
shows it before it is: a read that arrives behind what is not acknowledged is answered with it.

Only what must wait has a queue: everything, while the record is being read; commands that change
state, while a *flight* (``actors.flight``) asks the provider. Callers of ``token`` never stand in
line with commands. An actor is a plain object and has no task.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import anyio

from actors.entry import Entry
from actors.envelope import Envelope
from actors.flight import Flight, Wish
from actors.partition import UNCLEAR, Partition
from actors.ports import Stored
from actors.sealed import sealed
from actors.token_desk import IN_PROGRESS, TokenDesk, after_flight, read_ask, served
from actors.world import Limits, World, database_error, overloaded
from domain.commands import Command, Get, GetToken
from domain.connection import ProviderConnection
from domain.decision import Reply, decide, store_failed
from domain.events import Event
from domain.refreshing import Step, died
from domain.remembered import Answers, recalled, remembering
from domain.result import Failure, FailureCode
from domain.token_read import Ask, Dead, Serve, failure_of

_READS = (Get, GetToken)
ENTRY_EVENTS_MAX = 128
"""How many events an entry takes before the next one is begun."""


class House(Protocol):
    """What an actor needs of the directory that it lives in."""

    world: World
    limits: Limits

    def read(self, actor: "ConnectionActor") -> None:
        """Read the actor's record in a task, and call ``know`` or ``cannot_know``."""
        ...

    def fly(self, flight: Flight) -> None:
        """Run a flight in a task; it calls ``landed``."""
        ...

    def rested(self, actor: "ConnectionActor") -> None:
        """The actor may have nothing under way any more."""
        ...

    def crashed(self, actor: "ConnectionActor", error: Exception) -> None:
        """The actor met a bug."""
        ...


class ConnectionActor:
    """One connection's newest state, what waits for it, its flight."""

    __slots__ = (
        "_desk",
        "_due_s",
        "_entry",
        "_flight",
        "_house",
        "_is_reading",
        "_newest",
        "_queue",
        "connection_id",
        "partition",
        "used_s",
    )

    def __init__(self, connection_id: UUID, partition: Partition, house: House) -> None:
        """Make an actor that knows what is in memory of its connection, or nothing yet."""
        self.connection_id = connection_id
        self.partition = partition
        self.used_s = 0.0
        """When its last command came; the directory's."""
        self._house = house
        self._newest: Stored | None = partition.ledger.recall(connection_id)
        self._entry: Entry | None = None
        self._queue: deque[Envelope] | None = None
        self._desk: TokenDesk | None = None
        self._flight: Flight | None = None
        self._is_reading = False
        self._due_s = math.inf

    @property
    def connection(self) -> ProviderConnection | None:
        """The newest state; None where there is none, or it is not known."""
        return None if self._newest is None else self._newest.connection

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return self._entry is not None or self._flight is not None or self._is_reading

    @property
    def knows_nothing(self) -> bool:
        """Whether there is nothing worth keeping in memory."""
        return not self.is_busy and (self._newest is None or self._newest == (None, ()))

    @property
    def queued_commands(self) -> int:
        """How many commands wait to be decided, or in an entry to which more can be added."""
        entry = self._entry
        return len(self._queue or ()) + (entry.commands if entry and entry.is_open else 0)

    def take(self, envelope: Envelope) -> None:
        """Decide a command, or queue it; it is answered in time in either case.

        Raises:
            Exception: A bug, here or in an adapter; nothing was decided.
        """
        if self._newest is None:
            self._wait_for_record(envelope)
            return
        command, answers = envelope.command, self._newest.answers
        if isinstance(command, GetToken):
            self._take_token(envelope, command)
        elif isinstance(command, Get):
            world = self._house.world
            decision = decide(self.connection, command, now=world.clock.now(), ids=world.ids)
            self._answer_behind(envelope, decision.reply)
        elif (reply := recalled(answers, envelope.message_id)) is not None:
            self._answer_behind(envelope, reply)
        elif self._is_held():
            self._wait_in_line(envelope)
        else:
            self._decide(envelope, command)

    def know(self, stored: Stored) -> None:
        """Take over what was read, and serve those who waited for it."""
        self._is_reading, self._newest = False, stored
        callers = self._desk.leave() if self._desk is not None else ()
        self._desk = None
        self._serve_queue()
        self._take_all(callers)

    def cannot_know(self, cause: str) -> None:
        """Answer those who waited for a record that cannot be read."""
        self._is_reading = False
        waiting = [*(self._queue or ()), *(self._desk.leave() if self._desk is not None else ())]
        self._queue = self._desk = None
        for envelope in waiting:
            self._refuse(envelope, database_error(cause), cause)

    def landed(self, flight: Flight) -> None:
        """Answer everyone who shared a flight that is over, and go on with the queue."""
        assert flight is self._flight
        self._flight = None
        callers = self._desk.leave() if self._desk is not None else []
        self._desk, connection = None, self.connection
        failure = None if flight.is_fresh else flight.failure
        if failure is None and not flight.is_fresh:
            self._take_all(callers)
        else:
            self._answer_all(callers, after_flight(connection, failure, self._house.world))
        if failure is not None and connection is not None and connection.intent is not None:
            # It cannot be closed: commands must not take off for it again and again.
            waiting, self._queue = self._queue or (), None
            for envelope in waiting:
                self._refuse(envelope, failure, "an open refresh cannot be closed")
        self._serve_queue()
        self._house.rested(self)

    def settled(self, entry: Entry) -> None:
        """See ``actors.entry.Maker``."""
        if entry.is_lost:
            # What was decided on top of what is not stored is void.
            self._newest = None
        if self._entry is entry:
            self._entry = None
        if self._flight is not None:
            self._flight.wake()
        if self.connection is None:
            self._house.rested(self)

    def crashed(self, error: Exception) -> None:
        """See ``Maker``."""
        self._house.crashed(self, error)

    def commit(self, step: Step) -> Entry:
        """Decide a step of a flight; the entry tells when it is stored."""
        assert self._newest is not None
        entry = self._opened_entry()
        self._change(entry, step.connection, self._newest.answers, step.events)
        return entry

    def tick(self, now_s: float) -> None:
        """Answer those whose time is up."""
        if now_s < self._due_s and (self._desk is None or now_s < self._desk.due_s):
            return
        if self._desk is not None:
            in_time = _TIMED_OUT if self._flight is None else IN_PROGRESS
            self._desk.answer_due(now_s, self.partition.refusal() or in_time)
        self._drop([one for one in self._queue or () if one.due_s <= now_s])
        self._queue = deque(one for one in self._queue or () if one.due_s > now_s)
        self._due_s = min((one.due_s for one in self._queue or ()), default=math.inf)

    def refuse_all(self, failure: Failure) -> None:
        """Answer everyone who waits for the record or for a flight with ``failure``."""
        waiting = [*(self._queue or ()), *(self._desk.leave() if self._desk is not None else ())]
        self._queue = self._desk = None
        for envelope in waiting:
            envelope.answer(failure)

    def _take_token(self, envelope: Envelope, ask: GetToken) -> None:
        """Answer from memory, or let the caller share a flight."""
        world, connection = self._house.world, self.connection
        asked = read_ask(connection, ask, world)
        reading = asked.reading
        if isinstance(reading, Serve):
            self._answer_behind(envelope, served(connection, asked, stale=reading.stale))
            return
        if self._is_held() or (self._flight is not None and not isinstance(reading, Failure)):
            self._wait_at_desk(envelope)
            return
        match reading:
            case Failure():
                self._answer_behind(envelope, reading)
            case Ask(can_wait) if (refusal := self.partition.refusal()) is not None:
                if can_wait:
                    self._answer_behind(envelope, served(connection, asked, stale=True))
                else:
                    envelope.answer(refusal)
            case Ask():
                self._wait_at_desk(envelope)
                assert connection is not None
                assert asked.secret is not None
                was_rejected = ask.if_generation == connection.generation
                wish = Wish(asked.secret, connection.generation, was_rejected=was_rejected)
                self._take_off(wish)
            case Dead() if (refusal := self.partition.refusal()) is not None:
                envelope.answer(refusal)
            case Dead(verdict):
                assert connection is not None
                profile, now = world.providers.of(connection), world.clock.now()
                step = died(connection, verdict, profile, now=now, ids=world.ids)
                self.commit(step).replies.append((envelope, failure_of(step.connection, now)))

    def _decide(self, envelope: Envelope, command: Command) -> None:
        """Decide a command that may change state."""
        assert self._newest is not None
        refusal = self.partition.refusal()
        if refusal is not None and self.partition.is_unclear:
            self._refuse(envelope, refusal, UNCLEAR)
            return
        if refusal is None and self.queued_commands >= self._house.limits.mailbox_commands_max:
            refusal = overloaded("the connection's mailbox is full")
        if refusal is not None:
            envelope.answer(refusal)
            return
        world, (before, answers) = self._house.world, self._newest
        command = sealed(command, before, world)
        decision = decide(before, command, now=world.clock.now(), ids=world.ids)
        answers = remembering(answers, envelope.message_id, decision.reply)
        is_unchanged = decision.connection is before and answers is self._newest.answers
        if is_unchanged and not decision.events:
            self._answer_behind(envelope, decision.reply)
            return
        entry = self._opened_entry()
        self._change(entry, decision.connection, answers, decision.events)
        entry.replies.append((envelope, decision.reply))
        entry.commands += 1

    def _change(
        self,
        entry: Entry,
        connection: ProviderConnection | None,
        answers: Answers,
        events: Sequence[Event],
    ) -> None:
        """Put what was decided into an entry, and know it."""
        assert self._newest is not None
        if connection is not self._newest.connection or answers is not self._newest.answers:
            entry.connection, entry.answers = connection, answers
            self._newest = Stored(connection, answers)
        entry.events.extend(events)

    def _opened_entry(self) -> Entry:
        """Return the entry of the open group, which may have to be begun."""
        entry = self._entry
        if entry is None or not entry.is_open or len(entry.events) >= ENTRY_EVENTS_MAX:
            entry = self._entry = Entry(self.connection_id, self)
            self.partition.opened(entry)
        return entry

    def _answer_behind(self, envelope: Envelope, reply: Reply) -> None:
        """Answer what shows the newest state: with what is not acknowledged yet, or at once."""
        if self._entry is None:
            envelope.answer(reply)
        elif self.partition.is_unclear and isinstance(envelope.command, _READS):
            envelope.answer(database_error(UNCLEAR))
        else:
            self._entry.replies.append((envelope, reply))

    def _refuse(self, envelope: Envelope, failure: Failure, cause: str) -> None:
        """Answer a command that cannot be decided; its events are told when that is possible."""
        envelope.answer(failure)
        command = envelope.command
        if isinstance(command, _READS):
            return
        world = self._house.world
        decision = store_failed(
            self.connection, command, cause=cause, now=world.clock.now(), ids=world.ids
        )
        events = decision.events
        if events and self.partition.may_tell_refusal(len(events)):
            self._opened_entry().events.extend(events)

    def _is_held(self) -> bool:
        """Whether commands that change state must wait for a flight.

        An intent that nobody here flies for was left open by a crash: a flight ends it.
        """
        if self._flight is not None:
            return self._flight.is_begun
        if self.connection is None or self.connection.intent is None:
            return False
        self._take_off(None)
        return True

    def _take_off(self, wish: Wish | None) -> None:
        """Start a flight; one alone is ever under way."""
        assert self._flight is None
        self._flight = Flight(self, wish, world=self._house.world, limits=self._house.limits)
        self._house.fly(self._flight)

    def _wait_for_record(self, envelope: Envelope) -> None:
        """Hold whatever comes until the record is read."""
        if isinstance(envelope.command, GetToken):
            self._wait_at_desk(envelope)
        else:
            self._wait_in_line(envelope)
        if not self._is_reading and not envelope.is_answered:
            self._is_reading = True
            self._house.read(self)

    def _wait_in_line(self, envelope: Envelope) -> None:
        """Queue a command, where there is room."""
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= self._house.limits.mailbox_commands_max:
            envelope.answer(overloaded("the connection's mailbox is full"))
            return
        self._queue.append(envelope)
        self._due_s = min(self._due_s, envelope.due_s)

    def _wait_at_desk(self, envelope: Envelope) -> None:
        if self._desk is None:
            self._desk = TokenDesk()
        self._desk.wait(envelope)

    def _serve_queue(self) -> None:
        """Take up what waited, in order; what has to wait again waits in the same order."""
        waiting, self._queue, self._due_s = self._queue or (), None, math.inf
        if waiting:
            now_s = anyio.current_time()
            self._drop([one for one in waiting if one.due_s <= now_s])
            self._take_all([one for one in waiting if one.due_s > now_s])

    def _answer_all(self, callers: Sequence[Envelope], answer: Callable[[GetToken], Reply]) -> None:
        """Answer everyone who shared a flight, and nobody with what is not stored."""
        for envelope in callers:
            assert isinstance(envelope.command, GetToken)
            self._answer_behind(envelope, answer(envelope.command))

    def _take_all(self, envelopes: Sequence[Envelope]) -> None:
        """Take up several; a bug that one meets is answered to that one."""
        for envelope in envelopes:
            try:
                self.take(envelope)
            except Exception as error:  # noqa: BLE001 -- the others must be served
                self._house.crashed(self, error)
                envelope.answer(database_error("internal error"))

    def _drop(self, late: Sequence[Envelope]) -> None:
        """Answer commands that were not begun in their callers' time, and count them."""
        if late:
            self._house.world.journal.dropped(self.connection_id, len(late))
        for envelope in late:
            envelope.answer(_TIMED_OUT)


_TIMED_OUT = Failure(
    code=FailureCode.TIMED_OUT,
    message="The time was up before the command was begun; it was not executed",
    needs_user_action=False,
)
