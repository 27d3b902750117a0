"""``connections.list``: pages through the buckets, each in the order of its last writes.

The buckets lag behind the ledger, so a page begins with a checkpoint: it shows every command
that was acknowledged before it.

A page reads at most ``RECORDS_MAX`` records and may be short, even empty, with a cursor: the
caller goes on until the cursor is null. A connection that is written while a listing is under
way may be listed twice, on two pages; none that was there all the time is left out.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable

import msgspec

from domain.connection import ProviderConnection
from domain.decision import DATABASE_ERROR
from domain.list_query import ListQuery
from domain.record import RecordError, decode_record
from domain.result import Failure, FailureCode, Success
from runtime.ledger.subjects import MARKER_KEY, bucket_stream
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream

RECORDS_MAX = 5_000
"""How many records one page looks at."""
PAGE_BYTES_MAX = 512 * 1024
"""A page is answered in one message, and a server takes 1 MiB by default."""
_CURSOR = re.compile(r"\A([0-9]{1,4})\.([0-9]{1,19})\Z")


View = Callable[[ProviderConnection], dict[str, object]]
"""What a caller is shown of a connection."""


class _PageFullError(Exception):
    """Ends the reading of a page."""


class _Page:
    """What a page has found so far, and where the next one begins."""

    def __init__(self, query: ListQuery, view: View, partition: int, start_seq: int) -> None:
        self._view = view
        self.query = query
        self.partition = partition
        self.next_seq = start_seq
        self.found: list[dict[str, object]] = []
        self.records = 0
        self.size_bytes = 0

    def look_at(self, sequence: int, data: bytes) -> None:
        """Take a record into the page if it is asked for, or leave it to the next page."""
        if self.records >= RECORDS_MAX or len(self.found) >= self.query.limit:
            raise _PageFullError
        connection = _connection(data)
        if connection is not None and self.query.matches(connection):
            view = self._view(connection)
            self.size_bytes += len(msgspec.json.encode(view))
            if self.size_bytes > PAGE_BYTES_MAX and self.found:
                raise _PageFullError
            self.found.append(view)
        self.records += 1
        self.next_seq = sequence + 1

    def value(self, *, ended: bool) -> Success[object]:
        """Return the reply value."""
        cursor = None if ended else f"{self.partition}.{self.next_seq}"
        return Success({"connections": self.found, "cursor": cursor})


class Listing:
    """Answers ``connections.list`` from the buckets."""

    def __init__(
        self,
        link: NatsLink,
        *,
        partitions: int,
        view: View,
        checkpointed: Callable[[], Awaitable[None]],
    ) -> None:
        """Read through ``link``.

        Args:
            link: To the buckets.
            partitions: How many there are.
            view: How a connection is shown.
            checkpointed: Returns when the buckets hold all that was stored before.
        """
        self._view = view
        self._checkpointed = checkpointed
        self._link = link
        self._partitions = partitions

    async def page(self, query: ListQuery, timeout_s: float) -> Success[object] | Failure:
        """Return one page, or the failure to answer, within ``timeout_s``."""
        start = self._start(query.cursor)
        if start is None:
            return Failure(
                code=FailureCode.INVALID_COMMAND,
                message="the cursor is not one that a listing returned - at `$.cursor`",
            )
        page = _Page(query, self._view, *start)
        try:
            async with asyncio.timeout(max(min(timeout_s - 0.5, timeout_s * 0.75), 0.01)):
                return await self._fill(page)
        except _PageFullError:
            return page.value(ended=False)
        except TimeoutError:
            if page.records:
                return page.value(ended=False)
            return _database_error("no answer in time")
        except (LinkError, JetStreamError) as error:
            return _database_error(str(error))

    async def _fill(self, page: _Page) -> Success[object]:
        """Read bucket after bucket, of which each holds all that was acknowledged before."""
        await self._checkpointed()
        while page.partition < self._partitions:
            stream = bucket_stream(page.partition)
            async for message in read_stream(self._link, stream, start_seq=page.next_seq):
                if not message.subject.endswith(f".{MARKER_KEY}"):
                    page.look_at(message.sequence, message.data)
            page.partition += 1
            page.next_seq = 1
        return page.value(ended=True)

    def _start(self, cursor: str | None) -> tuple[int, int] | None:
        """Return the partition and sequence to begin at, or None for no cursor of ours."""
        if cursor is None:
            return 0, 1
        match = _CURSOR.match(cursor)
        if match is None or int(match[1]) >= self._partitions:
            return None
        return int(match[1]), min(max(int(match[2]), 1), 2**63 - 1)


def _connection(data: bytes) -> ProviderConnection | None:
    """Return the connection in a record; one that cannot be read is logged and passed over."""
    if not data:
        return None
    try:
        return decode_record(data).connection
    except RecordError as error:
        log.error("record_unreadable", cause=str(error))
        return None


def _database_error(cause: str) -> Failure:
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message=f"{DATABASE_ERROR}: {cause}",
        retry_after_s=1.0,
    )
