"""A read carries the proof that it is fresh; and what was replaced does not linger."""

from uuid import UUID

import pytest

from actors.ports import RecordUnreadableError, Stored, StoreUnavailableError
from domain.record import Record, encode_record
from runtime.ledger.partition_streams import View
from runtime.ledger.records_view import Changed
from runtime.ledger.subjects import MARKER_KEY
from runtime.world import Uuid7Ids
from tests.fakes.connections import active, pending
from tests.fakes.faulty_streams import Fate
from tests.fakes.ledger_worlds import (
    LedgerWorld,
    caught_up,
    entry_of,
    followed,
    store,
    store_refreshes,
    taken,
)

ids = Uuid7Ids()


async def generation_of(ledger: object, connection_id: UUID) -> int | None:
    stored = await ledger.read(connection_id)  # type: ignore[attr-defined]
    return stored.connection and stored.connection.generation


async def test_what_nobody_ever_stored_reads_as_nothing(world: LedgerWorld) -> None:
    ledger = await taken(world.streams())

    assert await ledger.read(next(ids)) == Stored(None)


async def test_what_the_bucket_lacks_is_read_from_memory(world: LedgerWorld) -> None:
    ledger, one = await taken(world.streams()), next(ids)
    await store_refreshes(ledger, one, first=1, last=2)

    assert await generation_of(ledger, one) == 2
    assert ledger.recall(one) == Stored(active(one, generation=2))


async def test_a_stale_replica_is_asked_again_and_never_believed(world: LedgerWorld) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=3)
        await caught_up(ledger)
    streams.stale_reads = 2
    assert await generation_of(ledger, one) == 3

    streams.stale_reads = 1_000
    with pytest.raises(StoreUnavailableError, match="not fresh") as refused:
        await ledger.read(one)
    assert not isinstance(refused.value, RecordUnreadableError)


@pytest.mark.parametrize("is_checkpointed", [False, True])
async def test_a_record_that_cannot_be_trusted_is_told_from_one_that_cannot_be_read_now(
    world: LedgerWorld, *, is_checkpointed: bool
) -> None:
    ledger, damaged, misplaced = await taken(world.streams()), next(ids), next(ids)
    other = encode_record(Record(connection=active(next(ids))))
    ledger.records.follow(
        ledger.writer.last_seq, [Changed(damaged, b"\xc1"), Changed(misplaced, other)]
    )
    if is_checkpointed:
        await ledger.records.advance()

    with pytest.raises(RecordUnreadableError, match="cannot be read"):
        await ledger.read(damaged)
    with pytest.raises(RecordUnreadableError, match="another connection's"):
        await ledger.read(misplaced)


async def test_a_scan_goes_through_the_bucket_in_the_order_of_the_last_writes(
    world: LedgerWorld,
) -> None:
    ledger, some = await taken(world.streams()), [next(ids) for _ in range(5)]
    for one in some:
        await store(ledger, entry_of(active(one)))
        await ledger.records.advance()
    await store(ledger, entry_of(active(some[1], generation=2)))
    await ledger.records.advance()
    found: list[str] = []
    start_seq = 1

    while kept := await ledger.scan(start_seq, messages_max=2):
        assert len(kept) <= 2
        assert [one.seq for one in kept] == sorted(one.seq for one in kept)
        start_seq = kept[-1].seq + 1
        found += [one.key for one in kept]

    order = [some[0], *some[2:], some[1]]
    assert found == [*map(str, order), MARKER_KEY]
    assert start_seq > ledger.records.mark.seq


async def test_a_scan_does_not_end_where_a_replica_lacks_the_last_checkpoint(
    world: LedgerWorld,
) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store(ledger, entry_of(active(one)))
    await ledger.records.advance()
    streams.stale_reads = 2

    kept = await ledger.scan(1, messages_max=10)

    assert str(one) in [each.key for each in kept]
    assert streams.stale_reads == 0


async def test_a_checkpoint_that_was_applied_unheard_is_read_all_the_same(
    world: LedgerWorld,
) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=3)
    streams.view_fates[View.RECORDS].append(Fate.ANSWER_LOST)
    async with followed(ledger):
        await caught_up(ledger)

        assert ledger.recall(one) is None
        assert await generation_of(ledger, one) == 3


async def test_a_replaced_secret_is_in_no_message_once_the_views_have_caught_up(
    world: LedgerWorld,
) -> None:
    ledger, one, other = await taken(world.streams()), next(ids), next(ids)
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=5)
        await store_refreshes(ledger, other, first=7, last=7)
        await store(ledger, entry_of(pending(other)))
        assert any(b"000003" in data for data in await world.messages())
        await caught_up(ledger)
        await ledger.trim()

        messages = await world.messages()

    assert not any(b"00000%d" % gone in data for data in messages for gone in (1, 2, 3, 4, 7))
    assert any(b"000005" in data for data in messages)
    assert await generation_of(ledger, one) == 5


async def test_a_trim_takes_nothing_that_a_view_lacks(world: LedgerWorld) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=3)
    await ledger.records.advance()
    await ledger.trim()

    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await caught_up(second)

    assert len(await world.events(one)) == 6
