"""The ledgers of all the partitions that a daemon owns, and what keeps them small."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup

from actors.ports import PartitionLostError
from actors.waker import Waker
from domain.connection import ConnectionStatus
from runtime.ledger.due_count import DAY_MINUTES
from runtime.ledger.due_scan import DuePolicy, DueScan
from runtime.ledger.groups import Owner
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.marked_view import ReplacedError
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.room import Room
from runtime.ledger.streams import StreamsError
from runtime.ledger.subjects import bucket_name, event_marker_subject, event_stream, ledger_subject
from runtime.ledger.take_over import take_over
from runtime.logs import log
from runtime.nats.errors import NO_ANSWER_IN_TIME, LinkError
from runtime.nats.jetstream_api import JetStreamError, stream_info
from runtime.nats.link import NatsLink

_KEEP_S = 1.0
_COUNT_RECORDS_MAX = 500
"""How many records are looked at between two pauses."""
_ENVELOPE_BYTES = 1024
"""What a message holds besides its entries."""
_TAKE_OVER_S = 20.0
_MISSED_S = 5.0
"""How long a start reads what was missed before it wakes the first."""
_NANOSECONDS = 1_000_000_000


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum; None where one is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


class Ledgers:
    """Every partition's ledger. ``open`` takes them; ``run`` must be running."""

    def __init__(
        self,
        link: NatsLink,
        *,
        daemon: str,
        prefix: str,
        tag: str,
        limits: LedgerLimits,
        record_bytes_max: int,
        now_s: Callable[[], float],
    ) -> None:
        """Own nothing yet; ``now_s`` is the wall clock, since the epoch."""
        self._now_s = now_s
        self._record_bytes_max = record_bytes_max
        self._link = link
        self._daemon = daemon
        self._prefix = prefix
        self._tag = tag
        self._limits = limits
        self.room = Room(limits.unsettled_bytes_max)
        self.partitions: list[PartitionLedger] = []
        self.lost: Callable[[PartitionLostError], None] = lambda _: None
        """Called where another daemon has taken a partition, within a second or two."""

    async def open(self, partitions: int) -> None:
        """Take every partition.

        Raises:
            StreamsError: One cannot be taken; the text says why.
            PartitionLostError: Others go on claiming it.
        """
        self.partitions = list(
            await asyncio.gather(*(self._taken(partition) for partition in range(partitions)))
        )

    async def _taken(self, partition: int) -> PartitionLedger:
        room_bytes = self._link.max_payload - _ENVELOPE_BYTES
        limits = msgspec.structs.replace(
            self._limits, group_bytes_max=min(self._limits.group_bytes_max, room_bytes)
        )
        try:
            async with asyncio.timeout(_TAKE_OVER_S):
                ledger = await take_over(
                    JetStreamPartition(
                        self._link,
                        partition,
                        answer_timeout_s=limits.answer_timeout_s,
                        tag=self._tag,
                    ),
                    partition=partition,
                    owner=Owner(os.urandom(16), self._daemon),
                    prefix=self._prefix,
                    tag=self._tag,
                    limits=limits,
                    record_bytes_max=self._record_bytes_max,
                    room=self.room,
                    now_s=self._now_s,
                )
                with contextlib.suppress(LinkError, JetStreamError, ReplacedError):
                    # So that what is counted and listed at first is all there is.
                    await ledger.records.advance()
                return ledger
        except (LinkError, JetStreamError) as error:
            raise StreamsError(f"partition {partition} cannot be taken: {error}") from None
        except TimeoutError:
            named = ledger_subject(partition, self._tag)
            raise StreamsError(
                f"partition {partition} cannot be taken: no answer in time; may this user publish "
                f"to {named}, $KV.{bucket_name(partition, self._tag)}.> and "
                f"{event_marker_subject(partition, self._tag)}?"
            ) from None

    def decide_by(self, policy: DuePolicy) -> None:
        """Decide by a policy from now on; to be called before anything is decided.

        By another one records may lack an entry from the first on, whether a scan comes to note
        that or not.
        """
        for ledger in self.partitions:
            ledger.records.mark.decide_by(policy.name)

    async def checkpoint(self) -> None:
        """Write what the buckets lack, before ``run``.

        Raises:
            LinkError, JetStreamError: It cannot be written.
            PartitionLostError: A later owner writes them.
        """
        try:
            for ledger in self.partitions:
                if ledger.records.lag:
                    await ledger.records.advance()
        except ReplacedError as error:
            raise PartitionLostError(str(error)) from None

    async def run(self) -> None:
        """Follow with the views, trim and renew, until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._start(tasks)

    def _start(self, tasks: TaskGroup) -> None:
        for ledger in self.partitions:
            tasks.start_soon(ledger.records.run)
            tasks.start_soon(ledger.events.run)
        tasks.start_soon(self._keep_house)
        tasks.start_soon(self._count_statuses)

    async def wake_in_time(self, waker: Waker, policy: DuePolicy) -> None:
        """Have connections looked at when they are due, until cancelled.

        What was missed is read first, as far as there is room, so that the most urgent comes first.
        Records that lack an entry get one, one partition after the other.
        """
        with anyio.move_on_after(_MISSED_S):
            async with anyio.create_task_group() as reading:
                for ledger in self.partitions:
                    reading.start_soon(ledger.due.read_ahead)
        async with anyio.create_task_group() as tasks:
            for ledger in self.partitions:
                ledger.due.wake = waker.wake
                ledger.due.wake_due()
                tasks.start_soon(ledger.due.run)
                tasks.start_soon(ledger.due.counts.run)
            waker.begin()
            for ledger in self.partitions:
                scan = DueScan(
                    ledger, policy, now_s=self._now_s, limits=self._limits, note=waker.note
                )
                await scan.run()

    async def checkpointed(self, *, unless_replaced: bool = False) -> None:
        """Return when the buckets hold everything that was stored before the call."""
        async with anyio.create_task_group() as tasks:
            for ledger in self.partitions:
                tasks.start_soon(
                    partial(ledger.records.checkpointed, unless_replaced=unless_replaced)
                )

    async def caught_up(self) -> bool:
        """Let the views catch up and trim; False: what they lack is in the ledger."""
        with anyio.move_on_after(self._limits.last_views_s):
            async with anyio.create_task_group() as tasks:
                for ledger in self.partitions:
                    tasks.start_soon(partial(ledger.records.checkpointed, unless_replaced=True))
                    tasks.start_soon(ledger.events.hurried)
            for ledger in self.partitions:
                await self._trim(ledger)
            return True
        return False

    @property
    def is_silent(self) -> bool | None:
        """Whether a write had no answer in time; None: another trouble; False: no trouble."""
        troubles = {
            trouble
            for ledger in self.partitions
            for trouble in (ledger.writer.trouble, ledger.records.trouble, ledger.events.trouble)
            if trouble
        }
        return NO_ANSWER_IN_TIME in troubles or (None if troubles else False)

    def status(self) -> dict[str, object]:
        """Return how far each view is behind, and what is held for that."""
        return {
            "unsettled_bytes": self.room.bytes,
            "events_lacking": sum(ledger.events.events_lacking for ledger in self.partitions),
            "partitions": [
                {
                    "ledger_seq": ledger.writer.last_seq,
                    "records_lag": ledger.records.lag,
                    "events_lag": ledger.events.lag,
                    "trimmed_seq": ledger.trimmed_seq,
                    "troubles": {
                        name: trouble
                        for name, trouble in (
                            ("ledger", ledger.writer.trouble),
                            ("records", ledger.records.trouble),
                            ("events", ledger.events.trouble),
                        )
                        if trouble
                    },
                }
                for ledger in self.partitions
            ],
        }

    def due(self) -> dict[str, object]:
        """Return how many connections are due soon, by whole minutes, and how late the latest is.

        None: it is still being counted.
        """
        indexes = [ledger.due for ledger in self.partitions]
        return {
            "next_minute": sum(index.next_minute for index in indexes),
            "next_hour": _sum(index.counts.within(60) for index in indexes),
            "next_day": _sum(index.counts.within(DAY_MINUTES) for index in indexes),
            "latest_s": round(max(index.late_s for index in indexes), 1),
        }

    @property
    def by_status(self) -> dict[str, int] | None:
        """How many connections have each status; None: they are still being counted."""
        total: Counter[ConnectionStatus] = Counter()
        for ledger in self.partitions:
            counts = ledger.statuses.by_status
            if counts is None:
                return None
            total += counts
        return {status: total[status] for status in ConnectionStatus}

    async def _count_statuses(self) -> None:
        """Count what was stored before, one partition after the other, as fast as is configured."""
        page = min(_COUNT_RECORDS_MAX, self._limits.count_records_per_s)
        for ledger in self.partitions:
            while True:
                with contextlib.suppress(LinkError, JetStreamError):
                    if not await ledger.statuses.count(ledger.scan, records_max=page):
                        break
                await anyio.sleep(page / self._limits.count_records_per_s)

    async def _keep_house(self) -> None:
        """Trim what every view holds, keep markers from ageing out, and notice another's claim."""
        while True:
            await anyio.sleep(_KEEP_S)
            for ledger in self.partitions:
                await self._trim(ledger)
            await self._renew()
            if await self._is_lost():
                return

    async def _is_lost(self) -> bool:
        """Tell ``lost`` where another daemon has taken a partition."""
        try:
            for ledger in self.partitions:
                await ledger.look_at_owner()
        except PartitionLostError as error:
            self.lost(error)
            return True
        except (LinkError, JetStreamError):
            # Appends and views say what is wrong with NATS.
            return False
        return False

    async def _trim(self, ledger: PartitionLedger) -> None:
        try:
            await ledger.trim()
        except (LinkError, JetStreamError) as error:
            log.warning("ledger_not_trimmed", cause=str(error))

    async def _renew(self) -> None:
        """Renew each marker before it is among the oldest half of what the stream may hold."""
        try:
            info = await stream_info(self._link, event_stream(self._tag))
            if info is None:
                return
            age_s = int(str(info.config.get("max_age", 0))) / _NANOSECONDS
            bytes_max = int(str(info.config.get("max_bytes", -1)))
            is_filling = bytes_max > 0 and info.state.bytes > bytes_max / 4
            middle_seq = (info.state.first_seq + info.state.last_seq) // 2
            for ledger in self.partitions:
                if is_filling and ledger.events.mark.seq <= middle_seq:
                    await ledger.events.renew(0.0)
                elif age_s:
                    await ledger.events.renew(age_s / 3)
        except (LinkError, JetStreamError, ReplacedError) as error:
            log.warning("marker_not_renewed", cause=str(error))
