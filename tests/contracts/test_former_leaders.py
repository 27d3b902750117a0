"""A stream's leader that was paused and replaced answers as of then, until it hears of it.

So no answer of one takes a partition from its owner, and none lets a stale record be read. Source:
NATS.md 2.8; nats-server discussions 6970 and 7146.
"""

import copy

import pytest

from actors.ports import PartitionLostError, Stored, StoreUnavailableError
from runtime.ledger import log_writer
from runtime.ledger.partition_streams import View
from runtime.nats.errors import NoAnswerError
from runtime.world import Uuid7Ids
from tests.fakes.connections import active
from tests.fakes.faulty_streams import Fate
from tests.fakes.ledger_worlds import MemoryWorld, store_refreshes, taken
from tests.fakes.memory_streams import MemoryStreams

ids = Uuid7Ids()


async def test_a_former_leader_that_refuses_an_append_takes_no_partition_away() -> None:
    world = MemoryWorld()
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    streams.former = copy.deepcopy(world.kept)
    await store_refreshes(ledger, one, first=1, last=2)
    streams.append_fates.extend([Fate.REFUSED_BY_FORMER] * 2)
    streams.former_reads.extend(["group_at", "bounds"] * 2)

    await store_refreshes(ledger, one, first=3, last=3)

    assert not streams.former_reads
    assert ledger.writer.last_seq == 4
    assert await world.kept.bounds() == (1, 4)


async def test_a_former_leader_without_our_last_group_is_not_taken_for_another_owners() -> None:
    world = MemoryWorld()
    streams = world.streams()
    ledger = await taken(streams)
    streams.former = copy.deepcopy(world.kept)
    streams.former_reads.append("group_at")
    await world.kept.append(b"ours, and the answer is on its way", expected_seq=1)

    await ledger.look_at_owner()

    assert not streams.former_reads


async def test_a_ledger_that_stays_shorter_than_what_was_read_of_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_writer, "_PAUSE_S_MIN", 0.0)
    streams = MemoryWorld().streams()
    ledger = await taken(streams)
    await store_refreshes(ledger, next(ids), first=1, last=2)
    streams.streams = MemoryStreams()

    with pytest.raises(PartitionLostError, match="ends at 0 and has no message 4"):
        await store_refreshes(ledger, next(ids), first=1, last=1)


async def test_a_marker_as_of_a_former_leader_lets_no_record_be_read_that_is_older() -> None:
    """A replica lags; what it lacks was checkpointed, and is not in memory any more."""
    world = MemoryWorld()
    streams, one = world.streams(), next(ids)
    ledger = await taken(streams)
    await store_refreshes(ledger, one, first=1, last=1)
    await ledger.records.advance()
    streams.former = copy.deepcopy(world.kept)
    await store_refreshes(ledger, one, first=2, last=2)
    await ledger.records.advance()
    mark = ledger.records.mark
    streams.view_fates[View.RECORDS].append(Fate.ANSWER_LOST)
    with pytest.raises(NoAnswerError):
        await mark.write((), mark.through)
    streams.former_reads.append("marker")

    assert not await mark.write((), mark.through)

    assert not streams.former_reads
    streams.streams = streams.former
    with pytest.raises(StoreUnavailableError):
        await ledger.read(one)
    streams.streams = world.kept
    assert await ledger.read(one) == Stored(active(one, generation=2))
