"""One simulated daemon: every part that decides is the real one, put together as in production.

The composition is that of ``runtime.daemon``; in place of nats-py and HTTP there are ``Port``,
``SimulatedStreams`` and ``SimulatedEndpoint``. Discovery, ``connections.list`` and ``status`` are left
out.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import anyio
from anyio.abc import TaskGroup

from actors.bus import Heard, Take
from actors.client_gate import ClientGates
from actors.directory import Directory
from actors.ports import PartitionLostError
from actors.waker import Waker
from actors.world import Limits, Providers
from actors.world import World as ActorsWorld
from runtime.cluster.site import JOIN_S, ClusterConfig, Site
from runtime.ending import Ending, Parts
from runtime.gateway.explaining import Explainer
from runtime.gateway.service import CommandService, ServiceLimits
from runtime.gateway.wire import CONNECTION_VERBS
from runtime.ledger.delivery import Delivery, receive_outcomes
from runtime.ledger.due_scan import DuePolicy
from runtime.ledger.holdings import Holdings
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.records_view import RecordsView
from runtime.ledger.spill import SpillError, SpillFolder
from runtime.ledger.streams import Streams, StreamsError
from runtime.ledger.subjects import NO_TAG, heartbeats, partition_of
from runtime.ledger.told_ledger import ToldLedger
from runtime.nats.client import Arrived
from runtime.nats.discoverable import Counted
from runtime.nats.errors import LinkError, NotSentError
from runtime.stop_budget import StopBudget
from tests.fakes.world import CountingIds, CountingJournal, PlainSealer
from tests.simulation.bus import Message, Port, Servers
from tests.simulation.hosts import Life
from tests.simulation.kept import Kept
from tests.simulation.link import Link, Way
from tests.simulation.provider import Provider, SimulatedEndpoint
from tests.simulation.streams import SimulatedStreams

PREFIX = "refreshd.v1"
LIMITS = LedgerLimits()
CLUSTER = ClusterConfig()
_GRACE_S = 15.0
_TOKEN_CALLERS = "connection-token"
_QUEUE_GROUP = "refreshd"


class Place(NamedTuple):
    """What all daemons reach for."""

    servers: Servers
    kept: Kept
    provider: Provider
    limits: Limits
    """The actors'."""
    numbers: Callable[[], int]
    """Numbers the processes."""


