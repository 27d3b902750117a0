"""Finds the records that the due index lacks, once for each policy: a scan, and the only one.

Records that an earlier version wrote, or a restore, have no entry; and where a profile has changed
an entry may be too late. So the marker notes by which policy the bucket was gone through, and how
far: after a start with another one its records are read from the beginning to where it ended then,
page by page beside the commands, and who lacks an entry gets one. A restart goes on where the last
checkpoint was.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol
from uuid import UUID

import anyio
import msgspec

from actors.waker import Told
from domain.decision import Reply
from domain.looks import next_look
from domain.profile import ProviderProfile
from domain.record import RecordError, decode_record
from domain.result import Failure
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.subjects import is_record_key
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

_PAGE = 100
_AGAIN_S = 5.0


class DuePolicy(NamedTuple):
    """What says when a connection is due."""

    name: str
    """Another one for whatever may change an answer."""
    profile: Callable[[str], ProviderProfile | None]


class Note(Protocol):
    """Has a record say when it is due; see ``actors.waker.Waker.note``."""

    def __call__(self, connection_id: UUID, told: Told) -> None:
        """Call ``told`` once, when that is stored."""
        ...


class DueScan:
    """One partition's. ``run`` returns when no record lacks an entry."""

    def __init__(
        self,
        ledger: PartitionLedger,
        policy: DuePolicy,
        *,
        now_s: Callable[[], float],
        limits: LedgerLimits,
        note: Note,
    ) -> None:
        """Begin nothing yet."""
        self._ledger = ledger
        self._policy = policy
        self._now_s = now_s
        self._limits = limits
        self._note = note
        self._noted = 0

    async def run(self) -> None:
        """Go through the bucket, if that is needed, for as long as that takes."""
        while True:
            try:
                await self._go_through()
            except (LinkError, JetStreamError) as error:
                log.warning("due_scan_waits", cause=str(error))
                await anyio.sleep(_AGAIN_S)
            else:
                return

    async def _go_through(self) -> None:
        records = self._ledger.records
        await records.checkpointed()
        mark = records.mark
        if mark.due.policy != self._policy.name:
            mark.due = msgspec.structs.replace(
                mark.due, policy=self._policy.name, scanned_seq=0, scan_end_seq=mark.seq
            )
        while mark.due.scanned_seq < mark.due.scan_end_seq:
            page = await self._ledger.scan(mark.due.scanned_seq + 1, messages_max=_PAGE)
            end_seq = page[-1].seq if page else mark.due.scan_end_seq
            lacking = [
                UUID(kept.key)
                for kept in page
                if is_record_key(kept.key) and kept.data and self._lacks(kept.data)
            ]
            await self._noted_all(lacking)
            # Not before: what a marker says of is stored.
            mark.due = msgspec.structs.replace(mark.due, scanned_seq=end_seq)
            pause_s = len(page) / self._limits.count_records_per_s
            await anyio.sleep(max(pause_s, len(lacking) / self._limits.due_scan_records_per_s))
        if self._noted:
            log.info("due_index_complete", partition=records.partition, connections=self._noted)

    def _lacks(self, data: bytes) -> bool:
        """Whether a record may have no entry in time; one that cannot be read needs none."""
        try:
            record = decode_record(data)
        except RecordError:
            return False
        now = datetime.fromtimestamp(self._now_s(), UTC)
        connection = record.connection
        at = next_look(connection, self._policy.profile(connection.provider_slug), None, now=now)
        return at is not None and (record.next_due is None or at < record.next_due)

    async def _noted_all(self, connections: Sequence[UUID]) -> None:
        """Return when each record says when it is due, and its entry is stored with it."""
        waiting = list(connections)
        while waiting:
            asked = _Asked(len(waiting))
            for connection_id in waiting:
                self._note(connection_id, partial(asked.told, connection_id))
            await asked.is_over.wait()
            self._noted += len(waiting) - len(asked.failed)
            waiting = asked.failed
            if waiting:
                await anyio.sleep(_AGAIN_S)


class _Asked:
    """Several that were asked at a time."""

    def __init__(self, left: int) -> None:
        self.failed: list[UUID] = []
        self.is_over = anyio.Event()
        self._left = left

    def told(self, connection_id: UUID, reply: Reply, _next_due: datetime | None) -> None:
        """Know of one."""
        if isinstance(reply, Failure):
            self.failed.append(connection_id)
        self._left -= 1
        if not self._left:
            self.is_over.set()
