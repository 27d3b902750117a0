"""How many connections of a partition there are of each kind: counted once, then kept.

A change tells what a connection was and what it is, so all that is to be found out is what
was stored before. The bucket is read for that, once after each start, page by page beside the
commands, from its beginning to where it ended when the partition was taken; what lies behind that
is this daemon's own. Whoever changes a connection has read it before: one that was not reached yet
is counted when it is read, and passed over later.
"""

from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus, ProviderConnection
from runtime.ledger.kinds import Counted, CountedRecord, Kind, are_alike, kind_of, why_to_act
from runtime.ledger.last_outcomes import LastOutcomes
from runtime.ledger.partition_streams import Kept
from runtime.ledger.provider_names import ProviderNames
from runtime.ledger.records_view import Changed
from runtime.ledger.subjects import is_record_key
from runtime.logs import log

NEEDING_SHOWN_MAX = 50


class Scan(Protocol):
    """Reads a bucket; see ``PartitionLedger.scan``."""

    def __call__(self, start_seq: int, /, *, messages_max: int) -> Awaitable[Sequence[Kept]]:
        """Return what it holds from ``start_seq`` on, in the order of the last writes."""
        ...


class Needing(NamedTuple):
    """A connection that somebody must act for to go on, as ``list --needs-action`` has it."""

    connection_id: UUID
    provider_slug: str
    since: datetime
    reason: str


_decoder = msgspec.msgpack.Decoder(CountedRecord)


class StatusCount:
    """One partition's count. Complete when ``count`` has returned False."""

    def __init__(self, names: ProviderNames) -> None:
        """Count nothing before ``begin``."""
        self._names = names
        self._counts: Counter[Kind] = Counter()
        self._needing: dict[UUID, Needing] = {}
        self.outcomes = LastOutcomes()
        """How refreshes at providers went, of those that are counted."""
        self._ahead: set[int] | None = set()
        """What is counted or ours and may lie ahead, by the number of the id; None: all counted.

        Bounded by the connections that are read or written while the count lasts.
        """
        self._next_seq = 1
        self._end_seq = 0

    @property
    def by_kind(self) -> Mapping[Kind, int] | None:
        """How many connections there are of each kind; None: not all are counted yet."""
        return self._counts if self._ahead is None else None

    @property
    def by_status(self) -> Counter[ConnectionStatus] | None:
        """How many connections have each status; None: not all are counted yet."""
        if self._ahead is not None:
            return None
        counts: Counter[ConnectionStatus] = Counter()
        for kind, connections in self._counts.items():
            counts[kind.status] += connections
        return counts

    @property
    def needing(self) -> Iterable[Needing]:
        """Who needs somebody to act, of those that are counted; the last ones, no more."""
        return self._needing.values()

    def begin(self, held: Iterable[Changed], end_seq: int) -> None:
        """Begin with what memory holds newer than the bucket, which ends at ``end_seq``."""
        assert self._ahead is not None
        for record in held:
            self._count_record(record.data)
            self._ahead.add(record.connection_id.int)
        self._end_seq = end_seq

    def read(self, connection: ProviderConnection, seq: int) -> None:
        """Know that a connection was read, which lies at ``seq`` of the bucket."""
        number = connection.id.int
        if self._ahead is not None and seq >= self._next_seq and number not in self._ahead:
            self._count(connection)
            self._ahead.add(number)

    def changed(self, before: ProviderConnection | None, after: ProviderConnection) -> None:
        """Know that a connection was stored; ``before``: None where it is new."""
        if self._ahead is not None:
            self._ahead.add(after.id.int)
        if before is not None:
            if before.intent is not None and after.intent is None and after.trouble is None:
                self.outcomes.succeeded(self._names.of(after.provider_slug), after.updated_at)
            if are_alike(before, after):
                return
            self._counts[kind_of(before, self._names)] -= 1
            self._needing.pop(after.id, None)
        self._count(after)

    async def count(self, scan: Scan, *, records_max: int) -> bool:
        """Count some more; False: all are counted.

        Raises:
            LinkError, JetStreamError: The bucket cannot be read now; call again.
        """
        if self._ahead is None:
            return False
        page = await scan(self._next_seq, messages_max=records_max)
        for kept in page:
            if is_record_key(kept.key) and kept.data:
                self._count_record(kept.data)
            self._next_seq = kept.seq + 1
        if not page or self._next_seq > self._end_seq:
            self._ahead = None
        return self._ahead is not None

    def _count_record(self, data: bytes) -> None:
        """Count a record, unless it is counted; one that cannot be read has no status."""
        assert self._ahead is not None
        try:
            connection = _decoder.decode(data).connection
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            log.error("record_not_counted")
            return
        if connection.id.int not in self._ahead:
            self._count(connection)

    def _count(self, connection: Counted) -> None:
        kind = kind_of(connection, self._names)
        self._counts[kind] += 1
        self.outcomes.counted(connection, kind)
        if not kind.needs_action:
            return
        since, why = why_to_act(connection)
        self._needing[connection.id] = Needing(connection.id, connection.provider_slug, since, why)
        if len(self._needing) > NEEDING_SHOWN_MAX:
            oldest = min(self._needing.values(), key=lambda one: one.since)
            del self._needing[oldest.connection_id]
