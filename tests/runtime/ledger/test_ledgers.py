"""A daemon's ledgers together: taken, followed, trimmed, and markers that never age out."""

import contextlib
import time
from collections.abc import AsyncGenerator
from functools import partial

import anyio
import msgspec
import pytest

from runtime.ledger import marker_renewal
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.stream_configs import StreamSettings
from runtime.ledger.streams import StreamsError, ensure_streams
from runtime.ledger.subjects import (
    EVENT_STREAM,
    NO_TAG,
    bucket_stream,
    event_marker_subject,
    ledger_stream,
)
from runtime.nats.jetstream_api import last_message, stream_info
from runtime.nats.link import NatsLink
from runtime.world import Uuid7Ids
from tests.fakes.ledger_worlds import LIMITS, PREFIX, caught_up, store_refreshes
from tests.fakes.stream_settings import settings_of

PARTITIONS = 3
SETTINGS = settings_of(PARTITIONS, record_bytes_max=64 * 1024, event_duplicate_window_s=1)
ids = Uuid7Ids()


async def opened(link: NatsLink, settings: StreamSettings = SETTINGS) -> Ledgers:
    await ensure_streams(link, settings)
    ledgers = Ledgers(
        partial(JetStreamPartition, link, answer_timeout_s=1.0, tag=NO_TAG),
        daemon="d-1",
        prefix=PREFIX,
        limits=LIMITS,
        record_bytes_max=60_000,
        tag=NO_TAG,
        now_s=time.time,
    )
    await ledgers.open(range(PARTITIONS))
    return ledgers


@contextlib.asynccontextmanager
async def running(ledgers: Ledgers) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        for ledger in ledgers.partitions.values():
            tasks.start_soon(ledgers.run, ledger)
        yield
        tasks.cancel_scope.cancel()


async def marker_seq(link: NatsLink, partition: int) -> int:
    message = await last_message(link, EVENT_STREAM, event_marker_subject(partition, NO_TAG))
    assert message is not None, "the marker has aged out"
    return message.seq


async def test_every_partition_is_taken_and_each_view_has_a_marker(link: NatsLink):
    ledgers = await opened(link)

    assert [ledger.writer.last_seq for ledger in ledgers.partitions.values()] == [1] * PARTITIONS
    for partition in range(PARTITIONS):
        assert await marker_seq(link, partition)
        info = await stream_info(link, bucket_stream(partition, NO_TAG))
        assert info is not None
        assert info.state.messages == 1


async def test_when_all_is_quiet_the_ledgers_are_empty(link: NatsLink):
    ledgers = await opened(link)
    async with running(ledgers):
        for ledger in ledgers.partitions.values():
            await store_refreshes(ledger, next(ids), first=1, last=3)

        assert await ledgers.caught_up()

    for partition in range(PARTITIONS):
        info = await stream_info(link, ledger_stream(partition, NO_TAG))
        assert info is not None
        assert (info.state.messages, info.state.last_seq) == (0, 4)
    assert ledgers.room.bytes == 0
    assert [one.partition for one in ledgers.standings] == [0, 1, 2]
    for one in ledgers.standings:
        assert (one.records_lag, one.events_lag, one.events_lacking) == (0, 0, 0)
        assert one.trimmed_seq == one.ledger_seq == 4


async def test_the_marker_of_a_quiet_partition_is_renewed_before_it_ages_out(link: NatsLink):
    ledgers = await opened(link, msgspec.structs.replace(SETTINGS, event_bytes_max=60_000))
    busy = ledgers.partitions[0]
    quiet_before = await marker_seq(link, 1)
    async with running(ledgers):
        for number in range(40):
            await store_refreshes(busy, next(ids), first=1, last=5)
            await caught_up(busy)
            await marker_renewal._renew(link, NO_TAG, ledgers.partitions.values())
            assert await marker_seq(link, 1), number

    info = await stream_info(link, EVENT_STREAM)
    assert info is not None
    assert info.state.first_seq > quiet_before


async def test_a_marker_is_renewed_long_before_the_age_at_which_messages_go(link: NatsLink):
    ledgers = await opened(link)
    before = await marker_seq(link, 2)
    for ledger in ledgers.partitions.values():
        ledger.events._marked_s = anyio.current_time() - 3600 / 3 - 1
        await caught_up_by_hand(ledger)
        ledger.events._marked_s = anyio.current_time() - 3600 / 3 - 1
    await marker_renewal._renew(link, NO_TAG, ledgers.partitions.values())

    assert await marker_seq(link, 2) > before


async def caught_up_by_hand(ledger: PartitionLedger) -> None:
    await ledger.records.advance()
    await ledger.events.advance()


async def test_a_partition_that_cannot_be_taken_is_told_with_the_cause(link: NatsLink):
    await ensure_streams(link, SETTINGS)
    await link.request(f"$JS.API.STREAM.DELETE.{ledger_stream(1, NO_TAG)}", b"", timeout_s=5)
    ledgers = Ledgers(
        partial(JetStreamPartition, link, answer_timeout_s=1.0, tag=NO_TAG),
        daemon="d-1",
        prefix=PREFIX,
        limits=LIMITS,
        record_bytes_max=60_000,
        tag=NO_TAG,
        now_s=time.time,
    )

    with pytest.raises(StreamsError, match=r"partition 1 cannot be taken: .*gone"):
        await ledgers.open(range(PARTITIONS))
