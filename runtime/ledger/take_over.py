"""How a daemon takes a partition: read its ledger to the end, build what the views lack, claim.

From the claim on the former owner's appends are refused. Then each view's marker is moved on by
one batch: its acknowledgement is the baseline that reads are held against, for a marker that
was only read may be stale itself.

Takes as long as the ledger's tail is, however many connections are stored.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio

from actors.ports import PartitionLostError
from runtime.ledger.due_index import DueIndex
from runtime.ledger.events_view import EventsView
from runtime.ledger.groups import (
    Group,
    GroupError,
    Kind,
    NewerGroupError,
    Owner,
    decode_group,
    encode_claim,
)
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.log_writer import LogWriter
from runtime.ledger.marked_view import MarkedView, MarkerError, ReplacedError
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import Found, PartitionStreams, View
from runtime.ledger.records_view import RecordsView
from runtime.ledger.room import Room
from runtime.ledger.streams import StreamsError
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

_ATTEMPTS = 20
_PAUSE_S = 0.2


class StillOwnedError(Exception):
    """The last owner has not given the partition away, and may live; the text names it."""


class _Stored(NamedTuple):
    """One message of the tail."""

    seq: int
    group: Group
    size_bytes: int


async def take_over(
    streams: PartitionStreams,
    *,
    partition: int,
    owner: Owner,
    prefix: str,
    tag: str,
    limits: LedgerLimits,
    record_bytes_max: int,
    room: Room,
    now_s: Callable[[], float],
    may_claim_from: Callable[[str], bool],
) -> PartitionLedger:
    """Return the partition's ledger, owned by ``owner``.

    Raises:
        StillOwnedError: ``may_claim_from`` says so of the last owner, by its id.
        LinkError, JetStreamError: The streams cannot be read or written.
        StreamsError: What they hold does not fit together, or is of a newer version.
        PartitionLostError: Others go on claiming it.
    """
    records_mark = MarkedView(streams, View.RECORDS)
    events_mark = MarkedView(streams, View.EVENTS)
    try:
        marks = (records_mark, events_mark)
        tail, writer = await _claimed(
            streams, marks, partition=partition, owner=owner, may_claim_from=may_claim_from
        )
    except (GroupError, MarkerError) as error:
        raise StreamsError(f"partition {partition}: {error}") from None
    _check(tail, writer, records_mark, events_mark, partition=partition)
    for mark in marks:
        mark.claimed(owner, writer.last_seq)
    records = RecordsView(
        records_mark,
        partition=partition,
        tag=tag,
        interval_s=limits.checkpoint_s,
        batch_messages_max=limits.batch_messages_max,
    )
    ledger = PartitionLedger(
        streams,
        writer,
        owner=owner,
        records=records,
        due=DueIndex(streams, records, now_s=now_s, limits=limits),
        events=EventsView(
            events_mark,
            partition=partition,
            prefix=prefix,
            gather_s=limits.events_gather_s,
            batch_events_max=limits.batch_messages_max,
        ),
        room=room,
        group_bytes_max=limits.group_bytes_max,
        record_bytes_max=record_bytes_max,
        read_timeout_s=limits.read_timeout_s,
    )
    for mark in marks:
        await _moved_on(mark)
    for seq, group, size_bytes in tail:
        ledger.replay(seq, group, size_bytes=size_bytes)
    ledger.statuses.begin(ledger.records.held, records_mark.seq)
    return ledger


def _group(found: Found) -> Group:
    """Return a message's group; one that somebody has written by hand is passed over.

    Raises:
        NewerGroupError: It is of a later version.
    """
    try:
        return decode_group(found.data)
    except NewerGroupError:
        raise
    except GroupError as error:
        log.error("ledger_message_unreadable", seq=found.seq, cause=str(error))
        return Group(kind=Kind.CLAIM, claim=b"", daemon="")


async def _claimed(
    streams: PartitionStreams,
    marks: Sequence[MarkedView],
    *,
    partition: int,
    owner: Owner,
    may_claim_from: Callable[[str], bool],
) -> tuple[list[_Stored], LogWriter]:
    """Read the ledger to its end and append the claim there; read on where somebody was faster.

    An owner that lives trims meanwhile what its views hold; so the markers are read last.
    """
    tail: list[_Stored] = []
    writer = LogWriter(streams, partition=partition, last_seq=0)
    for _ in range(_ATTEMPTS):
        first_seq, last_seq = await streams.bounds()
        if first_seq > writer.last_seq + 1:
            tail.clear()
            writer.last_seq = first_seq - 1
        if last_seq > writer.last_seq:
            await _read_on(streams, tail, writer, partition=partition)
        for mark in marks:
            await mark.load()
        last_owner = _last_owner(tail, marks[0])
        if last_owner is not None and not may_claim_from(last_owner):
            raise StillOwnedError(f"partition {partition} may still be {last_owner or 'another'}'s")
        claim = encode_claim(owner)
        try:
            seq = await writer.append(claim)
        except PartitionLostError:
            continue
        empty = Group(kind=Kind.CLAIM, claim=owner.claim, daemon=owner.daemon)
        tail.append(_Stored(seq, empty, len(claim)))
        return tail, writer
    raise PartitionLostError(f"partition {partition}: others go on claiming it")


def _last_owner(tail: Sequence[_Stored], mark: MarkedView) -> str | None:
    """Return who has claimed a partition and not given it away; empty: nobody knows its id."""
    if not tail:
        # All that it wrote is trimmed.
        return mark.written_by if mark.is_marked else None
    last = tail[-1].group
    return None if last.kind is Kind.RELEASE else last.daemon


async def _read_on(
    streams: PartitionStreams, tail: list[_Stored], writer: LogWriter, *, partition: int
) -> None:
    """Add what the ledger holds behind the tail; where it was trimmed the tail begins there."""
    async for found in streams.tail(writer.last_seq + 1):
        if found.seq != writer.last_seq + 1:
            first_seq, _ = await streams.bounds()
            if first_seq < found.seq:
                raise StreamsError(
                    f"partition {partition}: its ledger has a gap before {found.seq}"
                )
            tail.clear()
        tail.append(_Stored(found.seq, _group(found), len(found.data)))
        writer.last_seq = found.seq


def _check(
    tail: list[_Stored],
    writer: LogWriter,
    records: MarkedView,
    events: MarkedView,
    *,
    partition: int,
) -> None:
    """Refuse to go on where the ledger lacks what a view lacks, too: it would be lost silently."""
    first_seq = tail[0].seq
    if not events.is_marked:
        # It has aged out of the stream, and with it every event before it; or there is none yet.
        events.through = max(events.through, first_seq - 1)
    if not records.is_marked and first_seq > 1:
        raise StreamsError(
            f"partition {partition}: its bucket has no marker, but its ledger begins at "
            f"{first_seq}: restore both from the same moment"
        )
    for mark in (records, events):
        if not first_seq - 1 <= mark.through < writer.last_seq:
            raise StreamsError(
                f"partition {partition}: its {mark.view} view is complete through {mark.through}, "
                f"but its ledger holds {first_seq} to {writer.last_seq}: restore both from the "
                "same moment"
            )


async def _moved_on(mark: MarkedView) -> None:
    """Move a view's marker on by an empty batch."""
    for attempt in range(_ATTEMPTS):
        try:
            if await mark.write((), mark.through):
                return
        except (LinkError, JetStreamError):
            if attempt == _ATTEMPTS - 1:
                raise
            await anyio.sleep(_PAUSE_S)
        except ReplacedError as error:
            raise PartitionLostError(str(error)) from None
    raise PartitionLostError(f"the {mark.view} view's marker goes on moving")
