"""A partition's streams, in memory or real, that lose what they are told to lose."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import TypeVar
from uuid import UUID

import anyio

from runtime.ledger.due_entries import KeptDue
from runtime.ledger.partition_streams import (
    DueRead,
    Found,
    Kept,
    Outgoing,
    PartitionStreams,
    Read,
    View,
)
from runtime.nats.errors import NoAnswerError, NoRespondersError, NotSentError
from tests.fakes.memory_streams import WRONG_SEQUENCE, refusal

ANOTHER_IN_FLIGHT = 10164
STORAGE_FULL = 10077
T = TypeVar("T")


class Fate(Enum):
    """What becomes of one write."""

    PASSES = auto()
    ANSWER_LOST = auto()
    """It is done; nobody hears of it."""
    REQUEST_LOST = auto()
    """It is not done, and nobody knows."""
    NOT_SENT = auto()
    NO_RESPONDERS = auto()
    REFUSED_IN_FLIGHT = auto()
    """Error 10164, which a server only gives with replicas (NATS.md 2.4)."""
    REFUSED = auto()
    """Any other JetStream error, such as a full disk's."""
    REFUSED_BY_FORMER = auto()
    """A leader that was paused and replaced holds the sequence for wrong (NATS.md 2.8)."""


class FaultyStreams:
    """Writes meet the planned fates, in order, and pass when no more are planned."""

    def __init__(self, streams: PartitionStreams, *, partition: int = 0) -> None:
        """Fail nothing yet."""
        self.partition = partition
        self.streams = streams
        self.append_fates: deque[Fate] = deque()
        self.view_fates: dict[View, deque[Fate]] = {View.RECORDS: deque(), View.EVENTS: deque()}
        self.purge_fates: deque[Fate] = deque()
        self.lasting: dict[View, Fate] = {}
        """What becomes of a view's batch when no more fates are planned."""
        self.release: anyio.Event | None = None
        """While there is one, appends are held back until it is set."""
        self.appended: list[bytes] = []
        """Every copy of an append, whatever became of it."""
        self.stale_reads = 0
        """So many reads come from a replica that has not heard of anything."""
        self.before_append: Callable[[], Awaitable[object]] | None = None
        self.former: PartitionStreams | None = None
        """A leader that was paused and replaced: what it holds is of then."""
        self.former_reads: deque[str] = deque()
        """Which reads from the leader, in order, it answers."""

    async def append(self, data: bytes, *, expected_seq: int) -> int:
        """See ``PartitionStreams``."""
        self.appended.append(data)
        if self.release is not None:
            await self.release.wait()
        if self.before_append is not None:
            before, self.before_append = self.before_append, None
            await before()
        fate = self.append_fates.popleft() if self.append_fates else Fate.PASSES
        return await _met(fate, lambda: self.streams.append(data, expected_seq=expected_seq))

    async def write(
        self, view: View, messages: Sequence[Outgoing], marker: bytes, *, expected_seq: int
    ) -> int:
        """See ``PartitionStreams``."""
        fates = self.view_fates[view]
        fate = fates.popleft() if fates else self.lasting.get(view, Fate.PASSES)
        return await _met(
            fate, lambda: self.streams.write(view, messages, marker, expected_seq=expected_seq)
        )

    async def read(self, connection_id: UUID, *, timeout_s: float) -> Read:
        """See ``PartitionStreams``."""
        if self.stale_reads:
            self.stale_reads -= 1
            return Read(1, None)
        return await self.streams.read(connection_id, timeout_s=timeout_s)

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """See ``PartitionStreams``."""
        if self.stale_reads:
            self.stale_reads -= 1
            return ()
        return await self.streams.scan(start_seq, messages_max=messages_max, timeout_s=timeout_s)

    async def due(self, minutes: Sequence[int], *, timeout_s: float) -> DueRead | None:
        """See ``PartitionStreams``."""
        if self.stale_reads:
            self.stale_reads -= 1
            return DueRead(1, [])
        return await self.streams.due(minutes, timeout_s=timeout_s)

    async def due_from(
        self, minute: int, start_seq: int, *, entries_max: int, timeout_s: float
    ) -> Sequence[KeptDue]:
        """See ``PartitionStreams``."""
        return await self.streams.due_from(
            minute, start_seq, entries_max=entries_max, timeout_s=timeout_s
        )

    async def count_due(self, minute: int, *, timeout_s: float) -> int:
        """See ``PartitionStreams``."""
        return await self.streams.count_due(minute, timeout_s=timeout_s)

    async def purge_due(self, minute: int, through_seq: int) -> None:
        """See ``PartitionStreams``."""
        fate = self.purge_fates.popleft() if self.purge_fates else Fate.PASSES
        await _met(fate, lambda: self.streams.purge_due(minute, through_seq))

    async def group_at(self, seq: int) -> bytes | None:
        """See ``PartitionStreams``."""
        return await self._leader("group_at").group_at(seq)

    async def bounds(self) -> tuple[int, int]:
        """See ``PartitionStreams``."""
        return await self._leader("bounds").bounds()

    def tail(self, start_seq: int) -> AsyncIterator[Found]:
        """See ``PartitionStreams``."""
        return self.streams.tail(start_seq)

    async def trim(self, through_seq: int) -> None:
        """See ``PartitionStreams``."""
        await self.streams.trim(through_seq)

    async def marker(self, view: View) -> Found | None:
        """See ``PartitionStreams``."""
        return await self._leader("marker").marker(view)

    def _leader(self, read: str) -> PartitionStreams:
        """Return who answers a read from the leader."""
        if self.former is not None and self.former_reads and self.former_reads[0] == read:
            self.former_reads.popleft()
            return self.former
        return self.streams


async def _met(fate: Fate, act: Callable[[], Awaitable[T]]) -> T:
    match fate:
        case Fate.NOT_SENT:
            raise NotSentError("not connected")
        case Fate.NO_RESPONDERS:
            raise NoRespondersError("no responders")
        case Fate.REQUEST_LOST:
            raise NoAnswerError("no answer in time")
        case Fate.REFUSED_IN_FLIGHT:
            raise refusal(ANOTHER_IN_FLIGHT)
        case Fate.REFUSED:
            raise refusal(STORAGE_FULL)
        case Fate.REFUSED_BY_FORMER:
            raise refusal(WRONG_SEQUENCE)
        case Fate.PASSES | Fate.ANSWER_LOST:
            done = await act()
    if fate is Fate.ANSWER_LOST:
        raise NoAnswerError("connection lost")
    return done