class SimulatedBus:
    """Implements ``actors.bus.Bus``."""

    def __init__(self, port: Port) -> None:
        """Speak over ``port``."""
        self._port = port

    def publish(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """See ``Bus``."""
        return self._port.send(subject, data, reply=reply, headers=headers)

    async def subscribe(self, subject: str, take: Take) -> Callable[[], None]:
        """See ``Bus``."""
        if not self._port.is_connected:
            raise NotSentError("not connected")
        return self._port.hear(subject, lambda one: take(Heard(*one[:4])))


class SimulatedResponder:
    """Stands for ``runtime.gateway.responder.Responder``: answers wait for a connection."""

    def __init__(self, port: Port, link: Link) -> None:
        """Send over ``port``."""
        self._port = port
        self._waiting: deque[tuple[str, bytes, float, Callable[[], None]]] = deque()
        link.reconnected.append(self._reconnected)

    def answer(
        self,
        subject: str,
        body: bytes,
        *,
        expires_s: float,
        sent: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """See ``Responder``."""
        if not subject or self._port.send(subject, body, headers=headers):
            sent()
        else:
            self._waiting.append((subject, body, expires_s, sent))

    async def drained(self) -> None:
        """See ``Responder``."""
        while self._waiting:  # noqa: ASYNC110 -- simple, and on virtual time
            await anyio.sleep(0.05)

    def _reconnected(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for subject, body, expires_s, sent in waiting:
            if anyio.current_time() < expires_s:
                self._port.send(subject, body)
            sent()


class SimulatedNats:
    """Stands for ``runtime.nats.link.NatsLink`` and nats.micro, as far as they are used here."""

    def __init__(self, port: Port) -> None:
        """Speak over ``port``."""
        self.replies = self
        self.inbox = "_INBOX_refreshd"
        self.counted = {f"connection-{verb}": Counted() for verb in CONNECTION_VERBS}
        self._port = port
        self.tasks: TaskGroup | None = None

    def forbid(self, *_: str) -> None:
        """See ``ReplySubjects``."""

    def publish_now(self, subject: str, data: bytes) -> None:
        """See ``NatsLink``."""
        if not self._port.send(subject, data):
            raise NotSentError("not connected")

    async def flush(self) -> None:
        """See ``NatsLink``: return when what the servers had sent before is here."""
        back, subject = anyio.Event(), f"_FLUSH.{self._port.name}"
        end = self._port.hear(subject, lambda _: back.set())
        self.publish_now(subject, b"")
        with anyio.move_on_after(2.0):
            await back.wait()
        end()

    async def hear(self, subject: str, take: Callable[[bytes], Any]) -> None:
        """See ``runtime.nats.hearing.hear``: one message after the other."""
        if not self._port.is_connected:
            raise NotSentError("not connected")
        assert self.tasks is not None
        send, receive = anyio.create_memory_object_stream[bytes](10_000)

        async def run() -> None:
            with send, receive:
                async for data in receive:
                    await take(data)

        self.tasks.start_soon(run)
        self._port.hear(subject, lambda one: send.send_nowait(one.data))

    def listen(self, service: CommandService) -> None:
        """Take commands by the queue group."""

        def take(message: Message) -> None:
            verb = message.subject.rpartition(".")[2]
            name = f"connection-{verb}"
            load = service._token_callers if name == _TOKEN_CALLERS else service._commands
            arrived = Arrived(message.subject, message.reply, message.data, message.headers)
            service._handle(partial(service._take_command, verb), name, load, arrived)

        self._port.hear(f"{PREFIX}.connection.*.*", take, queue=_QUEUE_GROUP)

    async def drain_endpoints(self) -> None:
        """See ``DiscoverableService``."""
        await self._port.drain(_QUEUE_GROUP)

    async def stop(self) -> None:
        """See ``DiscoverableService``."""


class Daemon:
    """A daemon's parts."""

    def __init__(self, life: Life, way: Way, place: Place) -> None:
        """Make every part; nothing is started."""
        self.is_serving = False
        self.life = life
        self.world = life.world
        self.place = place
        self.link = Link(life.world, life, way)
        self.port = Port(place.servers, life.name, self.link)
        self.journal = CountingJournal()
        self.ids = CountingIds(place.numbers() * 1_000_000)
        self.spill = SpillFolder(life.host.folder / "outcomes")
        self.nats: Any = SimulatedNats(self.port)
        partitions = len(place.kept.partitions)
        self.partition_of = partial(partition_of, partitions=partitions)
        self.streams = Streams(partitions, 0, 400_000)
        self.delivery = Delivery(self.spill, self.nats, self.streams)
        self.gates = ClientGates(
            me=life.name,
            news=lambda: self.site.cluster.news(),  # noqa: PLW0108 -- made below
        )
        self.directory = Directory(
            world=self._actors_world(),
            limits=place.limits,
            partition_of=self.partition_of,
            confirms=lambda sent_s: self.site.cluster.confirms(sent_s),  # noqa: PLW0108
        )
        self.site = Site(
            life.name,
            SimulatedBus(self.port),
            self.directory,
            partitions=partitions,
            tag=NO_TAG,
            config=CLUSTER,
            records=self._records,
        )
        self.ledgers = Ledgers(
            self._streams_of,
            daemon=life.name,
            prefix=PREFIX,
            tag=NO_TAG,
            limits=LIMITS,
            record_bytes_max=400_000,
            now_s=life.host.clock.now_s,
        )
        self.waker = Waker(self.directory.submit, place.limits)
        self.responder: Any = SimulatedResponder(self.port, self.link)
        self.service = self._service()
        self.policy = DuePolicy("simulated", place.provider.profiles.get)
        self.holdings = Holdings(
            self.ledgers,
            self.directory,
            self.waker,
            self.policy,
            hear=partial(self.site.hear, self.service.take_handed_over),
            told=partial(ToldLedger, tell=lambda _: None),
        )
        self.site.attach(
            self.holdings,
            self.gates,
            version="simulated",
            report=dict,
            load=lambda: self.service.commands_in_flight,
            draw=self.world.draws(life.host.name).random,
        )
        self.holdings.lost = self.site.cluster.lost
        self.ledgers.may_claim_from = self.site.cluster.may_claim_from

    async def run(self) -> None:
        """Serve until told to end; a start that fails ends the process."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.port.run)
            self.nats.tasks = tasks
            try:
                await self._join(tasks)
                await self._start(tasks)
            except (LinkError, StreamsError, PartitionLostError, SpillError) as error:
                self.world.note(self.life.name, f"cannot start: {error}")
            else:
                self.world.note(self.life.name, f"serves {[*self.ledgers.partitions]}")
                self.is_serving = True
                await self.life.asks_to_end.wait()
                self.is_serving = False
                budget = StopBudget(_GRACE_S)
                await Ending(self.nats, budget).drain(
                    Parts(
                        self.directory,
                        self.service,
                        self.responder,
                        self.ledgers,
                        self.delivery,
                        self.site,
                    )
                )
            self.site.cluster.is_gone()
            tasks.cancel_scope.cancel()

    async def _join(self, tasks: TaskGroup) -> None:
        # As ``Site.among_others``, which is asyncio's.
        await self.site.checkpoints.listen()
        await self.site.bus.subscribe(heartbeats(NO_TAG), self.site._heard)
        tasks.start_soon(self.site.cluster.tell)
        former = {f"{self.life.host.name}-{one}" for one in range(self.life.host.lives)}
        await self.site.cluster.join(within_s=JOIN_S, former=former)
        await self.ledgers.open(self.site.cluster.first())
        for ledger in self.ledgers.partitions.values():
            ledger.records.mark.decide_by(self.policy.name)
        self.delivery.add(await self.spill.take_in(self.ledgers.partitions, self.partition_of))

    async def _start(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self.delivery.run)
        await tasks.start(self.directory.run)
        await tasks.start(self.holdings.run)
        await receive_outcomes(self.nats, self.streams, PlainSealer(), self.directory.take_in)
        tasks.start_soon(self.service.arrivals.run)
        self.nats.listen(self.service)
        for partition, ledger in [*self.ledgers.partitions.items()]:
            await self.holdings.serve(partition, ledger)
        self.site.start(tasks)
        tasks.start_soon(self.holdings.begin)

    def _actors_world(self) -> ActorsWorld:
        life, provider = self.life, self.place.provider
        providers = Providers(
            provider.profiles.get,
            SimulatedEndpoint(provider, life, life.host.clock),
            self.gates,
            self.world.draws(life.host.name).random,
            life.name,
        )
        return ActorsWorld(
            PlainSealer(), life.host.clock, self.ids, self.journal, providers, self.delivery
        )

    def _records(self, partition: int) -> RecordsView | None:
        ledger = self.ledgers.partitions.get(partition)
        return None if ledger is None else ledger.records

    def _streams_of(self, partition: int) -> SimulatedStreams:
        kept = self.place.kept.partitions[partition]
        return SimulatedStreams(self.link, kept, answer_timeout_s=LIMITS.answer_timeout_s)

    def _explainer(self) -> Explainer:
        world = self.directory.world
        providers = world.providers
        return Explainer(
            providers.profile,
            providers.endpoint,
            self.gates,
            now=world.clock.now,
            history=_not_simulated,
        )

    def _service(self) -> CommandService:
        """Return the gateway, on trio's clock."""
        with patch.object(asyncio, "get_running_loop", VirtualAsyncio.get_running_loop):
            service = CommandService(
                link=self.nats,
                directory=self.directory,
                responder=self.responder,
                ids=self.ids,
                prefix=PREFIX,
                limits=ServiceLimits(),
                list_connections=_not_simulated,
                explainer=self._explainer(),
                report_status=_not_simulated,
                profile=self.place.provider.profiles.get,
                sited=self.site,
            )
        service._service = self.nats
        return service


class VirtualAsyncio:
    """Stands for what some parts of the runtime need of ``asyncio`` and ``time``."""

    time = monotonic = staticmethod(anyio.current_time)
    sleep = staticmethod(anyio.sleep)

    @classmethod
    def get_running_loop(cls) -> "type[VirtualAsyncio]":
        """Return what has the time."""
        return cls


async def _not_simulated(*_: object) -> Any:
    """Stands for ``connections.list`` and ``status``, for which no simulated caller asks."""
    raise AssertionError("a listing or a status is not simulated")


async def heard(nats: Any, subject: str, take: Callable[[bytes], Any]) -> None:
    """Stands for ``runtime.nats.hearing.hear``."""
    await nats.hear(subject, take)
