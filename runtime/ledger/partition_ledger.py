"""One partition's ledger as the actors see it: the log, its views, and reads of what is stored."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import anyio

from actors.entry import Entry
from actors.ports import PartitionLostError, RecordUnreadableError, Stored, StoreUnavailableError
from domain.connection import ProviderConnection
from domain.events import Event
from domain.looks import epoch_s
from domain.record import Record, RecordError, decode_record, encode_record
from runtime.ledger.due_entries import DueEntry, due_of
from runtime.ledger.due_index import DueIndex
from runtime.ledger.events_view import EventsView
from runtime.ledger.groups import (
    Group,
    GroupError,
    Owner,
    decode_group,
    encode_entry,
    encode_group,
    encode_release,
)
from runtime.ledger.log_writer import LogWriter
from runtime.ledger.partition_streams import Kept, PartitionStreams
from runtime.ledger.records_view import Changed, RecordsView
from runtime.ledger.room import Room
from runtime.ledger.scanning import scan_proven
from runtime.ledger.status_count import StatusCount
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

EVENTS_PER_GROUP_MAX = 900
"""A batch of the event stream holds whole groups, and a server takes at most 1,000 messages."""
ENTRIES_PER_GROUP_MAX = 1_000
_READ_PAUSE_S = 0.05
_EVENT_BYTES = 600
"""What an event takes in memory besides its group's bytes, about."""


class RecordTooLargeError(Exception):
    """A record is over ``record_bytes_max``."""


class Added(NamedTuple):
    """One entry of the group that is being made."""

    connection_id: UUID
    record: bytes | None
    events: Sequence[Event]
    encoded: bytes
    due: DueEntry | None
    is_due_new: bool
    before: ProviderConnection | None
    after: ProviderConnection | None
    """None where nothing changed."""


