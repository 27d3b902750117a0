"""How many connections of a partition have each status: counted once, then kept as they change.

A change tells which status it ends and which it begins, so all that is to be found out is what
was stored before. The bucket is read for that, once after each start, page by page beside the
commands, from its beginning to where it ended when the partition was taken; what lies behind that
is this daemon's own. Whoever changes a connection has read it before: one that was not reached yet
is counted when it is read, and passed over later.
"""

from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus
from runtime.ledger.partition_streams import Kept
from runtime.ledger.records_view import Changed
from runtime.ledger.subjects import is_record_key
from runtime.logs import log


class Scan(Protocol):
    """Reads a bucket; see ``PartitionLedger.scan``."""

    def __call__(self, start_seq: int, /, *, messages_max: int) -> Awaitable[Sequence[Kept]]:
        """Return what it holds from ``start_seq`` on, in the order of the last writes."""
        ...


class _Connection(msgspec.Struct):
    id: UUID
    status: ConnectionStatus


class _Record(msgspec.Struct):
    """The part of a record that is counted."""

    connection: _Connection


_decoder = msgspec.msgpack.Decoder(_Record)


class StatusCount:
    """One partition's count. Complete when ``count`` has returned False."""

    def __init__(self) -> None:
        """Count nothing before ``begin``."""
        self._counts: Counter[ConnectionStatus] = Counter()
        self._ahead: set[int] | None = set()
        """What is counted or ours and may lie ahead, by the number of the id; None: all counted.

        Bounded by the connections that are read or written while the count lasts.
        """
        self._next_seq = 1
        self._end_seq = 0

    @property
    def by_status(self) -> Counter[ConnectionStatus] | None:
        """How many connections have each status; None: not all are counted yet."""
        return self._counts if self._ahead is None else None

    def begin(self, held: Iterable[Changed], end_seq: int) -> None:
        """Begin with what memory holds newer than the bucket, which ends at ``end_seq``."""
        assert self._ahead is not None
        for record in held:
            self._count(record.data)
            self._ahead.add(record.connection_id.int)
        self._end_seq = end_seq

    def read(self, connection_id: UUID, status: ConnectionStatus, seq: int) -> None:
        """Know that a connection was read, which lies at ``seq`` of the bucket."""
        if (
            self._ahead is not None
            and seq >= self._next_seq
            and connection_id.int not in self._ahead
        ):
            self._counts[status] += 1
            self._ahead.add(connection_id.int)

    def changed(
        self, connection_id: UUID, before: ConnectionStatus | None, after: ConnectionStatus
    ) -> None:
        """Know that a connection was stored; ``before``: None where it is new."""
        if self._ahead is not None:
            self._ahead.add(connection_id.int)
        if before is not after:
            self._counts[after] += 1
            if before is not None:
                self._counts[before] -= 1

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
                self._count(kept.data)
            self._next_seq = kept.seq + 1
        if not page or self._next_seq > self._end_seq:
            self._ahead = None
        return self._ahead is not None

    def _count(self, data: bytes) -> None:
        """Count a record, unless it is counted; one that cannot be read has no status."""
        assert self._ahead is not None
        try:
            connection = _decoder.decode(data).connection
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            log.error("record_not_counted")
            return
        if connection.id.int not in self._ahead:
            self._counts[connection.status] += 1
