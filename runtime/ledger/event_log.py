"""The event log on JetStream: durable, in order, stored once, and fsynced in groups.

With ``sync_interval: always`` the server fsyncs each message, and one stream takes a few
thousand a second. So the appends of all actors are committed together, as a database commits
a group of transactions:

- a few events: each append is a chain, the next message is sent when the last is stored;
  chains of different appends run side by side;
- many: one atomic batch (ADR-50), which is stored whole, in order, and fsynced once. One
  that fails for whatever reason is sent again as chains. ``Nats-Msg-Id`` makes that safe: what
  is stored already is acknowledged as a duplicate.

Either way an event is only sent when the one before it is stored or in the same batch, so on
one connection the order of the stream is the order in which things happened.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from actors.ports import EventLogUnavailableError, Ids
from actors.world import Count, Seconds
from domain.events import Event
from runtime.ledger.cloud_events import CONTENT_TYPE, encode_event
from runtime.ledger.subjects import event_subject
from runtime.logs import log
from runtime.nats.jetstream_api import JetStreamError, read_pub_ack
from runtime.nats.link import LinkError, NatsLink, NoAnswerError

MESSAGE_ID_HEADER = "Nats-Msg-Id"


class EventLogLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a commit. The server takes at most 1,000 messages in a batch."""

    append_timeout_s: Seconds = 1.5
    """How long an append may take before its actor owes the events and goes on."""
    answer_timeout_s: Seconds = 1.0
    batch_events_min: Count = 16
    batch_events_max: Count = 500


class _Message(NamedTuple):
    subject: str
    body: bytes
    message_id: UUID


class _Append(NamedTuple):
    """One actor's events, and who waits for them."""

    messages: tuple[_Message, ...]
    done: asyncio.Future[None]


class JetStreamEventLog:
    """Implements ``actors.ports.EventLog``; ``run`` must be running."""

    def __init__(
        self, link: NatsLink, *, prefix: str, source: str, ids: Ids, limits: EventLogLimits
    ) -> None:
        """Use the stream that ``runtime.ledger.streams`` has made and checked."""
        self._link = link
        self._prefix = prefix
        self._source = source
        self._ids = ids
        self._limits = limits
        self._pending: list[_Append] = []
        self._arrived = asyncio.Event()

    async def append(self, events: Sequence[Event]) -> None:
        """Return when all are stored; see ``EventLog.append``."""
        messages = tuple(
            _Message(
                event_subject(self._prefix, event),
                encode_event(event, source=self._source),
                event.id,
            )
            for event in events
        )
        loop = asyncio.get_running_loop()
        append = _Append(messages, loop.create_future())
        self._pending.append(append)
        self._arrived.set()
        no_answer = NoAnswerError("no answer in time")
        timer = loop.call_later(self._limits.append_timeout_s, _resolve, append, no_answer)
        try:
            await append.done
        except (LinkError, JetStreamError) as error:
            with contextlib.suppress(ValueError):
                self._pending.remove(append)
            raise EventLogUnavailableError(str(error)) from None
        finally:
            timer.cancel()

    async def run(self) -> None:
        """Commit what is pending, group after group, until cancelled."""
        while True:
            await self._arrived.wait()
            group = self._take_group()
            if not self._pending:
                self._arrived.clear()
            if not group:
                continue
            try:
                await self._commit(group)
            except Exception as error:  # noqa: BLE001 -- a bug in one commit must not end all
                log.error("event_commit_crashed", error=type(error).__name__)
                for append in group:
                    _resolve(append, NoAnswerError("internal error"))

    def _take_group(self) -> list[_Append]:
        """Return the oldest appends that fit into one batch; at least one, if any."""
        size = count = 0
        for append in self._pending:
            size += len(append.messages)
            if count and size > self._limits.batch_events_max:
                break
            count += 1
        group, self._pending = self._pending[:count], self._pending[count:]
        return group

    async def _commit(self, group: list[_Append]) -> None:
        """Store a group, as one batch when it is large enough to be worth it."""
        size = sum(len(append.messages) for append in group)
        limits = self._limits
        if limits.batch_events_min <= size <= limits.batch_events_max:
            try:
                await self._store_batch([m for append in group for m in append.messages])
            except (LinkError, JetStreamError) as error:
                log.warning("event_batch_failed", events=size, cause=str(error))
            else:
                for append in group:
                    _resolve(append, None)
                return
        await asyncio.gather(*(self._store_chain(append) for append in group))

    async def _store_chain(self, append: _Append) -> None:
        """Store one append's events one after another; stop at the first that fails."""
        try:
            for message in append.messages:
                answer = await self._link.request(
                    message.subject,
                    message.body,
                    headers=_headers(message),
                    timeout_s=self._limits.answer_timeout_s,
                )
                read_pub_ack(answer)
        except (LinkError, JetStreamError) as error:
            _resolve(append, error)
        else:
            _resolve(append, None)

    async def _store_batch(self, messages: list[_Message]) -> None:
        """Store all or none of ``messages``, in order, with one acknowledgement."""
        batch_id = next(self._ids).hex
        last = len(messages)
        for sequence, message in enumerate(messages, start=1):
            headers = _headers(message) | {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(sequence),
            }
            if sequence < last:
                await self._link.publish(message.subject, message.body, headers=headers)
                continue
            answer = await self._link.request(
                message.subject,
                message.body,
                headers=headers | {"Nats-Batch-Commit": "1"},
                timeout_s=self._limits.answer_timeout_s,
            )
            read_pub_ack(answer)


def _headers(message: _Message) -> dict[str, str]:
    return {MESSAGE_ID_HEADER: str(message.message_id), "content-type": CONTENT_TYPE}


def _resolve(append: _Append, error: Exception | None) -> None:
    """Tell the waiting actor, unless it has stopped waiting."""
    if append.done.done():
        return
    if error is None:
        append.done.set_result(None)
    else:
        append.done.set_exception(error)
