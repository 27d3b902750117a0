"""The connection store on JetStream: one KV bucket per partition, written by compare-and-set.

What an answer to a write means (NATS.md 2.4-2.6):

==========================================  =======================================================
an acknowledgement                          applied
10071, wrong last sequence                  ours or another's was applied before: the leader's
                                            record tells, by its op_id
10164, another write in flight              not applied; the same bytes again, after a pause
not sent, no responders                     this copy was not applied; again, then "unavailable"
any other JetStream error                   not applied: "unavailable"
time-out, connection lost, odd answer       unknown; the same bytes again until one of the above
==========================================  =======================================================
"""

import asyncio
import random
from uuid import UUID

import msgspec

from actors.ports import (
    OutcomeUnknownError,
    Stored,
    StoreUnavailableError,
    Write,
    WriteConflictError,
)
from actors.world import Seconds
from domain.record import Record, RecordError, decode_record, encode_record
from runtime.ledger.subjects import bucket_stream, partition_of, record_subject
from runtime.logs import log
from runtime.nats.jetstream_api import (
    ANOTHER_WRITE_IN_FLIGHT,
    WRONG_LAST_SEQUENCE,
    JetStreamError,
    last_message,
    read_pub_ack,
)
from runtime.nats.link import (
    LinkError,
    NatsLink,
    NoAnswerError,
    NoRespondersError,
    NotSentError,
)

EXPECTED_SEQUENCE_HEADER = "Nats-Expected-Last-Subject-Sequence"


class StoreLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the store tries. Two writes in a row must fit into a caller's four seconds."""

    load_timeout_s: Seconds = 1.5
    write_timeout_s: Seconds = 1.5
    answer_timeout_s: Seconds = 1.0
    """How long one copy of a write waits for its answer."""
    retry_pause_s: Seconds = 0.05
    """The mean pause between copies; jittered by half."""


class JetStreamConnectionStore:
    """Implements ``actors.ports.ConnectionStore``."""

    def __init__(self, link: NatsLink, *, partitions: int, limits: StoreLimits) -> None:
        """Use buckets that ``runtime.ledger.streams`` has made and checked."""
        self._link = link
        self._partitions = partitions
        self._limits = limits

    async def load(self, connection_id: UUID) -> Stored:
        """Return what the stream's leader holds; see ``ConnectionStore.load``."""
        until_s = _now_s() + self._limits.load_timeout_s
        while True:
            left_s = until_s - _now_s()
            try:
                return await self._read(connection_id, timeout_s=max(left_s, 0.01))
            except (NotSentError, NoRespondersError) as error:
                if left_s <= self._limits.retry_pause_s:
                    raise StoreUnavailableError(str(error)) from None
                await self._pause()
            except (LinkError, JetStreamError) as error:
                raise StoreUnavailableError(str(error)) from None

    async def write(self, write: Write) -> int:
        """Write by compare-and-set; see ``ConnectionStore.write`` and the table above."""
        record = encode_record(Record(op_id=write.op_id, connection=write.connection))
        subject = record_subject(write.connection.id, self._partitions)
        headers = {EXPECTED_SEQUENCE_HEADER: str(write.expected_revision)}
        until_s = _now_s() + self._limits.write_timeout_s
        in_doubt = False
        while True:
            left_s = max(until_s - _now_s(), 0.01)
            try:
                answer = await self._link.request(
                    subject,
                    record,
                    headers=headers,
                    timeout_s=min(left_s, self._limits.answer_timeout_s),
                )
                return read_pub_ack(answer).seq
            except (NotSentError, NoRespondersError) as error:
                cause = str(error)
            except NoAnswerError as error:
                in_doubt, cause = True, str(error)
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    return await self._revision_if_ours(write)
                if error.err_code != ANOTHER_WRITE_IN_FLIGHT:
                    raise _given_up(str(error), in_doubt=in_doubt) from None
                cause = str(error)
            if until_s - _now_s() <= self._limits.retry_pause_s:
                raise _given_up(cause, in_doubt=in_doubt)
            await self._pause()

    async def _revision_if_ours(self, write: Write) -> int:
        """After "wrong last sequence": return our own write's revision, or tell of the conflict."""
        connection_id = write.connection.id
        stream = bucket_stream(partition_of(connection_id, self._partitions))
        try:
            message = await last_message(
                self._link,
                stream,
                record_subject(connection_id, self._partitions),
                timeout_s=self._limits.answer_timeout_s,
            )
        except (LinkError, JetStreamError) as error:
            raise OutcomeUnknownError(str(error)) from None
        if message is not None and message.data:
            try:
                if decode_record(message.data).op_id == write.op_id:
                    return message.seq
            except RecordError:
                pass
        raise WriteConflictError

    async def _read(self, connection_id: UUID, *, timeout_s: float) -> Stored:
        """Read the record once."""
        stream = bucket_stream(partition_of(connection_id, self._partitions))
        subject = record_subject(connection_id, self._partitions)
        message = await last_message(self._link, stream, subject, timeout_s=timeout_s)
        if message is None:
            return Stored(None, 0)
        if not message.data:
            # An operator deleted the key by hand: a marker without a value.
            return Stored(None, message.seq)
        try:
            connection = decode_record(message.data).connection
        except RecordError as error:
            log.error("record_unreadable", connection_id=str(connection_id), cause=str(error))
            raise StoreUnavailableError("the record cannot be read") from None
        if connection.id != connection_id:
            log.error("record_misplaced", connection_id=str(connection_id))
            raise StoreUnavailableError("the record is another connection's")
        return Stored(connection, message.seq)

    async def _pause(self) -> None:
        """Wait a moment before the next copy, not in step with the other writers."""
        await asyncio.sleep(self._limits.retry_pause_s * random.uniform(0.5, 1.5))  # noqa: S311


def _given_up(cause: str, *, in_doubt: bool) -> Exception:
    """Return what to raise when no copy was answered in time."""
    return OutcomeUnknownError(cause) if in_doubt else StoreUnavailableError(cause)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
