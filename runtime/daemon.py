"""The composition root: it makes every part, starts them in order, and stops them in reverse."""

import contextlib
import os
import random
import time
from collections.abc import AsyncGenerator, Collection
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from actors.client_gate import ClientGates
from actors.directory import Directory
from actors.waker import Waker
from actors.world import Providers, World, database_error
from domain.result import Failure
from runtime import VERSION
from runtime.checkup import Checkup
from runtime.cluster.overview import Overview
from runtime.cluster.site import JOIN_S, Site
from runtime.config import Config
from runtime.daemon_parts import (
    ended_with,
    explainer_of,
    keeper_of,
    listing_of,
    providers_of,
    report_of,
    tally_of,
)
from runtime.data_folder import KEYRING_FILE, make_data_folder, one_daemon_of
from runtime.due_policy import due_policy
from runtime.ending import DaemonError, Ending, Parts
from runtime.gateway.living import CLUSTER
from runtime.gateway.responder import Responder
from runtime.gateway.service import CommandService
from runtime.ledger.delivery import Delivery, receive_outcomes
from runtime.ledger.holdings import Holdings
from runtime.ledger.key_rotation import follow_rotation, open_keyring_of, refuse_another_keyring
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.marker_renewal import renew_markers
from runtime.ledger.replicas import still_fewer
from runtime.ledger.restore_mark import refuse_half_restored
from runtime.ledger.sealing import Keyring
from runtime.ledger.spill import SpillFolder
from runtime.ledger.streams import Streams, connections_stored, ensure_streams
from runtime.ledger.subjects import partition_of
from runtime.ledger.told_ledger import ToldLedger
from runtime.liveness import Liveness
from runtime.nats.bus import NatsBus
from runtime.nats.durability import Durable, warn_unless_durable
from runtime.nats.embedded import EmbeddedNatsError
from runtime.nats.embedded_keeper import EmbeddedKeeper
from runtime.nats.link import NatsLink
from runtime.provider.held_profiles import Profiles
from runtime.provider.profiles import load_profiles
from runtime.provider.token_endpoint import HttpTokenEndpoint
from runtime.reaching import daemon_link, embedded_server, ledgers_of, refuse_others
from runtime.reloading import Reloadable
from runtime.showing import shown
from runtime.spans import open_spans, with_spans
from runtime.stop_budget import StopBudget
from runtime.stream_settings import check_answers, stream_settings
from runtime.viewing import view_of
from runtime.watching import Watched
from runtime.world import LoggingJournal, SystemClock, Uuid7Ids

_OTHERS_CHECKPOINT_S = 3.0
NO_SPACE = database_error("too little disk space is free to store what a provider would answer")


