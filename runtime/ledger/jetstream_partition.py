"""A partition's streams on JetStream: appends, atomic batches, multi-gets."""

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from uuid import UUID

import anyio.lowlevel

from runtime.ledger.due_entries import KeptDue, decode_due, due_filter
from runtime.ledger.gathered_reads import GatheredReads
from runtime.ledger.partition_streams import DueRead, Found, Kept, Outgoing, Read, View
from runtime.ledger.subjects import (
    MARKER_KEY,
    bucket_stream,
    event_marker_subject,
    event_stream,
    ledger_stream,
    ledger_subject,
    record_key_subject,
)
from runtime.nats.direct_get import TooManyError, count_messages, last_messages, next_messages
from runtime.nats.errors import NoAnswerError
from runtime.nats.jetstream_api import (
    StoredMessage,
    last_message,
    message_at,
    purge_through,
    read_pub_ack,
    stream_info,
)
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream

EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"
EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
_SCAN_BYTES = 4 * 1024 * 1024
_SLICE = 64
"""How many messages of a batch go out before others have their turn."""


class JetStreamPartition:
    """Implements ``runtime.ledger.partition_streams.PartitionStreams``."""

    def __init__(
        self, link: NatsLink, partition: int, *, tag: str, answer_timeout_s: float
    ) -> None:
        """Use streams that ``runtime.ledger.streams`` has made and checked."""
        self._link = link
        self._ledger = ledger_stream(partition, tag)
        self._ledger_subject = ledger_subject(partition, tag)
        self._partition = partition
        self._tag = tag
        self._bucket = bucket_stream(partition, tag)
        self._keys_begin = len(record_key_subject(partition, "", tag))
        self._events = event_stream(tag)
        self._marker_subjects = {
            View.RECORDS: record_key_subject(partition, MARKER_KEY, tag),
            View.EVENTS: event_marker_subject(partition, tag),
        }
        self._answer_timeout_s = answer_timeout_s
        self._reads = GatheredReads(self._last_messages)
        # Whatever answers are allowed to: nobody has us append his.
        link.replies.forbid(self._ledger_subject, self._marker_subjects[View.EVENTS])

    async def append(self, data: bytes, *, expected_seq: int) -> int:
        """See ``PartitionStreams``."""
        answer = await self._link.request(
            self._ledger_subject,
            data,
            headers={EXPECTED_SEQUENCE: str(expected_seq)},
            timeout_s=self._answer_timeout_s,
        )
        return read_pub_ack(answer).seq

    async def group_at(self, seq: int) -> bytes | None:
        """See ``PartitionStreams``."""
        message = await message_at(self._link, self._ledger, seq, timeout_s=self._answer_timeout_s)
        return None if message is None else message.data

    async def bounds(self) -> tuple[int, int]:
        """See ``PartitionStreams``."""
        info = await stream_info(self._link, self._ledger)
        if info is None:
            raise NoAnswerError(f"stream {self._ledger} is gone")
        return max(info.state.first_seq, 1), info.state.last_seq

    async def tail(self, start_seq: int) -> AsyncIterator[Found]:
        """See ``PartitionStreams``."""
        async for message in read_stream(self._link, self._ledger, start_seq=start_seq):
            yield Found(message.sequence, message.data)

    async def trim(self, through_seq: int) -> None:
        """See ``PartitionStreams``."""
        await purge_through(self._link, self._ledger, through_seq, timeout_s=self._answer_timeout_s)

    async def marker(self, view: View) -> Found | None:
        """See ``PartitionStreams``."""
        stream = self._bucket if view is View.RECORDS else self._events
        message = await last_message(
            self._link, stream, self._marker_subjects[view], timeout_s=self._answer_timeout_s
        )
        return None if message is None else Found(message.seq, message.data)

    async def write(
        self, view: View, messages: Sequence[Outgoing], marker: bytes, *, expected_seq: int
    ) -> int:
        """See ``PartitionStreams``; one message alone needs no batch (ADR-50)."""
        headers = {EXPECTED_SUBJECT_SEQUENCE: str(expected_seq)}
        if view is View.EVENTS:
            # A bucket keeps one message a key anyway.
            headers["Nats-Rollup"] = "sub"
        if messages:
            batch_id = uuid.uuid4().hex
            for start in range(0, len(messages), _SLICE):
                self._link.publish_batch(
                    (message.subject, _block(message, batch_id, number), message.body)
                    for number, message in enumerate(messages[start : start + _SLICE], start + 1)
                )
                await anyio.lowlevel.checkpoint()
            headers["Nats-Batch-Id"] = batch_id
            headers["Nats-Batch-Sequence"] = str(len(messages) + 1)
            headers["Nats-Batch-Commit"] = "1"
        answer = await self._link.request(
            self._marker_subjects[view], marker, headers=headers, timeout_s=self._answer_timeout_s
        )
        return read_pub_ack(answer).seq

    async def read(self, connection_id: UUID, *, timeout_s: float) -> Read:
        """See ``PartitionStreams``."""
        marker = self._marker_subjects[View.RECORDS]
        record = record_key_subject(self._partition, str(connection_id), self._tag)
        found = await self._reads.read(record, timeout_s=timeout_s)
        marked, stored = found.get(marker), found.get(record)
        # A marker without a value is what is left where an operator deleted the key by hand.
        data = stored.data or None if stored is not None else None
        return Read(0 if marked is None else marked.seq, data, 0 if stored is None else stored.seq)

    async def _last_messages(
        self, records: Sequence[str], timeout_s: float
    ) -> dict[str, StoredMessage]:
        marker = self._marker_subjects[View.RECORDS]
        return await last_messages(
            self._link, self._bucket, (*records, marker), timeout_s=timeout_s
        )

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """See ``PartitionStreams``."""
        found = await next_messages(
            self._link,
            self._bucket,
            start_seq=start_seq,
            messages_max=messages_max,
            bytes_max=_SCAN_BYTES,
            timeout_s=timeout_s,
        )
        return [Kept(message.seq, self._key_of(message), message.data) for message in found]

    async def due(self, minutes: Sequence[int], *, timeout_s: float) -> DueRead | None:
        """See ``PartitionStreams``."""
        marker = self._marker_subjects[View.RECORDS]
        filters = [self._due_subject(minute) for minute in minutes]
        try:
            found = await last_messages(
                self._link, self._bucket, (*filters, marker), timeout_s=timeout_s
            )
        except TooManyError:
            return None
        marked = found.pop(marker, None)
        return DueRead(0 if marked is None else marked.seq, self._kept_due(found.values()))

    async def due_from(
        self, minute: int, start_seq: int, *, entries_max: int, timeout_s: float
    ) -> Sequence[KeptDue]:
        """See ``PartitionStreams``."""
        found = await next_messages(
            self._link,
            self._bucket,
            start_seq=start_seq,
            messages_max=entries_max,
            bytes_max=_SCAN_BYTES,
            timeout_s=timeout_s,
            subject=self._due_subject(minute),
        )
        return self._kept_due(found)

    async def count_due(self, minute: int, *, timeout_s: float) -> int:
        """See ``PartitionStreams``."""
        subject = self._due_subject(minute)
        return await count_messages(self._link, self._bucket, subject, timeout_s=timeout_s)

    async def purge_due(self, minute: int, through_seq: int) -> None:
        """See ``PartitionStreams``."""
        await purge_through(
            self._link,
            self._bucket,
            through_seq,
            subject=self._due_subject(minute),
            timeout_s=self._answer_timeout_s,
        )

    def _due_subject(self, minute: int) -> str:
        return record_key_subject(self._partition, due_filter(minute), self._tag)

    def _key_of(self, message: StoredMessage) -> str:
        return message.subject[self._keys_begin :]

    def _kept_due(self, found: Iterable[StoredMessage]) -> list[KeptDue]:
        kept = (decode_due(one.seq, self._key_of(one), one.data) for one in found)
        return [one for one in kept if one is not None]


def _block(message: Outgoing, batch_id: str, number: int) -> bytes:
    """Return the headers of one message of a batch, as they go over the wire (ADR-4, ADR-50)."""
    return (
        f"NATS/1.0\r\nNats-Batch-Id: {batch_id}\r\nNats-Batch-Sequence: {number}\r\n"
        f"{message.header_lines}\r\n"
    ).encode()
