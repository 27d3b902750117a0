"""Which connections have an actor in memory: woken by a command, put to rest when idle.

Actors are virtual: any id can be addressed at any time, and whether its actor is resident
shows only in the time the first command takes. An actor is an entry in one dictionary; tasks are
there for reads of records and for flights only, and one per partition stores what is decided. A
crash of one actor is answered and reported; an actor that crashes again and again is
quarantined, and the others never notice.

Partitions come and go while it runs: one that is lost, or handed over, takes its actors with it.
A request that a provider has is not cancelled for that: what comes of it goes to the new owner.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import anyio
from anyio.abc import TaskGroup, TaskStatus

from actors.brought import receive
from actors.connection_actor import ConnectionActor
from actors.crash_record import CrashRecord
from actors.envelope import Envelope
from actors.flight import Flight
from actors.looks import LookEnvelope
from actors.older_answers import OlderAnswers
from actors.partition import Partition
from actors.ports import Ledger, Outcome, PartitionLostError, StoreUnavailableError
from actors.residents import Residents, forget_idle, has_room
from actors.world import (
    BROKEN,
    INTERNAL_ERROR,
    MOVED,
    SHUTTING_DOWN,
    Limits,
    World,
    database_error,
    overloaded,
)
from domain.result import Failure

TICK_S = 0.05
"""How often is looked whose time is up."""
_QUIET_S = 1.0
"""How often while nothing is under way."""
LOST = database_error("another daemon has taken the partition")


class Directory:
    """The actors of one daemon.

    Use: ``await task_group.start(directory.run)``, then ``submit`` from the same event loop.
    """

    def __init__(
        self,
        *,
        world: World,
        limits: Limits,
        partition_of: Callable[[UUID], int],
        ledgers: Sequence[Ledger] = (),
        confirms: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """Make a directory with no actor resident.

        Args:
            world: The ports.
            limits: The bounds.
            partition_of: Which partition is a connection's.
            ledgers: Of the partitions that are here from the beginning, from 0 on.
            confirms: See ``actors.partition.Partition``.
        """
        self.world = world
        self.limits = limits
        self.partitions: dict[int, Partition] = {}
        self.served = 0
        """How many partitions are here and take commands."""
        self.lost: Callable[[int, PartitionLostError], None] = lambda _, __: None
        """Called when another daemon has taken a partition; its actors are gone already."""
        self.token_callers: Counter[str] = Counter()
        self.older_answers = OlderAnswers(limits.older_answers_max)
        self._partition_of = partition_of
        self._stirred = anyio.Event()
        self._actors = Residents()
        self._reading: set[ConnectionActor] = set()
        self._flights: set[Flight] = set()
        self._crashes = CrashRecord(limits, world.journal)
        self._confirms = confirms
        self._tasks: TaskGroup | None = None
        self._writing: TaskGroup | None = None
        self._writers: dict[int, anyio.CancelScope] = {}
        self._now_s = 0.0
        self._is_draining = self._is_over = False
        self._refrains = False
        self._gives_up = False
        self._ends_s = math.inf
        self._ended = anyio.Event()
        for number, ledger in enumerate(ledgers):
            self.admit(number, ledger)

    @property
    def resident_actors(self) -> int:
        """How many actors are in memory, idle ones included."""
        return len(self._actors)

    @property
    def flights(self) -> int:
        """How many refreshes at providers are under way, or wait for their turn."""
        return len(self._flights)

    @property
    def busy_actors(self) -> int:
        """How many reads, flights and entries are not over."""
        entries = sum(partition.entries for partition in self.partitions.values())
        return entries + len(self._reading) + len(self._flights)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; what is not begun then is answered ``SHUTTING_DOWN``."""
        try:
            async with anyio.create_task_group() as self._writing:
                for number in self.partitions:
                    self._write(number)
                try:
                    async with anyio.create_task_group() as self._tasks:
                        task_status.started()
                        try:
                            await self._tick_for_ever()
                        finally:
                            await self._land()
                finally:
                    await self._wind_up()
        finally:
            self._ended.set()

    def admit(self, number: int, ledger: Ledger) -> None:
        """Serve a partition from now on, whose ledger was claimed."""
        self.partitions[number] = Partition(
            ledger,
            limits=self.limits,
            journal=self.world.journal,
            stir=self._stir,
            confirms=self._confirms,
        )
        self.served += 1
        if self._writing is not None:
            self._write(number)

    async def empty(self, number: int) -> None:
        """Take no command of a partition, and return when all that was decided is stored.

        Who waits is answered ``MOVED``. Requests that a provider has go on.
        """
        partition = self.partitions.get(number)
        if partition is None:
            return
        self.served -= not partition.is_leaving
        partition.is_leaving = True
        for actor in self._actors_of(partition):
            actor.refuse_all(MOVED)
        for flight in self._flights_of(partition):
            flight.is_handed_over()
        while not partition.is_settled:
            await self._pause()
            for actor in self._actors_of(partition):
                actor.refuse_all(MOVED)

    def dismiss(self, number: int) -> None:
        """Know nothing of a partition any more; what is not stored of it never will be."""
        partition = self.partitions.pop(number, None)
        if partition is None:
            return
        self.served -= not partition.is_leaving
        self._writers.pop(number).cancel()
        partition.abandon(LOST, repeatable=MOVED)
        for actor in self._actors_of(partition):
            del self._actors[actor.connection_id.int]
            actor.refuse_all(MOVED)
        for flight in self._flights_of(partition):
            flight.dismissed()

    def submit(self, envelope: Envelope) -> None:
        """Hand a command to its actor without waiting; ``MOVED``: its partition is not here."""
        assert self._tasks is not None
        connection_id = envelope.command.connection_id
        failure = SHUTTING_DOWN if self._is_draining else self._crashes.refusal(connection_id)
        actor, partition = self._actors.get(connection_id.int), None
        if actor is None and failure is None:
            partition = self.partitions.get(self._partition_of(connection_id))
            failure = MOVED if partition is None else self._no_room()
        elif actor is not None:
            partition = actor.partition
        if partition is not None and partition.is_leaving:
            failure = failure or MOVED
        if failure is not None:
            envelope.answer(failure)
            return
        if actor is None:
            assert partition is not None
            actor = ConnectionActor(connection_id, partition, self)
            self._actors[connection_id.int] = actor
            actor.is_woken = isinstance(envelope, LookEnvelope)
            actor.used_s = self._now_s
        elif not isinstance(envelope, LookEnvelope):
            self._actors.move_to_end(connection_id.int)
            actor.is_woken, actor.used_s = False, self._now_s
        try:
            actor.take(envelope)
        except Exception as error:  # noqa: BLE001 -- the supervisor's edge
            self.crashed(actor, error)
            actor.refuse([envelope], INTERNAL_ERROR, BROKEN)
        if actor.connection is None or actor.is_woken:
            self.rested(actor)

    def take_in(self, outcome: Outcome, stored: Callable[[], None]) -> None:
        """See ``actors.brought.receive``."""
        receive(outcome, stored, self.submit, self._actors.get, self.world)

    def refrain(self) -> None:
        """Present nothing to a provider any more: flights that are not begun are refused."""
        self._refrains = True
        for flight in self._flights:
            flight.refrain()

    async def drain(self, grace_s: float) -> bool:
        """Refuse what is new, and return when nothing is under way; False if time ran out."""
        self._is_draining = True
        self.refrain()
        with anyio.move_on_after(grace_s):
            while self.busy_actors:
                await self._pause()
            return True
        return not self.busy_actors

    async def stop(self, *, at_once: bool = False, within_s: float = math.inf) -> None:
        """End, and return when every command is answered.

        A request that was sent to a provider is waited for, and its outcome is stored if that is
        possible within ``last_outcome_s``, else spilled; ``at_once``, where there is no ledger
        any more, spills it without a wait.

        Args:
            at_once: Give up what is not stored.
            within_s: After this nothing is waited for: see ``Flight.cut_off``.
        """
        assert self._tasks is not None
        self._gives_up = at_once
        self._ends_s = anyio.current_time() + within_s
        self._tasks.cancel_scope.cancel()
        await self._ended.wait()

    def read(self, actor: ConnectionActor) -> None:
        """See ``actors.connection_actor.House``."""
        assert self._tasks is not None
        self._reading.add(actor)
        self._stir()
        self._tasks.start_soon(self._read, actor)

    def fly(self, flight: Flight) -> None:
        """See ``House``. A flight outlives the directory's cancellation, once it is begun."""
        assert self._tasks is not None
        self._flights.add(flight)
        if self._refrains:
            flight.refrain()
        self._stir()
        self._tasks.start_soon(self._fly, flight)

    def rested(self, actor: ConnectionActor) -> None:
        """Forget an actor that holds nothing, or that was woken for a look which is over."""
        is_needless = actor.knows_nothing or (actor.is_woken and not actor.is_busy)
        if is_needless and self._actors.get(actor.connection_id.int) is actor:
            del self._actors[actor.connection_id.int]

    def crashed(self, actor: ConnectionActor, error: Exception) -> Failure | None:
        """Note a crash, and quarantine an actor that has had one too many: return the answer."""
        refusal = self._crashes.crashed(actor.connection_id, error)
        if refusal is not None:
            actor.refuse_all(refusal)
        return refusal

    def _write(self, number: int) -> None:
        """Have a partition's groups stored, until its scope is cancelled."""
        assert self._writing is not None
        # Made here: one that is cancelled before its task has begun must end, too.
        scope = self._writers[number] = anyio.CancelScope(shield=True)
        self.partitions[number].begin()
        if not self._is_over:
            self._writing.start_soon(self._store, number, self.partitions[number], scope)

    async def _store(self, number: int, partition: Partition, scope: anyio.CancelScope) -> None:
        """Store what a partition decides, until it is lost or dismissed."""
        with scope:
            try:
                await partition.run()
            except PartitionLostError as error:
                if self.partitions.get(number) is partition:
                    self.dismiss(number)
                    self.lost(number, error)

    def _actors_of(self, partition: Partition) -> list[ConnectionActor]:
        return [actor for actor in self._actors.values() if actor.partition is partition]

    def _flights_of(self, partition: Partition) -> Iterator[Flight]:
        return (one for one in [*self._flights] if one.actor.partition is partition)

    async def _read(self, actor: ConnectionActor) -> None:
        cause, stored = "internal error", None
        try:
            stored = await actor.partition.ledger.read(actor.connection_id)
        except StoreUnavailableError as error:
            self.world.journal.store_failed(actor.connection_id, str(error))
            cause = str(error)
        except Exception as error:  # noqa: BLE001 -- the supervisor's edge
            self.crashed(actor, error)
        finally:
            self._reading.discard(actor)
        if stored is None:
            actor.cannot_know(cause)
        else:
            actor.know(stored)
        self.rested(actor)

    async def _fly(self, flight: Flight) -> None:
        try:
            await flight.run()
        finally:
            self._flights.discard(flight)

    async def _tick_for_ever(self) -> None:
        """Answer whose time is up, and forget what is idle or past."""
        while True:
            self._now_s = anyio.current_time()
            self._tick()
            if self.busy_actors:
                await anyio.sleep(TICK_S)
                continue
            self._stirred = anyio.Event()
            with anyio.move_on_after(_QUIET_S):
                await self._stirred.wait()

    def _stir(self) -> None:
        """End the ticker's longer pause: there is something under way again."""
        self._stirred.set()

    def _tick(self) -> None:
        now_s, limits = self._now_s, self.limits
        for partition in self.partitions.values():
            partition.tick(now_s)
        for actor in [*self._reading, *self._flown_by()]:
            actor.tick(now_s)
        forget_idle(self._actors, idle_s=limits.idle_s, now_s=now_s)
        self._crashes.forget_before(now_s)

    def _no_room(self) -> Failure | None:
        actors_max = self.limits.resident_actors_max
        is_there = has_room(self._actors, actors_max=actors_max, now_s=self._now_s)
        return None if is_there else overloaded("too many connections are busy")

    def _flown_by(self) -> list[ConnectionActor]:
        """Return the actors that have a flight."""
        actors = (self._actors.get(flight.actor.connection_id.int) for flight in self._flights)
        return [actor for actor in actors if actor is not None]

    async def _land(self) -> None:
        """Answer what was not begun, and let every flight come to its end."""
        self._is_draining = True
        self._refuse_all()
        for flight in self._flights:
            flight.stop(at_once=self._gives_up)
        with anyio.CancelScope(shield=True):
            while self._flights:
                if anyio.current_time() >= self._ends_s:
                    for flight in self._flights:
                        flight.cut_off()
                await self._pause()

    async def _wind_up(self) -> None:
        """Wait until what is decided is stored, and end the writers."""
        self._refuse_all()
        patience_s = 0.0 if self._gives_up else self.limits.last_burst_s
        patience_s = min(patience_s, max(self._ends_s - anyio.current_time(), 0.0))
        with anyio.move_on_after(patience_s, shield=True):
            while any(not partition.is_settled for partition in self.partitions.values()):
                await self._pause()
        self._is_over = True
        for scope in self._writers.values():
            scope.cancel()
        for partition in self.partitions.values():
            partition.abandon(database_error("the daemon stopped"))

    def _refuse_all(self) -> None:
        """Answer everyone who waits for a record or for a flight."""
        for actor in self._actors.values():
            actor.refuse_all(SHUTTING_DOWN)

    async def _pause(self) -> None:
        """Let others run, and tell those whose time is up meanwhile."""
        await anyio.sleep(TICK_S / 5)
        for partition in self.partitions.values():
            partition.tick(anyio.current_time())
