"""The ledgers of the partitions that a daemon owns, and what keeps them small."""

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial

import anyio

from actors.ports import PartitionLostError
from runtime.ledger.groups import Owner
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.marked_view import ReplacedError
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import PartitionStreams
from runtime.ledger.room import Room
from runtime.ledger.standing import Standing, standing_of
from runtime.ledger.streams import StreamsError
from runtime.ledger.subjects import bucket_name, event_marker_subject, ledger_subject
from runtime.ledger.take_over import StillOwnedError, take_over
from runtime.logs import log
from runtime.nats.errors import NO_ANSWER_IN_TIME, LinkError
from runtime.nats.jetstream_api import JetStreamError

_KEEP_S = 1.0
_COUNT_RECORDS_MAX = 500
"""How many records are looked at between two pauses."""
ENVELOPE_BYTES = 1024
"""What a message holds besides its entries."""
_TAKE_OVER_S = 20.0
_RELEASE_S = 1.0


class Ledgers:
    """Each owned partition's ledger. ``claim`` takes one, ``run`` keeps one."""

    def __init__(
        self,
        streams_of: Callable[[int], PartitionStreams],
        *,
        daemon: str,
        prefix: str,
        tag: str,
        limits: LedgerLimits,
        record_bytes_max: int,
        now_s: Callable[[], float],
    ) -> None:
        """Own nothing yet.

        Args:
            streams_of: A partition's place in the streams.
            daemon: This one's id.
            prefix: Of the commands' subjects.
            tag: What stands for it in the names of the streams.
            limits: The bounds; a group must fit into what the server takes.
            record_bytes_max: How large a record every bucket takes.
            now_s: The wall clock, since the epoch.
        """
        self.now_s = now_s
        self.limits = limits
        self._record_bytes_max = record_bytes_max
        self.streams_of = streams_of
        """A partition's place in the streams, whoever owns it."""
        self._daemon = daemon
        self._prefix = prefix
        self._tag = tag
        self.room = Room(limits.unsettled_bytes_max)
        self.partitions: dict[int, PartitionLedger] = {}
        self.awaited: dict[int, str] = {}
        """Why a partition was not claimed when that was tried last, where its owner may live."""
        self.may_claim_from: Callable[[str], bool] = lambda _: True
        """Whether a daemon that has claimed a partition, and not given it away, owns it no more."""

    async def open(self, partitions: Iterable[int]) -> None:
        """Take several partitions, but for those whose owners may live.

        Raises:
            StreamsError: One cannot be taken; the text says why.
            PartitionLostError: Others go on claiming it.
        """
        errors: list[Exception] = []

        async def take(partition: int) -> None:
            try:
                await self.claim(partition)
            except StillOwnedError:
                pass
            except (StreamsError, PartitionLostError) as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            for partition in partitions:
                tasks.start_soon(take, partition)
        if errors:
            raise errors[0]

    async def claim(self, partition: int) -> PartitionLedger:
        """Take a partition.

        Raises:
            StillOwnedError: Its last owner may live; nothing was claimed.
            StreamsError: It cannot be taken; the text says why.
            PartitionLostError: Others go on claiming it.
        """
        try:
            with anyio.fail_after(_TAKE_OVER_S):
                ledger = await take_over(
                    self.streams_of(partition),
                    partition=partition,
                    owner=Owner(os.urandom(16), self._daemon),
                    prefix=self._prefix,
                    tag=self._tag,
                    limits=self.limits,
                    record_bytes_max=self._record_bytes_max,
                    room=self.room,
                    now_s=self.now_s,
                    may_claim_from=self.may_claim_from,
                )
                with contextlib.suppress(LinkError, JetStreamError, ReplacedError):
                    # So that what is counted and listed at first is all there is.
                    await ledger.records.advance()
        except StillOwnedError as error:
            if partition not in self.awaited:
                log.info("partition_awaited", cause=str(error))
            self.awaited[partition] = str(error)
            raise
        except (LinkError, JetStreamError) as error:
            raise StreamsError(f"partition {partition} cannot be taken: {error}") from None
        except TimeoutError:
            named = ledger_subject(partition, self._tag)
            raise StreamsError(
                f"partition {partition} cannot be taken: no answer in time; may this user publish "
                f"to {named}, $KV.{bucket_name(partition, self._tag)}.> and "
                f"{event_marker_subject(partition, self._tag)}?"
            ) from None
        self.awaited.pop(partition, None)
        self.partitions[partition] = ledger
        return ledger

    async def release(self) -> None:
        """Give away all that nobody has been handed: whoever starts next waits for nobody.

        Nothing may be under way. What cannot be released in time is claimed all the same, later.
        """

        async def give(ledger: PartitionLedger) -> None:
            with contextlib.suppress(PartitionLostError):
                await ledger.release()

        with anyio.move_on_after(_RELEASE_S):
            async with anyio.create_task_group() as tasks:
                for ledger in self.partitions.values():
                    if not ledger.writer.trouble:
                        tasks.start_soon(give, ledger)

    def drop(self, partition: int) -> None:
        """Count and keep a partition no more."""
        ledger = self.partitions.pop(partition, None)
        if ledger is not None:
            ledger.forget_held()

    async def checkpoint(self) -> None:
        """Write what the buckets lack, before ``run``.

        Raises:
            LinkError, JetStreamError: It cannot be written.
            PartitionLostError: A later owner writes them.
        """
        try:
            for ledger in self.partitions.values():
                if ledger.records.lag:
                    await ledger.records.advance()
        except ReplacedError as error:
            raise PartitionLostError(str(error)) from None

    async def run(self, ledger: PartitionLedger) -> None:
        """Follow with a partition's views, count, and trim, until cancelled or lost.

        Raises:
            PartitionLostError: Another daemon has taken it; seen within a second or two.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ledger.records.run)
            tasks.start_soon(ledger.events.run)
            tasks.start_soon(self._count_statuses, ledger)
            await self._keep_house(ledger)

    async def checkpointed(self) -> None:
        """Return when the buckets hold everything that was stored before the call."""
        async with anyio.create_task_group() as tasks:
            for ledger in self.partitions.values():
                tasks.start_soon(ledger.records.checkpointed)

    async def caught_up(self, ledgers: Iterable[PartitionLedger] | None = None) -> bool:
        """Let the views catch up and trim; False: what they lack is in the ledger."""
        ledgers = [*self.partitions.values()] if ledgers is None else [*ledgers]
        with anyio.move_on_after(self.limits.last_views_s):
            async with anyio.create_task_group() as tasks:
                for ledger in ledgers:
                    tasks.start_soon(partial(ledger.records.checkpointed, unless_replaced=True))
                    tasks.start_soon(ledger.events.hurried)
            for ledger in ledgers:
                await self._trim(ledger)
            return True
        return False

    @property
    def is_silent(self) -> bool | None:
        """Whether a write had no answer in time; None: another trouble; False: no trouble."""
        troubles = {
            trouble
            for ledger in self.partitions.values()
            for trouble in (ledger.writer.trouble, ledger.records.trouble, ledger.events.trouble)
            if trouble
        }
        return NO_ANSWER_IN_TIME in troubles or (None if troubles else False)

    @property
    def standings(self) -> list[Standing]:
        """How each owned partition stands, by their numbers."""
        return [standing_of(self.partitions[number]) for number in sorted(self.partitions)]

    async def _count_statuses(self, ledger: PartitionLedger) -> None:
        """Count what was stored before, as fast as is configured."""
        page = min(_COUNT_RECORDS_MAX, self.limits.count_records_per_s)
        while True:
            with contextlib.suppress(LinkError, JetStreamError):
                if not await ledger.statuses.count(ledger.scan, records_max=page):
                    return
            # All partitions share the rate.
            sharing = max(len(self.partitions), 1)
            await anyio.sleep(page * sharing / self.limits.count_records_per_s)

    async def _keep_house(self, ledger: PartitionLedger) -> None:
        """Trim what every view holds, and notice another's claim."""
        while True:
            await anyio.sleep(_KEEP_S)
            await self._trim(ledger)
            with contextlib.suppress(LinkError, JetStreamError):
                # Appends and views say what is wrong with NATS.
                await ledger.look_at_owner()

    async def _trim(self, ledger: PartitionLedger) -> None:
        try:
            await ledger.trim()
        except (LinkError, JetStreamError) as error:
            log.warning("ledger_not_trimmed", cause=str(error))
