"""The records view: each connection's last record in the bucket, by checkpoints.

A connection that was written ten times since the last checkpoint is written once. Where a
checkpoint takes several batches all but the last repeat the old marker; a record carries the
ledger sequence that it is as of, so writing it again changes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

import anyio

from runtime.ledger.due_entries import DueEntry, due_key, encode_due
from runtime.ledger.marked_view import MarkedView
from runtime.ledger.partition_streams import Outgoing
from runtime.ledger.subjects import record_key_subject, uuid_text
from runtime.ledger.view_runner import ViewRunner

_BATCH_BYTES_MAX = 1024 * 1024


class Changed(NamedTuple):
    """What is to be stored of one connection."""

    connection_id: UUID
    data: bytes
    due: DueEntry | None = None
    """When it is to be looked at next."""
    is_due_new: bool = True
    """Whether the bucket may lack the entry for that."""

    def after(self, before: "Changed | None") -> "Changed":
        """Return what is to be stored where ``before`` may not have been stored."""
        if before is None or self.is_due_new or self.due is None or before.due is None:
            return self
        return self._replace(is_due_new=before.is_due_new)


class RecordsView(ViewRunner):
    """What the bucket lacks, and its way there. ``run`` must be running."""

    def __init__(
        self,
        mark: MarkedView,
        *,
        partition: int,
        tag: str,
        interval_s: float,
        batch_messages_max: int,
    ) -> None:
        """Follow from where ``mark`` is."""
        super().__init__(mark, partition=partition)
        self._tag = tag
        self._interval_s = interval_s
        self._batch_messages_max = batch_messages_max
        self._lacking: dict[int, Changed] = {}
        self._writing: dict[int, Changed] = {}
        """By the number of the id, which hashes faster."""
        self._is_wanted = anyio.Event()
        self._proofs_wanted = self._proofs = 0
        self.first_minute = 0
        """No entry of the due index is written under an earlier one any more."""
        self.decided: Callable[[Changed], None] = lambda _: None
        """Called with each record, before it is written."""

    def follow(self, seq: int, records: Iterable[Changed]) -> None:
        """Take over what the ledger has stored at ``seq``."""
        for record in records:
            key = record.connection_id.int
            self._lacking[key] = record.after(self._lacking.get(key) or self._writing.get(key))
            self.decided(record)
        self.followed(seq)

    @property
    def held(self) -> list[Changed]:
        """What the bucket may lack."""
        return list({**self._writing, **self._lacking}.values())

    def recall(self, connection_id: UUID) -> bytes | None:
        """Return a record that the bucket may lack, or None."""
        key = connection_id.int
        record = self._lacking.get(key) or self._writing.get(key)
        return None if record is None else record.data

    async def checkpointed(self, *, unless_replaced: bool = False) -> None:
        """Return when the bucket holds everything that was stored before the call."""
        seq = self.followed_seq
        if self.mark.through >= seq:
            return
        self._is_wanted.set()
        await self.reached(seq, unless_replaced=unless_replaced)

    async def proven(self) -> int:
        """Return the marker's sequence when a checkpoint that began after the call is written.

        Whoever takes the partition moves the marker on before it answers anybody, and no earlier
        owner writes over that. So the bucket holds, at the marker that is returned, everything that
        anybody was answered before the call: an owner that was replaced never returns.
        """
        self._proofs_wanted += 1
        number = self._proofs_wanted
        self._is_wanted.set()
        self._arrived.set()
        while self._proofs < number:
            await self._reached.wait()
        return self.mark.seq

    @property
    def has_work(self) -> bool:
        """See ``ViewRunner``."""
        return self.lag > 0 or self._proofs < self._proofs_wanted

    async def pace(self) -> None:
        """Wait for the next checkpoint, or for somebody who wants one now."""
        if not self._is_wanted.is_set():
            with anyio.move_on_after(self._interval_s):
                await self._is_wanted.wait()
        self._is_wanted = anyio.Event()

    async def advance(self) -> None:
        """Write one checkpoint, of the state as of the acknowledged group."""
        through, proofs = self.followed_seq, self._proofs_wanted
        # What a checkpoint that failed has left is older than what came since.
        self._writing, self._lacking = {**self._writing, **self._lacking}, {}
        batches = self._batches()
        last = batches.pop() if batches else []
        for batch in batches:
            await self._write(batch, self.mark.through)
        await self._write(last, through)
        self._writing = {}
        self._proofs = proofs

    async def _write(self, messages: Sequence[Outgoing], through: int) -> None:
        while not await self.mark.write(messages, max(through, self.mark.through)):
            # An earlier batch has moved the marker; ours says more.
            continue

    def _batches(self) -> list[list[Outgoing]]:
        """Return the records in batches that a server takes."""
        batches: list[list[Outgoing]] = []
        size_bytes = 0
        for record in self._writing.values():
            messages = self._messages(record)
            is_full = bool(batches) and (
                len(batches[-1]) + len(messages) > self._batch_messages_max
                or size_bytes + len(record.data) > _BATCH_BYTES_MAX
            )
            if not batches or is_full:
                batches.append([])
                size_bytes = 0
            batches[-1].extend(messages)
            size_bytes += len(record.data)
        return batches

    def _messages(self, record: Changed) -> list[Outgoing]:
        """Return a record, and with it the entry by which it is found in time."""
        key = uuid_text(record.connection_id)
        messages = [Outgoing(record_key_subject(self.partition, key, self._tag), record.data)]
        due = record.due
        if due is not None and record.is_due_new:
            key = due_key(due, max(due.minute, self.first_minute))
            subject = record_key_subject(self.partition, key, self._tag)
            messages.append(Outgoing(subject, encode_due(due)))
        return messages
