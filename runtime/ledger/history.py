"""What happened to one connection, newest first: read from the end of the event stream.

A connection's events lie on a dozen subjects at most. The last on each is one request; from then on
each event that is taken is replaced by the one before it on its subject. So what it costs depends
on how many are wanted, and not on how long the stream is.
"""

import math
import time

import msgspec

from actors.world import database_error
from domain.list_query import HistoryQuery
from domain.result import Failure, Success
from runtime.ledger.subjects import event_stream, events_filter
from runtime.nats.direct_get import last_messages
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import StoredMessage
from runtime.nats.link import NatsLink

BYTES_MAX = 512 * 1024
"""How large a page may become; it always has one event."""
_event = msgspec.json.Decoder(dict[str, msgspec.Raw])


class History:
    """Answers ``connection.<id>.history``; any member can."""

    def __init__(self, link: NatsLink, *, prefix: str, tag: str) -> None:
        """Read the event stream of a prefix over ``link``."""
        self._link = link
        self._prefix = prefix
        self._stream = event_stream(tag)

    async def page(
        self, connection_id: str, query: HistoryQuery, timeout_s: float
    ) -> Success[object] | Failure:
        """Return ``{"events": [{"sequence", "event"}, ...], "cursor"}``, the newest event last.

        The cursor is the ``before`` of the page before this one; None: there is none. An event is
        there some 50 ms after its command was acknowledged.
        """
        subject = events_filter(self._prefix, connection_id=connection_id)
        try:
            found, has_more = await self._newest(subject, query, timeout_s)
        except LinkError as error:
            return database_error(str(error))
        events = [
            {"sequence": one.seq, "event": msgspec.Raw(one.data)} for one in found if _is_event(one)
        ]
        cursor = found[-1].seq if has_more else None
        return Success({"events": events[::-1], "cursor": cursor})

    async def _newest(
        self, subject: str, query: HistoryQuery, timeout_s: float
    ) -> tuple[list[StoredMessage], bool]:
        """Return messages, the newest first, and whether there are older ones."""
        ends_s = time.monotonic() + timeout_s
        found: list[StoredMessage] = []
        size_bytes = 0
        heads = await self._last(subject, _before(query.before), ends_s)
        while heads:
            head = max(heads.values(), key=lambda one: one.seq)
            size_bytes += len(head.data)
            if len(found) == query.limit or (found and size_bytes > BYTES_MAX):
                return found, True
            found.append(head)
            del heads[head.subject]
            heads |= await self._last(head.subject, head.seq - 1, ends_s)
        return found, False

    async def _last(
        self, subject: str, up_to_seq: float, ends_s: float
    ) -> dict[str, StoredMessage]:
        """Return the last message on each subject up to a sequence."""
        if up_to_seq < 1:
            return {}
        left_s = ends_s - time.monotonic()
        return await last_messages(
            self._link,
            self._stream,
            [subject],
            timeout_s=max(left_s, 0.001),
            up_to_seq=None if math.isinf(up_to_seq) else int(up_to_seq),
        )


def _before(cursor: int | None) -> float:
    return math.inf if cursor is None else cursor - 1


def _is_event(message: StoredMessage) -> bool:
    """Whether a message is JSON: who may publish events of ours may publish what is none."""
    try:
        _event.decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