class Daemon:
    """A running daemon, as ``run_daemon`` yields it."""

    http = "off"
    """Where it can be seen."""

    def __init__(
        self,
        *,
        config: Config,
        link: NatsLink,
        streams: Streams,
        ledgers: Ledgers,
        keyring: Keyring,
        daemon_id: str,
        keeper: EmbeddedKeeper | None,
        is_durable: Durable,
        profiles: Profiles,
        endpoint: HttpTokenEndpoint,
        spill: SpillFolder,
        budget: StopBudget,
    ) -> None:
        """Make every part; nothing is started."""
        ids = Uuid7Ids()
        self.delivery = Delivery(spill, link, streams)
        self.config, self.link, self.daemon_id = config, link, daemon_id
        self._keeper, self._is_durable = keeper, is_durable
        self.connections_at_start, self.ending = 0, Ending(link, budget)
        self._streams, self._keyring, self._ledgers = streams, keyring, ledgers
        self._checkup = Checkup(config, link, streams, keyring, endpoint.clocks)
        self._started_s, self.spans = time.monotonic(), open_spans()
        self.journal = LoggingJournal()
        self.tally = tally_of(ledgers, profiles, self.journal)
        self._gates = ClientGates(
            self.journal.circuit_changed,
            me=daemon_id,
            news=lambda: self.site.cluster.news(),  # noqa: PLW0108 -- made below
        )
        self.directory = self._actors(ids, profiles, endpoint)
        self.site = self._site()
        buckets = [ledgers.streams_of(number) for number in range(streams.partitions)]
        listing = listing_of(config, buckets, profiles, self.site.checkpoints)
        self.waker, prefix = Waker(self.directory.submit, config.actors), config.service.prefix
        self.responder, self.policy = Responder(link), due_policy(profiles)
        self.service = CommandService(
            link=link,
            directory=self.directory,
            responder=self.responder,
            ids=ids,
            prefix=prefix,
            limits=config.service.limits,
            list_connections=listing.page,
            explainer=explainer_of(link, prefix, streams, self.directory.world, profiles),
            report_status=self.status,
            profile=profiles.get,
            sited=self.site,
            begin_span=None if self.spans is None else self.spans.command,
        )
        self.holdings = self._join_site()
        self._overview = Overview(self.site.cluster, self.site.checkpoints, buckets)
        self.reloadable = Reloadable(
            *(config, profiles, endpoint, self._gates, keyring, self.directory, self.service),
            *(listing, ledgers, self.holdings, self.site.router, link, streams),
        )

    def _actors(self, ids: Uuid7Ids, profiles: Profiles, endpoint: HttpTokenEndpoint) -> Directory:
        """Return who hands commands to actors."""
        asked = with_spans(endpoint, self.spans)
        return Directory(
            world=World(
                sealer=self._keyring,
                clock=SystemClock(),
                ids=ids,
                journal=self.journal,
                providers=Providers(
                    profiles.get, asked, self._gates, random.random, owner=self.daemon_id
                ),
                spill=self.delivery,
                refusal=self._refusal,
            ),
            limits=self.config.actors,
            partition_of=partial(partition_of, partitions=self._streams.partitions),
            confirms=lambda sent_s: self.site.cluster.confirms(sent_s),  # noqa: PLW0108 -- made later
        )

    def _site(self) -> Site:
        """Return this daemon's place among the others."""
        owned = self._ledgers.partitions
        return Site(
            self.daemon_id,
            NatsBus(self.link),
            self.directory,
            partitions=self._streams.partitions,
            tag=self._streams.tag,
            config=self.config.cluster,
            records=lambda number: (one := owned.get(number)) and one.records,
        )

    def _join_site(self) -> Holdings:
        """Return who takes and gives partitions for the cluster."""
        holdings = Holdings(
            self._ledgers,
            self.directory,
            self.waker,
            self.policy,
            hear=partial(self.site.hear, self.service.take_handed_over),
            told=partial(ToldLedger, tell=self.journal.refresh_failed, stored=self.tally.stored),
        )
        self.site.attach(
            holdings,
            self._gates,
            version=VERSION,
            report=self.report,
            load=lambda: self.service.commands_in_flight + self.service.token_callers,
            draw=random.random,
        )
        holdings.lost = self.site.cluster.lost
        self._ledgers.may_claim_from = self.site.cluster.may_claim_from
        return holdings

    @property
    def _parts(self) -> Parts:
        """What is to be ended."""
        first = (self.directory, self.service, self.responder)
        return Parts(*first, self._ledgers, self.delivery, self.site)

    @property
    def watched(self) -> Watched:
        """What can be seen of it over HTTP."""
        first = (self._parts, self.link, self._keeper, self._keyring, self._gates, self.waker)
        counts = (self._streams.partitions, self._started_s, Liveness(self._parts))
        return Watched(*first, self.journal, self.tally, self.ending, *counts)

    @property
    def ready_line(self) -> str:
        """The one line that says that commands can be taken."""
        return (
            f"ready nats={self.link.url} http={self.http} daemon={self.daemon_id} "
            f"connections={self.connections_at_start} version={VERSION}"
        )

    def report(self) -> dict[str, object]:
        """Return what the other members are to know of this one."""
        world, since_s = self.directory.world, self._started_s
        return report_of(self._ledgers, self.waker, self.tally, world, since_s=since_s)

    async def status(self) -> dict[str, object]:
        """Return what an operator asks first, of the cluster and of this daemon.

        Raises:
            LinkError: NATS does not answer.
        """
        totals = await self._overview.now()
        return {
            "daemon": self.daemon_id,
            "version": VERSION,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "nats": self.link.url,
            "nats_mode": "embedded" if self._keeper else "external",
            "sync_always": self._is_durable,
            **({} if self._keeper is None else self._keeper.status()),
            **await self._checkup.facts(),
            "partitions": self._streams.partitions,
            "streams_with_fewer_replicas": await still_fewer(
                self.link, self._streams.fewer_replicas, self.config.nats.replicas
            ),
            "connections": await connections_stored(self.link, self._streams),
            "connections_by_status": totals.connections_by_status,
            "resident_actors": self.directory.resident_actors,
            "busy_actors": self.directory.busy_actors,
            "commands_in_flight": self.service.commands_in_flight,
            "token_callers": self.service.token_callers,
            "flights": self.directory.flights,
            "due": totals.due,
            **providers_of(totals, self._gates),
            "ledger": totals.ledger,
            "cluster": totals.cluster,
            "answers_dropped": self.responder.dropped,
            "nats_reconnects": self.link.reconnects,
            "bad_messages": self.link.bad_messages,
            "replies_refused": self.link.replies.refused,
            "verdicts": self.journal.verdicts,
            "troubles": dict(self.journal.counts),
        }

    async def join(self, *, within_s: float, former: Collection[str]) -> None:
        """Know who is there, and take the partitions that nobody has and that are ours.

        Raises:
            LinkError, StreamsError, PartitionLostError: As they say.
        """
        await self.site.cluster.join(within_s=within_s, former=former)
        await self._ledgers.open(self.site.cluster.first())
        self.connections_at_start = await connections_stored(self.link, self._streams)

    async def checkpoint(self) -> bool:
        """Write what the buckets lack, before ``start``; False: others have not written theirs.

        Raises:
            LinkError, JetStreamError, PartitionLostError: It cannot be written.
        """
        await self._ledgers.checkpoint()
        others = set(range(self._streams.partitions)) - self._ledgers.partitions.keys()
        return await self.site.checkpoints.all_proven(others, within_s=_OTHERS_CHECKPOINT_S)

    async def start(self, tasks: TaskGroup) -> None:
        """Serve what was taken, and take commands.

        Raises:
            LinkError: The server did not take a subscription.
        """
        tasks.start_soon(self.responder.run)
        tasks.start_soon(self.keep_embedded)
        tasks.start_soon(self.delivery.run)
        owned = self._ledgers.partitions
        tasks.start_soon(renew_markers, self.link, self._streams.tag, owned.values)
        await tasks.start(self.directory.run)
        await tasks.start(self.holdings.run)
        await receive_outcomes(self.link, self._streams, self._keyring, self.directory.take_in)
        await self._take_commands()
        # Not before: from then on the others hand commands over.
        for partition, ledger in [*owned.items()]:
            await self.holdings.serve(partition, ledger)
        self.site.start(tasks)
        tasks.start_soon(self.holdings.begin)

    async def _take_commands(self) -> None:
        metadata = {"daemon": self.daemon_id, "partitions": str(self._streams.partitions)}
        metadata |= {"prefix": self.config.service.prefix, CLUSTER: "1"}
        await self.service.start(version=VERSION, metadata=metadata)

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
        LivingDaemonError: A daemon of version 0.1 serves the prefix, and ``takes_over`` is not
            given.
        PartitionLostError: Another daemon goes on taking what this one takes.
        SpillError: A spilled outcome cannot be taken in now.
        OSError: The data folder cannot be used.
    """
    make_data_folder(data_dir)
    daemon_id = f"d-{os.urandom(4).hex()}"
    profiles = load_profiles(config.providers)
    budget = StopBudget(config.service.drain_grace_s)
    async with contextlib.AsyncExitStack() as stack:
        embedded = None if config.nats.url is not None else embedded_server(config, data_dir)
        own = stack.enter_context(one_daemon_of(data_dir, daemon_id, alone=embedded is not None))
        web = await stack.enter_async_context(shown(config.http))
        if embedded is not None:
            stack.push_async_callback(ended_with, embedded, budget)
        login = await embedded.start() if embedded else config.login()
        link = await stack.enter_async_context(daemon_link(config, login, daemon_id))
        is_durable = embedded is not None or await warn_unless_durable(config.nats.monitoring_url)
        if not takes_over:
            await refuse_others(config, link, may_join=True)
        key_file = config.keys.file or data_dir / KEYRING_FILE
        opened = partial(open_keyring_of, key_file, create=config.keys.file is None)
        streams = await ensure_streams(
            link, stream_settings(config), keyring_id=lambda: opened(connections=0).primary
        )
        await refuse_half_restored(link, streams.tag)
        check_answers(profiles, streams)
        keyring = opened(connections=streams.connections)
        refuse_another_keyring(streams, keyring, key_file)
        ledgers = ledgers_of(link, config, streams, daemon_id)
        endpoint = await stack.enter_async_context(
            HttpTokenEndpoint(profiles.secrets, routes=profiles.route, now=SystemClock().now)
        )
        spill = SpillFolder(own.outcomes)
        daemon = Daemon(
            config=config,
            link=link,
            streams=streams,
            ledgers=ledgers,
            keyring=keyring,
            daemon_id=daemon_id,
            keeper=embedded and keeper_of(config, data_dir, embedded, ledgers),
            is_durable=is_durable,
            profiles=profiles,
            endpoint=endpoint,
            spill=spill,
            budget=budget,
        )
        daemon.http = web.address
        await stack.enter_async_context(daemon.site.among_others())
        await daemon.join(within_s=0.0 if embedded else JOIN_S, former=own.former)
        for ledger in ledgers.partitions.values():
            ledger.records.mark.decide_by(daemon.policy.name)
        number = partial(partition_of, partitions=streams.partitions)
        daemon.delivery.add(await spill.take_in(ledgers.partitions, number))
        await follow_rotation(link, streams, keyring, checkpoint=daemon.checkpoint)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        await daemon.start(tasks)
        web.show(daemon.watched, partial(view_of, daemon.watched))
        try:
            yield daemon
        finally:
            with anyio.CancelScope(shield=True):
                await daemon.drain()
            tasks.cancel_scope.cancel()