class PartitionLedger:
    """Implements ``actors.ports.Ledger``; the views' ``run`` must be running."""

    def __init__(
        self,
        streams: PartitionStreams,
        writer: LogWriter,
        *,
        owner: Owner,
        records: RecordsView,
        events: EventsView,
        due: DueIndex,
        room: Room,
        group_bytes_max: int,
        record_bytes_max: int,
        read_timeout_s: float,
    ) -> None:
        """Own a partition that ``runtime.ledger.take_over`` has claimed."""
        self.writer = writer
        self.records = records
        self.events = events
        self.due = due
        self._streams = streams
        self._owner = owner
        self._room = room
        self._group_bytes_max = group_bytes_max
        self._record_bytes_max = record_bytes_max
        self._read_timeout_s = read_timeout_s
        self._adding: list[Added] = []
        self._adding_bytes = self._adding_events = self._groups = 0
        self._held: deque[tuple[int, int]] = deque()
        """The groups that not every view holds, and what they take."""
        self.trimmed_seq = 0
        self.claim_seq = writer.last_seq
        """Where its claim is: of two who claim it the later one is right."""
        self.statuses = StatusCount(room.names)
        records.moved = events.moved = self._release

    @property
    def has_room(self) -> bool:
        """See ``Ledger.has_room``."""
        return self._room.bytes < self._room.bytes_max

    @property
    def settled_seq(self) -> int:
        """Up to which sequence every view is complete."""
        return min(self.records.mark.through, self.events.mark.through)

    def add(self, entry: Entry) -> bool:
        """See ``Ledger.add``.

        Raises:
            RecordTooLargeError: The bucket could never hold it, and would hold all others up.
        """
        record = None
        if entry.connection is not None:
            record = encode_record(
                Record(
                    seq=self.writer.last_seq + 1,
                    connection=entry.connection,
                    answers=entry.answers,
                    next_due=None if entry.look is None else entry.look.at,
                )
            )
            if len(record) > self._record_bytes_max:
                raise RecordTooLargeError
        encoded = encode_entry(entry.connection_id, record, entry.events)
        if self._adding and (
            self._adding_bytes + len(encoded) > self._group_bytes_max
            or self._adding_events + len(entry.events) > EVENTS_PER_GROUP_MAX
            or len(self._adding) >= ENTRIES_PER_GROUP_MAX
        ):
            return False
        self._adding.append(
            Added(
                entry.connection_id,
                record,
                entry.events,
                encoded,
                _due_entry(entry),
                entry.is_look_new,
                entry.before,
                entry.connection,
            )
        )
        self._adding_bytes += len(encoded)
        self._adding_events += len(entry.events)
        return True

    async def append(self) -> None:
        """See ``Ledger.append``."""
        group, self._adding = self._adding, []
        self._adding_bytes = self._adding_events = 0
        self._groups += 1
        data = encode_group(self._owner, self._groups, [one.encoded for one in group])
        seq = await self.writer.append(data)
        events = [event for one in group for event in one.events]
        changed = [
            Changed(one.connection_id, one.record, one.due, one.is_due_new)
            for one in group
            if one.record is not None
        ]
        self._follow(seq, changed, events, daemon=self._owner.daemon, size_bytes=len(data))
        for one in group:
            if one.after is not None:
                self.statuses.changed(one.before, one.after)

    async def release(self) -> None:
        """Give the partition away: whoever reads that need not wait. Nothing may be under way.

        Raises:
            PartitionLostError: Another daemon has taken it already.
        """
        self._groups += 1
        await self.writer.append(encode_release(self._owner, self._groups))

    def forget_held(self) -> None:
        """Take no room any more."""
        self._room.bytes -= sum(size_bytes for _, size_bytes in self._held)
        self._held.clear()

    def replay(self, seq: int, group: Group, *, size_bytes: int) -> None:
        """Take over what an earlier owner has stored, as far as a view lacks it."""
        events = [event for one in group.entries for event in one.events]
        changed = [
            Changed(one.connection_id, one.record, due_of(one.connection_id, one.record))
            for one in group.entries
            if one.record
        ]
        self._follow(seq, changed, events, daemon=group.daemon, size_bytes=size_bytes)

    def recall(self, connection_id: UUID) -> Stored | None:
        """See ``Ledger.recall``: what the bucket may lack is in memory."""
        record = self.records.recall(connection_id)
        return None if record is None else _stored(connection_id, record)

    async def read(self, connection_id: UUID) -> Stored:
        """See ``Ledger.read``.

        One multi-get of the record and the marker, from any replica; it counts only if the
        marker is at least the one of our last acknowledged batch.
        """
        until_s = anyio.current_time() + self._read_timeout_s
        while True:
            stored = self.recall(connection_id)
            if stored is not None:
                return stored
            left_s = until_s - anyio.current_time()
            try:
                read = await self._streams.read(connection_id, timeout_s=max(left_s, 0.01))
            except (LinkError, JetStreamError) as error:
                cause = str(error)
            else:
                if read.marker_seq >= self.records.mark.seq:
                    stored = _stored(connection_id, read.record)
                    if stored.connection is not None:
                        self.statuses.read(stored.connection, read.record_seq)
                    return stored
                cause = "the answer is not fresh"
            if left_s <= _READ_PAUSE_S:
                raise StoreUnavailableError(cause)
            await anyio.sleep(_READ_PAUSE_S)

    async def scan(self, start_seq: int, *, messages_max: int) -> Sequence[Kept]:
        """Return what the bucket holds from ``start_seq`` on, in the order of the last writes.

        Nothing is proof that every checkpoint that was acknowledged lies before ``start_seq``.

        Raises:
            LinkError: No answer.
        """
        return await scan_proven(
            self._streams,
            start_seq,
            marker_seq=self.records.mark.seq,
            messages_max=messages_max,
            timeout_s=self._read_timeout_s,
        )

    async def look_at_owner(self) -> None:
        """Notice another owner's claim without a write of ours, and what a trim has not removed.

        One request where there is nothing.

        Raises:
            PartitionLostError: Another daemon has appended.
            LinkError, JetStreamError: It cannot be told now.
        """
        first_seq, last_seq = await self._streams.bounds()
        # What was trimmed just before a server was killed may be back.
        self.trimmed_seq = min(self.trimmed_seq, first_seq - 1)
        seq = self.writer.last_seq + 1
        if last_seq < seq:
            return
        found = await self._streams.group_at(seq)
        if found is None and first_seq <= seq:
            # Trimmed meanwhile, or one has answered that lags behind the other: look again.
            return
        if self.writer.last_seq < seq and not _is_of(self._owner, found):
            raise PartitionLostError(
                f"partition {self.records.partition} is lost: another daemon writes its ledger"
            )

    async def trim(self) -> None:
        """Remove from the ledger what every view holds.

        Raises:
            LinkError, JetStreamError: Not removed, or not known: call again.
        """
        seq = self.settled_seq
        if seq > self.trimmed_seq:
            await self._streams.trim(seq)
            self.trimmed_seq = seq

    def _follow(
        self,
        seq: int,
        changed: Sequence[Changed],
        events: Sequence[Event],
        *,
        daemon: str,
        size_bytes: int,
    ) -> None:
        held_bytes = size_bytes + _EVENT_BYTES * len(events)
        self._held.append((seq, held_bytes))
        self._room.bytes += held_bytes
        if seq > self.records.mark.through:
            self.records.follow(seq, changed)
        if seq > self.events.mark.through:
            self.events.follow(seq, events, daemon)
        self._release()

    def _release(self) -> None:
        """Count as free what every view holds."""
        seq = self.settled_seq
        while self._held and self._held[0][0] <= seq:
            self._room.bytes -= self._held.popleft()[1]


def _is_of(owner: Owner, found: bytes | None) -> bool:
    """Whether a message of the ledger is an owner's; one that is gone another has trimmed."""
    try:
        return found is not None and decode_group(found).claim == owner.claim
    except GroupError:
        return False


def _stored(connection_id: UUID, data: bytes | None) -> Stored:
    """Return what a record says.

    Raises:
        RecordUnreadableError: It cannot be trusted.
    """
    if data is None:
        return Stored(None)
    try:
        record = decode_record(data)
    except RecordError as error:
        log.error("record_unreadable", connection_id=str(connection_id), cause=str(error))
        raise RecordUnreadableError("the record cannot be read") from None
    if record.connection.id != connection_id:
        log.error("record_misplaced", connection_id=str(connection_id))
        raise RecordUnreadableError("the record is another connection's")
    return Stored(record.connection, record.answers, record.next_due)


def _due_entry(entry: Entry) -> DueEntry | None:
    """Return when an entry's connection is to be looked at next."""
    look, connection = entry.look, entry.connection
    if look is None or connection is None:
        return None
    at_s, urgent_s = epoch_s(look.at), epoch_s(look.urgent_at)
    return DueEntry(entry.connection_id, at_s, urgent_s, connection.provider_slug)
