"""The due index in a bucket: what is written with records is found by its minutes, and purged."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.looks import Look, minute_of
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import PartitionStreams
from runtime.ledger.subjects import is_record_key
from runtime.world import Uuid7Ids
from tests.fakes.connections import active
from tests.fakes.ledger_worlds import LedgerWorld, entry_of, store, taken

pytestmark = pytest.mark.anyio
ids = Uuid7Ids()
AT = datetime.fromtimestamp(time.time() // 60 * 60 + 3600, UTC)
"""In an hour, at the beginning of a minute."""
MINUTE = minute_of(AT)


async def stored(ledger: PartitionLedger, *looks: datetime) -> list[UUID]:
    """Store a connection for each look, checkpointed; return their ids."""
    entries = [entry_of(active(next(ids))) for _ in looks]
    for entry, at in zip(entries, looks, strict=True):
        entry.look, entry.is_look_new = Look(at, at - timedelta(hours=1)), True
    await store(ledger, *entries)
    await ledger.records.advance()
    return [entry.connection_id for entry in entries]


async def found(streams: PartitionStreams, *minutes: int) -> list[UUID]:
    """Return whose entries there are, in the order of their ids."""
    read = await streams.due(minutes, timeout_s=5)
    assert read is not None
    return sorted(kept.entry.connection_id for kept in read.kept)


async def test_entries_are_found_by_their_minutes_with_what_they_say(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    looks = [AT + timedelta(seconds=second) for second in (1.5, 59, 60, 300)]
    one, two, three, _ = await stored(ledger, *looks)

    assert await found(streams, MINUTE) == sorted([one, two])
    assert await found(streams, MINUTE, MINUTE + 1, MINUTE + 2) == sorted([one, two, three])
    assert await found(streams, MINUTE - 1) == []
    read = await streams.due([MINUTE], timeout_s=5)
    assert read is not None
    assert read.marker_seq == ledger.records.mark.seq
    (entry,) = [kept.entry for kept in read.kept if kept.entry.connection_id == one]
    began_s = looks[0].timestamp()
    assert entry == (one, began_s, began_s - 3600, active(one).provider_slug)


async def test_a_minute_that_one_answer_does_not_hold_is_read_in_pages(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    connections: list[UUID] = []
    for _ in range(4):
        connections += await stored(ledger, *[AT] * 300)

    assert await streams.due([MINUTE - 1, MINUTE], timeout_s=5) is None
    pages: list[UUID] = []
    start_seq = 1
    while page := await streams.due_from(MINUTE, start_seq, entries_max=500, timeout_s=5):
        assert len(page) <= 500
        pages += [kept.entry.connection_id for kept in page]
        start_seq = page[-1].seq + 1
    assert sorted(pages) == sorted(connections)


async def test_a_purge_takes_what_was_seen_of_its_minute_and_nothing_else(
    world: LedgerWorld,
) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    await stored(ledger, AT, AT)
    seen_seq = ledger.records.mark.seq
    later, other = await stored(ledger, AT, AT + timedelta(minutes=1))

    await streams.purge_due(MINUTE, seen_seq)
    await streams.purge_due(MINUTE, seen_seq)

    assert await found(streams, MINUTE, MINUTE + 1) == sorted([later, other])
    for one in (later, other):
        assert (await ledger.read(one)).connection == active(one)


async def test_what_is_stored_again_for_the_same_minute_has_one_entry(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    (one,) = await stored(ledger, AT)
    for second in (10, 20):
        entry = entry_of(active(one, generation=second))
        entry.look = Look(AT + timedelta(seconds=second), AT)
        entry.is_look_new = second == 20
        await store(ledger, entry)
        await ledger.records.advance()

    read = await streams.due([MINUTE], timeout_s=5)

    assert read is not None
    (kept,) = read.kept
    assert kept.entry.at_s == AT.timestamp() + 20
    assert (await ledger.read(one)).next_due == AT + timedelta(seconds=20)


async def test_a_scan_tells_entries_from_records(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    connections = await stored(ledger, AT, AT)

    kept = await ledger.scan(1, messages_max=100)

    assert [one.key for one in kept if is_record_key(one.key)] == [str(one) for one in connections]
    assert len(kept) == 5


async def test_entries_and_records_reach_the_bucket_together_or_not_at_all(
    world: LedgerWorld,
) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    entry = entry_of(active(next(ids)))
    entry.look, entry.is_look_new = Look(AT, AT), True
    await store(ledger, entry)
    another = await taken(world.streams(), daemon="d-2")

    assert await found(streams, MINUTE) == []
    await another.records.advance()

    assert await found(streams, MINUTE) == [entry.connection_id]


async def test_nothing_is_written_under_a_minute_that_is_closed(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams, now_s=lambda: (MINUTE + 5) * 60.0)
    ledger.records.first_minute = MINUTE + 5

    one, two = await stored(ledger, AT, AT + timedelta(minutes=6))

    assert await found(streams, *range(MINUTE, MINUTE + 5)) == []
    assert await found(streams, MINUTE + 5) == [one]
    assert await found(streams, MINUTE + 6) == [two]
