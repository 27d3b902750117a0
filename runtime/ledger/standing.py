"""How a partition stands: how far its views are behind, what it holds, what is due."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from domain.connection import ConnectionStatus
from runtime.ledger.marked_view import MarkedView, MarkerError
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import PartitionStreams, View
from runtime.ledger.provider_names import OTHERS
from runtime.ledger.status_count import Kind
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

NEEDS_USER = "needs_user"
_PROVIDERS_TOLD_MAX = 20


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One partition, as its owner tells it, or as its streams do where nobody owns it.

    What is null is not known.
    """

    partition: int
    claim_seq: int | None = None
    """The owner's claim."""
    ledger_seq: int | None = None
    """The ledger's end."""
    records_lag: int | None = None
    """How many groups of the ledger the bucket lacks."""
    events_lag: int | None = None
    events_lacking: int = 0
    """How many events the stream lacks, at most; of an unknown group, one."""
    trimmed_seq: int | None = None
    troubles: Mapping[str, str] = {}
    """Why ledger or views cannot be read or written."""
    by_status: Mapping[str, int] | None = None
    """How many connections have each status; null: they are still being counted."""
    next_minute: int = 0
    next_hour: int | None = None
    next_day: int | None = None
    due_hours: Sequence[int] | None = None
    """How many are due in each of the 24 hours to come."""
    by_provider: Mapping[str, Mapping[str, int]] = {}
    """How many connections of each provider have each status, and ``needs_user``: need somebody to
    act; of the providers that have the most, and of all others together."""
    late_s: float = 0.0
    """See ``due`` in docs/operation.md."""

    def as_of(self, last_seq: int | None) -> "Standing":
        """Return it as it is where the ledger ends at ``last_seq``, as far as is known.

        Args:
            last_seq: None where that cannot be told.
        """
        assert self.ledger_seq is not None
        if last_seq is None:
            return msgspec.structs.replace(self, events_lacking=max(self.events_lacking, 1))
        more = max(last_seq - self.ledger_seq, 0)
        return msgspec.structs.replace(
            self,
            ledger_seq=self.ledger_seq + more,
            records_lag=(self.records_lag or 0) + more,
            events_lag=(self.events_lag or 0) + more,
            events_lacking=self.events_lacking + more,
        )


def standing_of(ledger: PartitionLedger) -> Standing:
    """Return how a partition stands that is owned here."""
    counts, due = ledger.statuses.by_status, ledger.due
    hours = due.counts.hours
    troubles = (
        ("ledger", ledger.writer.trouble),
        ("records", ledger.records.trouble),
        ("events", ledger.events.trouble),
    )
    return Standing(
        partition=ledger.records.partition,
        claim_seq=ledger.claim_seq,
        # Of an acknowledged group that the views have not been told of yet nothing is counted.
        ledger_seq=ledger.events.followed_seq,
        records_lag=ledger.records.lag,
        events_lag=ledger.events.lag,
        events_lacking=ledger.events.events_lacking,
        trimmed_seq=ledger.trimmed_seq,
        troubles={name: trouble for name, trouble in troubles if trouble},
        by_status=None if counts is None else {one.value: counts[one] for one in ConnectionStatus},
        next_minute=due.next_minute,
        next_hour=due.counts.within(60),
        next_day=None if hours is None else sum(hours),
        due_hours=hours,
        by_provider=_by_provider(ledger.statuses.by_kind or {}),
        late_s=due.late_s,
    )


def _by_provider(kinds: Mapping[Kind, int]) -> dict[str, dict[str, int]]:
    """Return the counts that are not 0, of a bounded number of providers: heartbeats hold them."""
    totals: Counter[str] = Counter()
    for kind, connections in kinds.items():
        totals[kind.provider] += connections
    named = {provider for provider, _ in totals.most_common(_PROVIDERS_TOLD_MAX)}
    found: dict[str, dict[str, int]] = {}
    for kind, connections in kinds.items():
        if connections:
            one = found.setdefault(kind.provider if kind.provider in named else OTHERS, {})
            one[kind.status] = one.get(kind.status, 0) + connections
            if kind.needs_action:
                one[NEEDS_USER] = one.get(NEEDS_USER, 0) + connections
    return found


async def read_standing(streams: PartitionStreams, partition: int) -> Standing:
    """Return how a partition stands that nobody owns. Never raises but to be cancelled."""
    records, events = MarkedView(streams, View.RECORDS), MarkedView(streams, View.EVENTS)
    try:
        first_seq, last_seq = await streams.bounds()
        await records.load()
        await events.load()
    except (LinkError, JetStreamError, MarkerError) as error:
        return unknown_standing(partition, str(error))
    trimmed_seq = first_seq - 1
    # A marker that has aged out of the stream has left everything behind it.
    events_lag = last_seq - max(events.through, trimmed_seq)
    return Standing(
        partition=partition,
        ledger_seq=last_seq,
        records_lag=last_seq - max(records.through, trimmed_seq),
        events_lag=events_lag,
        events_lacking=events_lag,
        trimmed_seq=trimmed_seq,
    )


def unknown_standing(partition: int, cause: str) -> Standing:
    """Return how a partition stands that nobody owns and that cannot be read."""
    return Standing(partition=partition, events_lacking=1, troubles={"ledger": cause})
