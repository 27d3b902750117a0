"""Which connections have an actor in memory: woken by a command, put to rest when idle.

Actors are virtual: any id can be addressed at any time, and whether its actor is resident
shows only in the time the first command takes. An idle actor is an entry in two dictionaries
and has no task. A crash of one actor is answered, reported and forgotten; an actor that
crashes again and again is quarantined, and the others never notice.
"""

import math
from collections import OrderedDict, deque
from uuid import UUID

import anyio
from anyio.abc import TaskGroup, TaskStatus

from actors.connection_actor import ConnectionActor
from actors.flight import Flight, Wish
from actors.mailbox import Envelope
from actors.world import Limits, World, refused_as_overloaded
from domain.commands import GetToken
from domain.result import Failure, FailureCode


class _Worker:
    """A task between two actors: waking one costs less than starting one."""

    __slots__ = ("actor", "wake")

    def __init__(self) -> None:
        self.actor: ConnectionActor | None = None
        self.wake = anyio.Event()


class Directory:
    """The actors of one daemon.

    Use: ``await task_group.start(directory.run)``, then ``submit`` from the same event loop.
    """

    def __init__(self, *, world: World, limits: Limits) -> None:
        """Make a directory with no actor resident."""
        self._world = world
        self._limits = limits
        self._actors: dict[UUID, ConnectionActor] = {}
        self._idle_since_s: OrderedDict[UUID, float] = OrderedDict()
        self._crashes_s: dict[UUID, deque[float]] = {}
        self._quarantined_until_s: dict[UUID, float] = {}
        self._tasks: TaskGroup | None = None
        self._resting_workers: list[_Worker] = []
        self._flights: set[Flight] = set()
        self._draining = False
        self._stopping = False
        self._changed = anyio.Event()
        self._ended = anyio.Event()

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
        """How many actors have a task: something to do, or a debt to pay."""
        return len(self._actors) - len(self._idle_since_s)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run actors until cancelled; what is unanswered then is answered ``SHUTTING_DOWN``."""
        try:
            async with anyio.create_task_group() as self._tasks:
                task_status.started()
                await self._passivate_idle_ones()
        finally:
            self._draining = True
            self._ended.set()

    def submit(self, envelope: Envelope) -> Failure | None:
        """Hand a command to its actor without waiting.

        Returns:
            None when the envelope's ``reply`` will be called, exactly once; otherwise the
            failure to answer, and ``reply`` will not be called.
        """
        assert self._tasks is not None
        if self._draining:
            return _shutting_down()
        connection_id = envelope.command.connection_id
        actor = self._actors.get(connection_id)
        if (
            actor is not None
            and isinstance(envelope.command, GetToken)
            and actor.answer_at_once(envelope)
        ):
            if connection_id in self._idle_since_s:
                self._idle_since_s[connection_id] = anyio.current_time()
                self._idle_since_s.move_to_end(connection_id)
            return None
        if actor is None:
            failure = self._refusal_to_activate(connection_id)
            if failure is not None:
                return failure
            actor = ConnectionActor(
                connection_id,
                world=self._world,
                limits=self._limits,
                spawn=self._spawn_flight,
            )
            self._actors[connection_id] = actor
            is_running = False
        else:
            is_running = self._idle_since_s.pop(connection_id, None) is None
        if not actor.offer(envelope):
            return refused_as_overloaded("the connection's mailbox is full")
        if not is_running:
            self._start(actor)
        return None

    async def drain(self, grace_s: float) -> bool:
        """Refuse new commands, and return when every actor is done; False if time ran out."""
        self._draining = True
        with anyio.move_on_after(grace_s):
            while self.busy_actors:
                self._changed = anyio.Event()
                await self._changed.wait()
            return True
        return False

    async def stop(self, *, at_once: bool = False) -> None:
        """Cancel what still runs, answer what is unanswered, and return when that is done.

        A request that was sent to a provider is waited for, and its outcome is stored if the
        store takes it within ``last_outcome_s``; ``at_once``, where there is no store any more,
        gives up what cannot be stored.
        """
        assert self._tasks is not None
        self._stopping = True
        for flight in self._flights:
            flight.stopped, flight.gives_up = True, at_once
        self._tasks.cancel_scope.cancel()
        await self._ended.wait()

    def _refusal_to_activate(self, connection_id: UUID) -> Failure | None:
        """Return why no actor can be activated for this id now, or None after making room."""
        until_s = self._quarantined_until_s.get(connection_id)
        if until_s is not None:
            left_s = until_s - anyio.current_time()
            if left_s > 0:
                return _quarantined(left_s)
            del self._quarantined_until_s[connection_id]
        if len(self._actors) >= self._limits.resident_actors_max:
            if not self._idle_since_s:
                return refused_as_overloaded("too many connections are busy")
            self._passivate_oldest()
        return None

    def _spawn_flight(self, flight: Flight, wish: Wish | None) -> None:
        """Give a flight a task of its own; it outlives its actor's until its outcome is stored."""
        assert self._tasks is not None
        flight.stopped = self._stopping
        self._flights.add(flight)
        self._tasks.start_soon(self._fly, flight, wish)

    async def _fly(self, flight: Flight, wish: Wish | None) -> None:
        try:
            await flight.run(wish)
        finally:
            self._flights.discard(flight)

    def _start(self, actor: ConnectionActor) -> None:
        """Give an actor a task: one that rests, or a new one."""
        assert self._tasks is not None
        if self._resting_workers:
            worker = self._resting_workers.pop()
            worker.actor = actor
            worker.wake.set()
        else:
            self._tasks.start_soon(self._work, actor)

    async def _work(self, actor: ConnectionActor) -> None:
        """Run one actor, and then the next; rest between them while others are busy."""
        while True:
            await self._supervise(actor)
            if not self.busy_actors:
                self._dismiss_resting_workers()
                return
            if len(self._resting_workers) >= self._limits.resting_workers_max:
                return
            worker = _Worker()
            self._resting_workers.append(worker)
            try:
                await worker.wake.wait()
            except anyio.get_cancelled_exc_class():
                if worker.actor is not None:
                    # Woken and cancelled at once: its commands are answered all the same.
                    self._end(worker.actor)
                elif worker in self._resting_workers:
                    self._resting_workers.remove(worker)
                raise
            if worker.actor is None:
                return
            actor = worker.actor

    def _dismiss_resting_workers(self) -> None:
        """End the tasks that rest: none is left while every actor is idle."""
        for worker in self._resting_workers:
            worker.wake.set()
        self._resting_workers.clear()

    async def _supervise(self, actor: ConnectionActor) -> None:
        """Run an actor until it has nothing to do, starting it anew when it crashes."""
        try:
            while True:
                try:
                    await actor.run()
                    break
                except Exception as error:  # noqa: BLE001 -- the supervisor's edge
                    self._world.journal.crashed(actor.connection_id, error)
                    actor.recover()
                    if self._is_over_budget(actor.connection_id):
                        self._quarantine(actor)
                        await actor.wound_up()
                        break
        finally:
            self._end(actor)

    def _end(self, actor: ConnectionActor) -> None:
        """Rest an actor; only a cancelled or quarantined one has anything left to answer."""
        actor.refuse_all(_shutting_down())
        self._rest(actor)

    def _rest(self, actor: ConnectionActor) -> None:
        """Count an actor as idle, or forget it when it holds nothing."""
        if actor.knows_nothing:
            self._actors.pop(actor.connection_id, None)
        else:
            self._idle_since_s[actor.connection_id] = anyio.current_time()
        self._changed.set()

    def _is_over_budget(self, connection_id: UUID) -> bool:
        """Note a crash, and return whether it is one too many for the period."""
        crashes_s = self._crashes_s.setdefault(
            connection_id, deque(maxlen=self._limits.restarts_max + 1)
        )
        crashes_s.append(anyio.current_time())
        return (
            len(crashes_s) > self._limits.restarts_max
            and crashes_s[-1] - crashes_s[0] <= self._limits.restarts_period_s
        )

    def _quarantine(self, actor: ConnectionActor) -> None:
        """Refuse an actor's commands for a while."""
        quarantine_s = self._limits.quarantine_s
        self._quarantined_until_s[actor.connection_id] = anyio.current_time() + quarantine_s
        self._crashes_s.pop(actor.connection_id, None)
        actor.refuse_all(_quarantined(quarantine_s))
        self._world.journal.quarantined(actor.connection_id, quarantine_s)

    def _passivate_oldest(self) -> None:
        """Forget the actor that has been idle longest; all it knew is stored."""
        connection_id, _ = self._idle_since_s.popitem(last=False)
        self._actors.pop(connection_id).forget()

    async def _passivate_idle_ones(self) -> None:
        """Forget actors that were idle for ``idle_s``, and crashes that are long past."""
        period_s = max(self._limits.idle_s / 10, 0.01)
        while True:
            await anyio.sleep(period_s)
            horizon_s = anyio.current_time() - self._limits.idle_s
            while self._idle_since_s and next(iter(self._idle_since_s.values())) <= horizon_s:
                self._passivate_oldest()
            self._forget_past_crashes()

    def _forget_past_crashes(self) -> None:
        """Keep the two crash dictionaries as small as the trouble is recent."""
        now_s = anyio.current_time()
        oldest_s = now_s - self._limits.restarts_period_s
        for connection_id in [i for i, s in self._crashes_s.items() if s[-1] < oldest_s]:
            del self._crashes_s[connection_id]
        for connection_id in [i for i, s in self._quarantined_until_s.items() if s <= now_s]:
            del self._quarantined_until_s[connection_id]


def _shutting_down() -> Failure:
    return Failure(
        code=FailureCode.SHUTTING_DOWN, message="the daemon is shutting down", retry_after_s=1.0
    )


def _quarantined(left_s: float) -> Failure:
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message="Database error occurred: the connection's actor failed repeatedly",
        retry_after_s=float(math.ceil(left_s)),
    )
