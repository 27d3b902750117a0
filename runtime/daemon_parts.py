"""Parts of the daemon, as they are configured: what answers at length, counts, and keeps NATS."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from actors.client_gate import ClientGates
from actors.waker import Waker
from actors.world import World
from domain.grant_end import action_needed
from runtime.by_provider import failing_here, most_of, without_profile
from runtime.cluster.checkpoints import Checkpoints
from runtime.cluster.totals import Report, Totals
from runtime.config import Config
from runtime.gateway.explaining import Explainer
from runtime.gateway.replies import connection_view
from runtime.ledger.history import History
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.listing import Listing
from runtime.ledger.partition_streams import PartitionStreams
from runtime.ledger.streams import Streams
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.embedded_keeper import EmbeddedKeeper, KeeperLimits
from runtime.nats.free_space import FreeSpace
from runtime.nats.link import NatsLink
from runtime.provider.held_profiles import Profiles
from runtime.stop_budget import StopBudget
from runtime.tally import Tally
from runtime.world import LoggingJournal, SystemClock


def listing_of(
    config: Config,
    buckets: Sequence[PartitionStreams],
    profiles: Profiles,
    checkpoints: Checkpoints,
) -> Listing:
    """Return what answers ``connections.list``."""
    now = SystemClock().now
    return Listing(
        buckets,
        proven=checkpoints.proven,
        view=connection_view,
        action_needed=lambda one: action_needed(one, profiles.get(one.provider_slug), now()),
        records_max=config.service.limits.list_records_max,
        read_timeout_s=config.state.limits.read_timeout_s,
    )


def tally_of(ledgers: Ledgers, profiles: Profiles, journal: LoggingJournal) -> Tally:
    """Return what counts, by the names of the configured providers before all others."""
    names = ledgers.room.names
    names.admit(profile.slug for profile in profiles)
    tally = Tally(names, now_s=ledgers.now_s)
    journal.unknown = tally.outcome_unknown
    return tally


def explainer_of(
    link: NatsLink, prefix: str, streams: Streams, world: World, profiles: Profiles
) -> Explainer:
    """Return what answers ``explain`` and ``history``."""
    history = History(link, prefix=prefix, tag=streams.tag)
    providers = world.providers
    return Explainer(
        providers.profile,
        providers.endpoint,
        providers.gates,
        now=world.clock.now,
        history=history.page,
        taken_at=profiles.taken_at,
    )


def report_of(
    ledgers: Ledgers, waker: Waker, tally: Tally, world: World, *, since_s: float
) -> dict[str, object]:
    """Return what the other members are to know of a daemon; ``since_s``: monotonic, its start."""
    owned = [*ledgers.partitions.values()]
    report = Report(
        uptime_s=round(time.monotonic() - since_s, 1),
        unsettled_bytes=ledgers.room.bytes,
        due_waiting=waker.waiting,
        due_under_way=waker.under_way,
        appends=tally.appends,
        refreshes=tally.outcomes,
        partitions=ledgers.standings,
        without_profile=most_of(without_profile(owned, world.providers.profile)),
        failing=failing_here(owned),
    )
    return msgspec.to_builtins(report)


def providers_of(totals: Totals, gates: ClientGates) -> dict[str, object]:
    """Return what ``status`` shows of what goes wrong at providers: of all, and of this member."""
    return {
        "connections_without_profile": totals.without_profile,
        "failing": totals.failing,
        "paused_providers": gates.paused,
        "circuits": [news._asdict() for news in gates.circuits],
    }


def keeper_of(
    config: Config, data_dir: Path, embedded: EmbeddedNats, ledgers: Ledgers
) -> EmbeddedKeeper:
    """Return what restarts the embedded server when it dies, or leaves writes unanswered."""
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


async def ended_with(embedded: EmbeddedNats, budget: StopBudget) -> None:
    """End the embedded server in what is left of the stop's time."""
    await embedded.stop(within_s=budget.all_s)
