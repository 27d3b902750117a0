"""Where a ledger lives in the contract suite: in memory, or on a real server."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

import anyio
import msgspec

from actors.entry import Entry
from actors.envelope import Envelope
from domain.connection import ProviderConnection
from domain.events import Event
from runtime.ledger.groups import Owner
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import View
from runtime.ledger.room import Room
from runtime.ledger.subjects import (
    EVENT_STREAM,
    NO_TAG,
    bucket_stream,
    event_marker_subject,
    events_filter,
    ledger_stream,
)
from runtime.ledger.take_over import take_over
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream
from tests.fakes.connections import active, refresh_events
from tests.fakes.faulty_streams import FaultyStreams
from tests.fakes.memory_streams import MemoryStreams

PREFIX = "refreshd.v1"
LIMITS = LedgerLimits(
    answer_timeout_s=0.5, read_timeout_s=0.4, checkpoint_s=0.02, events_gather_s=0.001
)


class LedgerWorld(Protocol):
    """One partition, and what is stored of it."""

    def streams(self) -> FaultyStreams:
        """Return another connection to it."""
        ...

    async def events(self, connection_id: UUID) -> list[dict[str, Any]]:
        """Return a connection's events in the order of the stream."""
        ...

    async def messages(self) -> list[bytes]:
        """Return every message that ledger and bucket hold."""
        ...

    async def forget_marker(self) -> None:
        """Let the events' marker go, as a stream does with what is old."""
        ...


class MemoryWorld:
    """Streams in memory."""

    def __init__(self) -> None:
        """Start with empty streams."""
        self.kept = MemoryStreams()

    def streams(self) -> FaultyStreams:
        """See ``LedgerWorld``."""
        return FaultyStreams(self.kept)

    async def events(self, connection_id: UUID) -> list[dict[str, Any]]:
        """See ``LedgerWorld``."""
        events = [msgspec.json.decode(message.body) for message in self.kept.events]
        return [event for event in events if event["subject"] == str(connection_id)]

    async def messages(self) -> list[bytes]:
        """See ``LedgerWorld``."""
        groups = [found.data async for found in self.kept.tail(1)]
        return groups + [found.data for found in self.kept.records.values()]

    async def forget_marker(self) -> None:
        """See ``LedgerWorld``."""
        self.kept.forget_marker(View.EVENTS)


class RealWorld:
    """Streams on a server; read through the API as an operator would."""

    def __init__(self, link: NatsLink, partition: int) -> None:
        """Use a partition that nobody else uses."""
        self.link = link
        self.partition = partition

    def streams(self) -> FaultyStreams:
        """See ``LedgerWorld``."""
        return FaultyStreams(
            JetStreamPartition(
                self.link, self.partition, answer_timeout_s=LIMITS.answer_timeout_s, tag=NO_TAG
            ),
            partition=self.partition,
        )

    async def events(self, connection_id: UUID) -> list[dict[str, Any]]:
        """See ``LedgerWorld``."""
        subject = events_filter(PREFIX, connection_id=str(connection_id))
        stream = read_stream(self.link, EVENT_STREAM, filter_subject=subject)
        return [msgspec.json.decode(message.data) async for message in stream]

    async def messages(self) -> list[bytes]:
        """See ``LedgerWorld``."""
        return [
            message.data
            for stream in (
                ledger_stream(self.partition, NO_TAG),
                bucket_stream(self.partition, NO_TAG),
            )
            async for message in read_stream(self.link, stream)
        ]

    async def forget_marker(self) -> None:
        """See ``LedgerWorld``."""
        body = msgspec.json.encode({"filter": event_marker_subject(self.partition, NO_TAG)})
        await self.link.request(f"$JS.API.STREAM.PURGE.{EVENT_STREAM}", body, timeout_s=5)


async def taken(
    streams: FaultyStreams,
    *,
    daemon: str = "d-1",
    limits: LedgerLimits = LIMITS,
    room: Room | None = None,
    now_s: Callable[[], float] = time.time,
    may_claim_from: Callable[[str], bool] = lambda _: True,
) -> PartitionLedger:
    """Return the partition's ledger, claimed by a daemon."""
    return await take_over(
        streams,
        partition=streams.partition,
        owner=Owner(daemon.encode().ljust(16, b"."), daemon),
        prefix=PREFIX,
        limits=limits,
        record_bytes_max=400_000,
        room=room or Room(limits.unsettled_bytes_max),
        tag=NO_TAG,
        now_s=now_s,
        may_claim_from=may_claim_from,
    )


@contextlib.asynccontextmanager
async def followed(ledger: PartitionLedger) -> AsyncGenerator[None]:
    """Run the views beside the body, and kill them after."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.records.run)
        tasks.start_soon(ledger.events.run)
        yield
        tasks.cancel_scope.cancel()


async def caught_up(ledger: PartitionLedger) -> None:
    """Return when both views hold everything."""
    await ledger.records.checkpointed()
    await ledger.events.hurried()


class Nobody:
    """Makes entries that nobody waits for."""

    def settled(self, entry: Entry) -> None:
        """See ``Maker``."""

    def broke(self, asked: Sequence[Envelope], error: Exception) -> None:
        """See ``Maker``."""
        raise error


def entry_of(connection: ProviderConnection, events: Sequence[Event] = ()) -> Entry:
    """Return an entry that stores a connection and tells events."""
    entry = Entry(connection.id, Nobody())
    entry.connection = connection
    entry.events.extend(events)
    return entry


async def store(ledger: PartitionLedger, *entries: Entry) -> int:
    """Append one group, and return its sequence."""
    for entry in entries:
        assert ledger.add(entry)
    await ledger.append()
    return ledger.writer.last_seq


async def store_refreshes(
    ledger: PartitionLedger, connection_id: UUID, *, first: int, last: int
) -> None:
    """Store so many generations, a group and a pair of events each."""
    for generation in range(first, last + 1):
        connection = active(connection_id, generation=generation)
        await store(ledger, entry_of(connection, refresh_events(connection_id, 1)))
