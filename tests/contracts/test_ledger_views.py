"""Views follow the ledger: each event once and in order, the last record of each, from any crash."""

import contextlib
from uuid import UUID

import anyio
import msgspec
import pytest

from domain.connection import ProviderConnection
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import View
from runtime.ledger.room import Room
from runtime.nats.errors import LinkError, NoAnswerError
from runtime.nats.jetstream_api import JetStreamError
from runtime.world import Uuid7Ids
from tests.fakes.faulty_streams import Fate
from tests.fakes.ledger_worlds import (
    LIMITS,
    LedgerWorld,
    MemoryWorld,
    caught_up,
    followed,
    store_refreshes,
    taken,
)

ids = Uuid7Ids()
_FATES = [fate for fate in Fate if fate is not Fate.PASSES]


async def told(world: LedgerWorld, connection_id: UUID) -> list[str]:
    """Return the types of a connection's events, after checking that each is there once."""
    events = await world.events(connection_id)
    assert len({event["id"] for event in events}) == len(events)
    return [event["type"].removeprefix("ProviderTokenRefresh") for event in events]


async def read(ledger: PartitionLedger, connection_id: UUID) -> ProviderConnection:
    """Return what the bucket says."""
    stored = await ledger.read(connection_id)
    assert stored.connection is not None
    return stored.connection


async def test_a_checkpoint_writes_each_connection_once_and_the_events_all(
    world: LedgerWorld,
) -> None:
    one = next(ids)
    ledger = await taken(world.streams())
    await store_refreshes(ledger, one, first=1, last=10)
    async with followed(ledger):
        await caught_up(ledger)

        assert ledger.recall(one) is None
        assert (await read(ledger, one)).generation == 10
        assert await told(world, one) == ["Attempted", "Succeeded"] * 10
        assert len([data for data in await world.messages() if one.bytes in data]) == 10 + 1


async def test_an_append_does_not_wait_for_a_view(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    for view in View:
        streams.lasting[view] = Fate.REQUEST_LOST
    one = next(ids)
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=20)

        assert ledger.writer.last_seq == 21
        assert ledger.records.lag
        assert ledger.events.lag


@pytest.mark.parametrize("view", list(View))
async def test_a_view_that_cannot_be_written_loses_nothing_is_reported_and_catches_up(
    view: View, world: LedgerWorld
) -> None:
    streams, one = world.streams(), next(ids)
    room = Room(9_000)
    ledger = await taken(streams, room=room)
    streams.lasting[view] = Fate.REFUSED
    runner = ledger.records if view is View.RECORDS else ledger.events
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=3)
        with anyio.fail_after(5):
            while not runner.trouble:
                await anyio.lowlevel.checkpoint()
        assert ledger.has_room
        await store_refreshes(ledger, one, first=4, last=8)
        assert not ledger.has_room
        assert (await read(ledger, one)).generation == 8

        streams.lasting.clear()
        await caught_up(ledger)

        assert ledger.has_room
        assert room.bytes == 0
        assert runner.trouble == ""
    assert await told(world, one) == ["Attempted", "Succeeded"] * 8


@pytest.mark.parametrize("fate", _FATES, ids=str)
async def test_the_next_owner_goes_on_exactly_where_a_view_stopped(
    fate: Fate, world: LedgerWorld
) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=3)
    for view in View:
        streams.view_fates[view].append(fate)
    for advance in (ledger.records.advance, ledger.events.advance):
        with contextlib.suppress(LinkError, JetStreamError):
            await advance()
    await store_refreshes(ledger, one, first=4, last=5)

    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await store_refreshes(second, one, first=6, last=6)
        await caught_up(second)

    assert await told(world, one) == ["Attempted", "Succeeded"] * 6
    assert (await read(second, one)).generation == 6


async def test_no_duplicate_window_is_relied_on(world: LedgerWorld) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=3)
    streams.view_fates[View.EVENTS].append(Fate.ANSWER_LOST)
    with pytest.raises(NoAnswerError):
        await ledger.events.advance()
    if isinstance(world, MemoryWorld):
        world.kept.known_ids.clear()
    else:
        await anyio.sleep(1.2)  # The server's window is a second here.

    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await caught_up(second)

    assert await told(world, one) == ["Attempted", "Succeeded"] * 3


async def test_a_replaced_daemon_can_write_nothing_into_a_view(world: LedgerWorld) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=3)
    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await store_refreshes(second, one, first=4, last=4)
        await caught_up(second)
    before = [await streams.marker(view) for view in View]

    async with followed(ledger):
        with anyio.fail_after(5):
            while not (ledger.records.trouble and ledger.events.trouble):
                await anyio.lowlevel.checkpoint()

    assert [await streams.marker(view) for view in View] == before
    assert await told(world, one) == ["Attempted", "Succeeded"] * 4
    assert (await read(second, one)).generation == 4


async def test_a_checkpoint_of_several_batches_is_whole_when_it_is_marked(
    world: LedgerWorld,
) -> None:
    limits = msgspec.structs.replace(LIMITS, batch_messages_max=3)
    streams = world.streams()
    ledger = await taken(streams, limits=limits)
    several = [next(ids) for _ in range(10)]
    for one in several:
        await store_refreshes(ledger, one, first=1, last=1)
    streams.view_fates[View.RECORDS].extend([Fate.PASSES, Fate.PASSES, Fate.ANSWER_LOST])
    with pytest.raises(NoAnswerError):
        await ledger.records.advance()

    assert {(await read(ledger, one)).generation for one in several} == {1}
    second = await taken(world.streams(), daemon="d-2", limits=limits)
    async with followed(second):
        await caught_up(second)
        assert {(await read(second, one)).generation for one in several} == {1}


async def test_a_marker_that_aged_out_is_written_anew(world: LedgerWorld) -> None:
    one = next(ids)
    ledger = await taken(world.streams())
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=2)
        await caught_up(ledger)
        await world.forget_marker()
        await store_refreshes(ledger, one, first=3, last=3)
        await caught_up(ledger)

    assert await told(world, one) == ["Attempted", "Succeeded"] * 3


@pytest.mark.parametrize("view", list(View))
async def test_a_marker_that_somebody_has_written_over_is_written_anew(
    view: View, world: LedgerWorld
) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=2)
        await caught_up(ledger)
        found = await streams.marker(view)
        assert found is not None
        await streams.streams.write(view, (), b"by hand", expected_seq=found.seq)
        await store_refreshes(ledger, one, first=3, last=3)
        await caught_up(ledger)

        assert await told(world, one) == ["Attempted", "Succeeded"] * 3
        assert (await read(ledger, one)).generation == 3


async def test_a_marker_of_a_later_version_is_left_alone(world: LedgerWorld) -> None:
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    found = await streams.marker(View.EVENTS)
    assert found is not None
    await streams.streams.write(View.EVENTS, (), b"\x81\xa1v\x63", expected_seq=found.seq)
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=1)
        with anyio.fail_after(5):
            while "schema 99" not in ledger.events.trouble:
                await anyio.lowlevel.checkpoint()

    kept = await streams.marker(View.EVENTS)
    assert kept is not None
    assert kept.data == b"\x81\xa1v\x63"


async def test_a_marker_that_was_lost_with_a_crash_stops_no_events(world: LedgerWorld) -> None:
    """The stream still knows the ids of events that the ledger still holds."""
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=3)
    await ledger.events.advance()
    await world.forget_marker()
    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await store_refreshes(second, one, first=4, last=4)
        await caught_up(second)

    assert await told(world, one) == ["Attempted", "Succeeded"] * 4
