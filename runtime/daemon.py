"""The composition root: it makes every part, starts them in order, and stops them in reverse."""

import contextlib
import os
import random
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from actors.client_gate import ClientGates
from actors.directory import Directory
from actors.ports import PartitionLostError
from actors.waker import Waker
from actors.world import Providers, World, database_error
from domain.grant_end import action_needed
from domain.result import Failure
from runtime import VERSION
from runtime.config import Config
from runtime.data_folder import KEYRING_FILE, OUTCOMES_FOLDER, make_data_folder, only_daemon_of
from runtime.due_policy import due_policy
from runtime.ending import DaemonError, Ending, Parts
from runtime.gateway.living import alone_on
from runtime.gateway.replies import connection_view
from runtime.gateway.responder import Responder
from runtime.gateway.service import CommandService
from runtime.ledger.delivery import Delivery, receive_outcomes
from runtime.ledger.key_rotation import follow_rotation, open_keyring_of, refuse_another_keyring
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.listing import Listing
from runtime.ledger.restore_mark import refuse_half_restored
from runtime.ledger.sealing import Keyring
from runtime.ledger.spill import SpillFolder
from runtime.ledger.streams import Streams, connections_stored, ensure_streams
from runtime.ledger.subjects import partition_of
from runtime.ledger.told_ledger import told
from runtime.nats.durability import Durable, warn_unless_durable
from runtime.nats.embedded import EmbeddedNats, EmbeddedNatsError
from runtime.nats.embedded_keeper import EmbeddedKeeper, KeeperLimits
from runtime.nats.free_space import FreeSpace
from runtime.nats.link import Login, NatsLink, open_link
from runtime.provider.profiles import Profiles, load_profiles
from runtime.provider.token_endpoint import HttpTokenEndpoint
from runtime.stop_budget import StopBudget
from runtime.stream_settings import check_answers, stream_settings
from runtime.world import LoggingJournal, SystemClock, Uuid7Ids

DAEMON_INBOX = "_INBOX_refreshd"
"""Stored records come in there: no other user of the server needs the right to read it."""
NO_SPACE = database_error("too little disk space is free to store what a provider would answer")
_CHECKPOINT_S = 0.5
_OTHERS_STOP_S = 5.0
"""How much longer than our own grace another daemon's drain is waited for."""


