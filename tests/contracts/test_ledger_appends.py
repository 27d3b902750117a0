"""What an append's answer means: stored once, the same bytes again, or the partition is lost."""

from itertools import product

import anyio
import anyio.lowlevel
import pytest

from actors.ports import PartitionLostError
from domain.connection import ProviderConnection
from domain.record import decode_record
from runtime.ledger.groups import decode_group
from runtime.ledger.partition_ledger import PartitionLedger, RecordTooLargeError
from runtime.world import Uuid7Ids
from tests.fakes.connections import active, refresh_events
from tests.fakes.faulty_streams import Fate, FaultyStreams
from tests.fakes.ledger_worlds import (
    LedgerWorld,
    entry_of,
    store,
    taken,
)

ids = Uuid7Ids()
UNTIL_KNOWN = [fate for fate in Fate if fate is not Fate.PASSES]


async def stored(streams: FaultyStreams) -> list[ProviderConnection]:
    """Return the connections of every entry in the ledger, in order."""
    groups = [decode_group(found.data) async for found in streams.streams.tail(1)]
    return [
        decode_record(entry.record).connection
        for group in groups
        for entry in group.entries
        if entry.record is not None
    ]


async def append(ledger: PartitionLedger, *connections: ProviderConnection) -> int:
    return await store(ledger, *(entry_of(one) for one in connections))


async def test_an_acknowledged_group_is_one_message_behind_the_claim(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    first, second = active(next(ids)), active(next(ids))

    seq = await append(ledger, first, second)

    assert seq == 2
    assert await stored(streams) == [first, second]
    assert len(streams.appended) == 2


async def test_an_entry_holds_record_events_and_the_sequence_it_is_as_of(
    world: LedgerWorld,
) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    connection = active(next(ids))
    events = refresh_events(connection.id, 2)

    seq = await store(ledger, entry_of(connection, events))

    data = await streams.group_at(seq)
    assert data is not None
    (entry,) = decode_group(data).entries
    assert list(entry.events) == events
    kept = await ledger.read(connection.id)
    assert kept.connection == connection


@pytest.mark.parametrize(
    "fates",
    [
        *product(UNTIL_KNOWN),
        *((Fate.ANSWER_LOST, fate) for fate in UNTIL_KNOWN),
        *((fate, Fate.ANSWER_LOST) for fate in UNTIL_KNOWN[1:]),
    ],
    ids=str,
)
async def test_whatever_is_not_known_is_repeated_until_it_is_stored_once(
    fates: tuple[Fate, ...], world: LedgerWorld
) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    connections = [active(next(ids)) for _ in range(3)]
    streams.append_fates.extend(fates)

    for one in connections:
        await append(ledger, one)

    assert await stored(streams) == connections
    first_copies = streams.appended[1 : len(streams.appended) - 2]
    assert len(set(first_copies)) == 1


async def test_another_ones_append_in_between_loses_the_partition_and_nothing_acknowledged(
    world: LedgerWorld,
) -> None:
    streams, strangers = world.streams(), world.streams()
    ledger = await taken(streams)
    kept = active(next(ids))
    await append(ledger, kept)

    async def stranger() -> None:
        await taken(strangers, daemon="d-2")

    streams.before_append = stranger
    with pytest.raises(PartitionLostError) as lost:
        await append(ledger, active(next(ids)))

    assert "\n" not in str(lost.value)
    assert await stored(streams) == [kept]


async def test_an_append_that_was_applied_unheard_before_the_stranger_came_is_stored(
    world: LedgerWorld,
) -> None:
    streams, strangers = world.streams(), world.streams()
    ledger = await taken(streams)
    streams.append_fates.extend([Fate.ANSWER_LOST])
    ours = active(next(ids))
    ledger.add(entry_of(ours))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.append)
        while await streams.streams.group_at(2) is None:
            await anyio.lowlevel.checkpoint()
        await taken(strangers, daemon="d-2")

    assert await stored(streams) == [ours]
    with pytest.raises(PartitionLostError):
        await append(ledger, active(next(ids)))


async def test_a_ledger_that_others_have_trimmed_is_lost(world: LedgerWorld) -> None:
    streams, strangers = world.streams(), world.streams()
    ledger = await taken(streams)
    other = await taken(strangers, daemon="d-2")
    await append(other, active(next(ids)))
    await strangers.trim(3)

    with pytest.raises(PartitionLostError):
        await append(ledger, active(next(ids)))


async def test_a_group_is_bounded_and_the_first_entry_always_fits(world: LedgerWorld) -> None:
    ledger = await taken(world.streams())
    large = [active(next(ids), secret_bytes=40_000) for _ in range(12)]

    fits = [ledger.add(entry_of(one)) for one in large]

    assert fits[:6] == [True] * 6
    assert not fits[-1]
    await ledger.append()
    assert ledger.add(entry_of(active(next(ids), secret_bytes=300_000)))


async def test_a_record_that_no_bucket_could_hold_is_refused_and_harms_no_other(
    world: LedgerWorld,
) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    too_large, small = active(next(ids), secret_bytes=450_000), active(next(ids))

    with pytest.raises(RecordTooLargeError):
        ledger.add(entry_of(too_large))
    await append(ledger, small)

    assert await stored(streams) == [small]
