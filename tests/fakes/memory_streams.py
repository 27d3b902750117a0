"""A partition's streams in memory, as a server keeps them: for the ledger's contract suite."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import anyio.lowlevel

from runtime.ledger.due_entries import KeptDue, decode_due, is_due_key
from runtime.ledger.partition_streams import DueRead, Found, Kept, Outgoing, Read, View
from runtime.ledger.subjects import MARKER_KEY, NO_TAG, record_key_subject
from runtime.nats.jetstream_api import ApiErrorBody, JetStreamError

WRONG_SEQUENCE = 10071
DUPLICATE_IN_BATCH = 10201
ANSWERS_MAX = 1024
"""How many messages a server puts into one answer."""


def refusal(err_code: int) -> JetStreamError:
    """Return the error by which JetStream refuses a message."""
    return JetStreamError(ApiErrorBody(code=400, err_code=err_code, description="for a test"))


class MemoryStreams:
    """Implements ``runtime.ledger.partition_streams.PartitionStreams``; any number may use it."""

    def __init__(self, partition: int = 0) -> None:
        """Start with empty streams."""
        self._partition = partition
        self._groups: dict[int, bytes] = {}
        self._last_seq = 0
        self._view_seq = {View.RECORDS: 0, View.EVENTS: 0}
        self._markers: dict[View, Found] = {}
        self.records: dict[str, Found] = {}
        """The bucket, by subject."""
        self.events: list[Outgoing] = []
        self.known_ids: set[str] = set()
        """The message ids within the duplicate window."""

    async def append(self, data: bytes, *, expected_seq: int) -> int:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        if expected_seq != self._last_seq:
            raise refusal(WRONG_SEQUENCE)
        self._last_seq += 1
        self._groups[self._last_seq] = data
        return self._last_seq

    async def group_at(self, seq: int) -> bytes | None:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        return self._groups.get(seq)

    async def bounds(self) -> tuple[int, int]:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        return min(self._groups, default=self._last_seq + 1), self._last_seq

    async def tail(self, start_seq: int) -> AsyncIterator[Found]:
        """See ``PartitionStreams``."""
        for seq, data in sorted(self._groups.items()):
            await anyio.lowlevel.checkpoint()
            if seq >= start_seq:
                yield Found(seq, data)

    async def trim(self, through_seq: int) -> None:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        self._groups = {seq: data for seq, data in self._groups.items() if seq > through_seq}

    def bring_back(self, groups: dict[int, bytes]) -> None:
        """Have groups again that were trimmed, as a server does that was killed just after."""
        self._groups |= groups

    @property
    def groups(self) -> dict[int, bytes]:
        """What the ledger holds, by sequence."""
        return dict(self._groups)

    async def marker(self, view: View) -> Found | None:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        return self._markers.get(view)

    async def write(
        self, view: View, messages: Sequence[Outgoing], marker: bytes, *, expected_seq: int
    ) -> int:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        found = self._markers.get(view)
        if expected_seq != (0 if found is None else found.seq):
            raise refusal(WRONG_SEQUENCE)
        ids = {line for message in messages for line in message.header_lines.split("\r\n")[:1]}
        ids -= {""}
        if ids & self.known_ids:
            raise refusal(DUPLICATE_IN_BATCH)
        self.known_ids |= ids
        for message in messages:
            self._view_seq[view] += 1
            if view is View.EVENTS:
                self.events.append(message)
            else:
                self.records[message.subject] = Found(self._view_seq[view], message.body)
        self._view_seq[view] += 1
        self._markers[view] = Found(self._view_seq[view], marker)
        return self._view_seq[view]

    async def read(self, connection_id: UUID, *, timeout_s: float) -> Read:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        marker = self._markers.get(View.RECORDS)
        record = self.records.get(record_key_subject(self._partition, str(connection_id), NO_TAG))
        marker_seq = 0 if marker is None else marker.seq
        return (
            Read(marker_seq, None) if record is None else Read(marker_seq, record.data, record.seq)
        )

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        kept = [Kept(found.seq, self._key(one), found.data) for one, found in self.records.items()]
        marker = self._markers.get(View.RECORDS)
        if marker is not None:
            kept.append(Kept(marker.seq, MARKER_KEY, marker.data))
        return sorted(one for one in kept if one.seq >= start_seq)[:messages_max]

    async def due(self, minutes: Sequence[int], *, timeout_s: float) -> DueRead | None:
        """See ``PartitionStreams``; as many as a server puts into one answer."""
        await anyio.lowlevel.checkpoint()
        marker = self._markers.get(View.RECORDS)
        kept = [one for one in self._kept_due() if one.minute in minutes]
        if len(kept) + (marker is not None) > ANSWERS_MAX:
            return None
        return DueRead(0 if marker is None else marker.seq, kept)

    async def due_from(
        self, minute: int, start_seq: int, *, entries_max: int, timeout_s: float
    ) -> Sequence[KeptDue]:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        kept = [one for one in self._kept_due() if one.minute == minute and one.seq >= start_seq]
        return kept[:entries_max]

    async def count_due(self, minute: int, *, timeout_s: float) -> int:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        return sum(one.minute == minute for one in self._kept_due())

    async def purge_due(self, minute: int, through_seq: int) -> None:
        """See ``PartitionStreams``."""
        await anyio.lowlevel.checkpoint()
        gone = {one.seq for one in self._kept_due() if one.minute == minute}
        self.records = {
            subject: found
            for subject, found in self.records.items()
            if found.seq not in gone or found.seq > through_seq
        }

    def _kept_due(self) -> list[KeptDue]:
        kept = (
            decode_due(found.seq, self._key(subject), found.data)
            for subject, found in self.records.items()
            if is_due_key(self._key(subject))
        )
        return sorted(one for one in kept if one is not None)

    def _key(self, subject: str) -> str:
        return subject.removeprefix(record_key_subject(self._partition, "", NO_TAG))

    def forget_marker(self, view: View) -> None:
        """Let a marker age out of its stream."""
        self._markers.pop(view, None)