class Daemon:
    """A running daemon, as ``run_daemon`` yields it."""

    def __init__(
        self,
        *,
        config: Config,
        link: NatsLink,
        streams: Streams,
        ledgers: Ledgers,
        connections: int,
        keyring: Keyring,
        daemon_id: str,
        keeper: EmbeddedKeeper | None,
        is_durable: Durable,
        profiles: Profiles,
        endpoint: HttpTokenEndpoint,
        delivery: Delivery,
        budget: StopBudget,
    ) -> None:
        """Make every part; nothing is started."""
        ids = Uuid7Ids()
        self.config = config
        self.link = link
        self.daemon_id = daemon_id
        self._keeper = keeper
        self.connections_at_start = connections
        self._is_durable = is_durable
        self.ending = Ending(link, budget)
        self._streams = streams
        self._started_s = time.monotonic()
        self.journal = LoggingJournal()
        self._gates = ClientGates(self.journal.circuit_changed)
        self._ledgers = ledgers
        ledgers.lost = self.ending.because
        world = World(
            sealer=keyring,
            clock=SystemClock(),
            ids=ids,
            journal=self.journal,
            providers=Providers(
                profile=profiles.get,
                endpoint=endpoint,
                gates=self._gates,
                draw=random.random,
                owner=daemon_id,
            ),
            spill=delivery,
            refusal=self._refusal,
        )
        self.directory = Directory(
            world=world,
            limits=config.actors,
            ledgers=told(ledgers.partitions, self.journal.refresh_failed, lost=self.ending.because),
            partition_of=partial(partition_of, partitions=streams.partitions),
        )
        self.waker = Waker(self.directory.submit, config.actors)
        self.responder = Responder(link)
        self.service = CommandService(
            link=link,
            directory=self.directory,
            responder=self.responder,
            ids=ids,
            prefix=config.service.prefix,
            limits=config.service.limits,
            list_connections=_listing(config, ledgers, profiles).page,
            report_status=self.status,
            profile=profiles.get,
        )
        self._parts = Parts(self.directory, self.service, self.responder, ledgers, delivery)

    @property
    def ready_line(self) -> str:
        """The one line that says that commands can be taken."""
        return (
            f"ready nats={self.link.url} daemon={self.daemon_id} "
            f"connections={self.connections_at_start} version={VERSION}"
        )

    async def status(self) -> dict[str, object]:
        """Return what an operator asks first.

        Raises:
            LinkError: NATS does not answer.
        """
        with anyio.move_on_after(_CHECKPOINT_S):
            await self._ledgers.checkpointed(unless_replaced=True)
        return {
            "daemon": self.daemon_id,
            "version": VERSION,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "nats": self.link.url,
            "nats_mode": "embedded" if self._keeper else "external",
            "sync_always": self._is_durable,
            **({} if self._keeper is None else self._keeper.status()),
            "partitions": self._streams.partitions,
            "connections": await connections_stored(self.link, self._streams),
            "connections_by_status": self._ledgers.by_status,
            "resident_actors": self.directory.resident_actors,
            "busy_actors": self.directory.busy_actors,
            "commands_in_flight": self.service.commands_in_flight,
            "token_callers": self.service.token_callers,
            "flights": self.directory.flights,
            "due": {
                **self._ledgers.due(),
                "waiting": self.waker.waiting,
                "under_way": self.waker.under_way,
            },
            "paused_providers": self._gates.paused,
            "circuits": [news._asdict() for news in self._gates.circuits],
            "ledger": self._ledgers.status(),
            "answers_dropped": self.responder.dropped,
            "nats_reconnects": self.link.reconnects,
            "bad_messages": self.link.bad_messages,
            "replies_refused": self.link.replies.refused,
            "verdicts": self.journal.verdicts,
            "troubles": dict(self.journal.counts),
        }

    async def start(self) -> None:
        """Take commands."""
        metadata = {"daemon": self.daemon_id, "partitions": str(self._streams.partitions)}
        metadata["prefix"] = self.config.service.prefix
        await self.service.start(version=VERSION, metadata=metadata)

    async def run_directory(
        self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the actors; a partition that is lost ends the daemon, in order."""
        try:
            await self.directory.run(task_status=task_status)
        except* PartitionLostError:
            # Its ledger has told it already, before the directory waited for its flights.
            assert self.ending.is_lost

    async def deliver(self) -> None:
        """See ``Ending.deliver``."""
        await self.ending.deliver(self._parts.delivery)

    def _refusal(self) -> Failure | None:
        """Return why no provider may be asked: what it answers could not be stored."""
        return NO_SPACE if self._keeper is not None and self._keeper.space.is_low else None

    async def keep_embedded(self) -> None:
        """Keep the embedded server alive; one that dies too often ends the daemon, in order."""
        if self._keeper is not None:
            try:
                await self._keeper.run()
            except EmbeddedNatsError as error:
                self.ending.because(DaemonError(str(error)))

    async def drain(self) -> None:
        """See ``Ending.drain``."""
        await self.ending.drain(self._parts)


@contextlib.asynccontextmanager
async def run_daemon(
    config: Config, data_dir: Path, *, takes_over: bool = False
) -> AsyncGenerator[Daemon]:
    """Yield a daemon that takes commands; drain and stop it afterwards.

    Raises:
        DataFolderError: Another daemon uses the data folder, or others than we can change it.
        EmbeddedNatsError, LinkError, StreamsError, KeyringError, ConfigError: As they
            say. StreamsError also where a profile takes larger answers than a record holds.
        LivingDaemonError: Another daemon serves the prefix, and ``takes_over`` is not given.
        PartitionLostError: Another daemon goes on taking what this one takes.
        SpillError: A spilled outcome cannot be taken in now.
        OSError: The data folder cannot be used.
    """
    make_data_folder(data_dir)
    daemon_id = f"d-{os.urandom(4).hex()}"
    profiles = load_profiles(config.providers)
    budget = StopBudget(config.service.drain_grace_s)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(only_daemon_of(data_dir))
        embedded = None if config.nats.url is not None else embedded_server(config, data_dir)
        if embedded is not None:
            stack.push_async_callback(_ended_with, embedded, budget)
            login = await embedded.start()
            is_durable = True
        else:
            login = config.login()
            is_durable = await warn_unless_durable(config.nats.monitoring_url)
        link = await stack.enter_async_context(daemon_link(config, login, daemon_id))
        if not takes_over:
            await alone(config, link)
        key_file = config.keys.file or data_dir / KEYRING_FILE
        opened = partial(open_keyring_of, key_file, create=config.keys.file is None)
        streams = await ensure_streams(
            link, stream_settings(config), keyring_id=lambda: opened(connections=0).primary
        )
        await refuse_half_restored(link, streams.tag)
        check_answers(profiles, streams)
        keyring = opened(connections=streams.connections)
        refuse_another_keyring(streams, keyring, key_file)
        ledgers = await taken_ledgers(link, config, streams, daemon_id)
        policy = due_policy(profiles)
        ledgers.decide_by(policy)
        spill = SpillFolder(data_dir / OUTCOMES_FOLDER)
        await spill.take_in(
            ledgers.partitions, partial(partition_of, partitions=streams.partitions)
        )
        await follow_rotation(link, streams, keyring, checkpoint=ledgers.checkpoint)
        endpoint = await stack.enter_async_context(
            HttpTokenEndpoint(profiles.secrets, routes=profiles.route, now=SystemClock().now)
        )
        daemon = Daemon(
            config=config,
            link=link,
            streams=streams,
            ledgers=ledgers,
            connections=await connections_stored(link, streams),
            keyring=keyring,
            daemon_id=daemon_id,
            keeper=embedded and _keeper(config, data_dir, embedded, ledgers),
            is_durable=is_durable,
            profiles=profiles,
            endpoint=endpoint,
            delivery=Delivery(spill, link, streams),
            budget=budget,
        )
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(ledgers.run)
        tasks.start_soon(daemon.responder.run)
        tasks.start_soon(daemon.keep_embedded)
        tasks.start_soon(daemon.deliver)
        await tasks.start(daemon.run_directory)
        await receive_outcomes(link, streams, keyring, daemon.directory.take_in)
        await daemon.start()
        tasks.start_soon(ledgers.wake_in_time, daemon.waker, policy)
        try:
            yield daemon
        finally:
            with anyio.CancelScope(shield=True):
                await daemon.drain()
            tasks.cancel_scope.cancel()


async def taken_ledgers(
    link: NatsLink, config: Config, streams: Streams, daemon_id: str
) -> Ledgers:
    """Return the ledgers of all partitions, claimed; see ``Ledgers.open`` for what it raises."""
    ledgers = Ledgers(
        link,
        daemon=daemon_id,
        prefix=config.service.prefix,
        tag=streams.tag,
        limits=config.state.limits,
        record_bytes_max=streams.record_bytes_max,
        now_s=time.time,
    )
    await ledgers.open(streams.partitions)
    return ledgers


def _listing(config: Config, ledgers: Ledgers, profiles: Profiles) -> Listing:
    now = SystemClock().now
    return Listing(
        ledgers.partitions,
        view=connection_view,
        action_needed=lambda one: action_needed(one, profiles.get(one.provider_slug), now()),
        checkpointed=ledgers.checkpointed,
        records_max=config.service.limits.list_records_max,
    )


def daemon_link(
    config: Config, login: Login, daemon_id: str
) -> contextlib.AbstractAsyncContextManager[NatsLink]:
    """Return a link as the daemon has it."""
    return open_link(
        login,
        name=f"refreshd {daemon_id}",
        limits=config.nats.link,
        inbox_prefix=config.nats.inbox_prefix or DAEMON_INBOX,
        reply_prefixes=config.service.reply_prefixes,
    )


async def alone(config: Config, link: NatsLink) -> None:
    """Return when no other daemon serves the prefix; see ``alone_on`` for what it raises."""
    await alone_on(
        config.service.prefix,
        link,
        inbox_prefix=config.nats.inbox_prefix or DAEMON_INBOX,
        patience_s=config.service.drain_grace_s + _OTHERS_STOP_S,
    )


def embedded_server(config: Config, data_dir: Path) -> EmbeddedNats:
    """Return the embedded server, as it is configured; it is not started."""
    nats = config.nats
    return EmbeddedNats(
        data_dir,
        server_bin=nats.server_bin,
        port=nats.port,
        start_timeout_s=nats.start_timeout_s,
    )


def _keeper(
    config: Config, data_dir: Path, embedded: EmbeddedNats, ledgers: Ledgers
) -> EmbeddedKeeper:
    return EmbeddedKeeper(
        embedded,
        FreeSpace(data_dir, bytes_min=config.nats.free_bytes_min),
        limits=KeeperLimits(
            restarts_max=config.nats.restarts_max,
            restarts_period_s=config.nats.restarts_period_s,
            write_silent_s=config.nats.write_silent_s,
        ),
        is_silent=lambda: ledgers.is_silent,
    )


async def _ended_with(embedded: EmbeddedNats, budget: StopBudget) -> None:
    """End the embedded server in what is left of the stop's time."""
    await embedded.stop(within_s=budget.all_s)
