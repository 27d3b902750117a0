"""``connections.list``: pages through the buckets, each in the order of its last writes.

The buckets lag behind the ledger, so each is read behind a checkpoint that its partition's owner,
whichever daemon that is, has written since: a page shows every command that was acknowledged
before it. A partition may change hands between the two: what was written stays written.

A page looks at a bounded number of records, so it may be short, even empty, with a cursor that
says how far it got: the caller goes on until the cursor is null. A bucket holds one message a
connection, and one that is written anew moves to the end. So whatever is written meanwhile, a
connection that was there before the first page is never left out: it lies ahead of the cursor
until it was looked at. Written behind the cursor it comes again, on a later page or, within one
page, in the place of what was found before.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec

from domain.connection import ProviderConnection
from domain.decision import DATABASE_ERROR
from domain.list_query import ListQuery
from domain.record import RecordError, decode_record
from domain.result import Failure, FailureCode, Success
from runtime.ledger.partition_streams import Kept
from runtime.ledger.scanning import Bucket, scan_proven
from runtime.ledger.subjects import is_record_key
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

PAGE_BYTES_MAX = 512 * 1024
"""A page is answered in one message, and a server takes 1 MiB by default."""
_SCAN_MESSAGES_MAX = 500
_CURSOR = re.compile(r"\A([0-9]{1,4})\.([0-9]{1,19})\Z")


View = Callable[[ProviderConnection], dict[str, object]]
"""What a caller is shown of a connection."""
Proven = Callable[[int], Awaitable[int]]
"""Returns a marker's sequence when the partition's bucket holds, at it, all that anybody was
answered before the call; waits for an owner."""
ActionNeeded = Callable[[ProviderConnection], str | None]
"""Tells in words why somebody must act; None: nobody must."""


class _Page:
    """What a page has found so far, and where the next one begins."""

    def __init__(
        self,
        query: ListQuery,
        view: Callable[[ProviderConnection], dict[str, object] | None],
        *,
        partition: int,
        start_seq: int,
        records_max: int,
    ) -> None:
        self._view = view
        self._query = query
        self.partition = partition
        self.next_seq = start_seq
        self._records_left = records_max
        self._size_bytes = 0
        self._found: dict[UUID, dict[str, object]] = {}

    @property
    def messages_wanted(self) -> int:
        """How many messages may be of use, the marker included."""
        wanted = self._records_left
        if not self._query.is_filtered:
            wanted = min(wanted, self._query.limit - len(self._found))
        return min(wanted + 1, _SCAN_MESSAGES_MAX)

    def take(self, kept: Kept) -> bool:
        """Take a record into the page if it is asked for; False: it is for the next page."""
        if is_record_key(kept.key) and not self._take_record(kept.data):
            return False
        self.next_seq = kept.seq + 1
        return True

    def _take_record(self, data: bytes) -> bool:
        if not self._records_left or len(self._found) >= self._query.limit:
            return False
        connection = _connection(data)
        view = None
        if connection is not None and self._query.matches(connection):
            view = self._view(connection)
        if connection is None:
            pass
        elif view is not None:
            size_bytes = len(msgspec.json.encode(view))
            if self._found and self._size_bytes + size_bytes > PAGE_BYTES_MAX:
                return False
            self._size_bytes += size_bytes
            self._found[connection.id] = view
        else:
            self._found.pop(connection.id, None)
        self._records_left -= 1
        return True

    def turn(self) -> None:
        """Go on with the next bucket."""
        self.partition += 1
        self.next_seq = 1

    def value(self, *, ended: bool) -> Success[object]:
        """Return the reply value."""
        cursor = None if ended else f"{self.partition}.{self.next_seq}"
        return Success({"connections": list(self._found.values()), "cursor": cursor})


class Listing:
    """Answers ``connections.list`` from the buckets."""

    def __init__(
        self,
        buckets: Sequence[Bucket],
        *,
        proven: Proven,
        view: View,
        action_needed: ActionNeeded,
        records_max: int,
        read_timeout_s: float,
    ) -> None:
        """Read from the buckets.

        Args:
            buckets: All partitions'.
            proven: See ``Proven``.
            view: How a connection is shown.
            action_needed: What ``needs_action`` of a query asks for, and shows.
            records_max: How many records one page looks at.
            read_timeout_s: How long one answer of a bucket may take.
        """
        self._view = view
        self._action_needed = action_needed
        self._proven = proven
        self._buckets = buckets
        self.records_max = records_max
        self._read_timeout_s = read_timeout_s

    async def page(self, query: ListQuery, timeout_s: float) -> Success[object] | Failure:
        """Return one page, or the failure to answer, within ``timeout_s``."""
        start = self._start(query.cursor)
        if start is None:
            return Failure(
                code=FailureCode.INVALID_COMMAND,
                message="the cursor is not one that a listing returned - at `$.cursor`",
            )
        partition, start_seq = start
        page = _Page(
            query,
            self._with_action if query.needs_action else self._view,
            partition=partition,
            start_seq=start_seq,
            records_max=self.records_max,
        )
        try:
            async with asyncio.timeout(max(min(timeout_s - 0.5, timeout_s * 0.75), 0.01)):
                return page.value(ended=await self._fill(page))
        except TimeoutError:
            if (page.partition, page.next_seq) != start:
                return page.value(ended=False)
            return _database_error("no answer in time")
        except (LinkError, JetStreamError) as error:
            return _database_error(str(error))

    def _with_action(self, connection: ProviderConnection) -> dict[str, object] | None:
        """Return what is shown of a connection that needs somebody to act, or None."""
        action = self._action_needed(connection)
        return None if action is None else {**self._view(connection), "needs_action": action}

    async def _fill(self, page: _Page) -> bool:
        """Read bucket after bucket until the page is full; True: until nothing is left."""
        while page.partition < len(self._buckets):
            marker_seq = await self._proven(page.partition)
            if not await self._read_on(page, marker_seq):
                return False
            page.turn()
        return True

    async def _read_on(self, page: _Page, marker_seq: int) -> bool:
        """Read one bucket until the page is full; True: until nothing is left."""
        while True:
            messages = await scan_proven(
                self._buckets[page.partition],
                page.next_seq,
                marker_seq=marker_seq,
                messages_max=page.messages_wanted,
                timeout_s=self._read_timeout_s,
            )
            if not messages:
                return True
            if not all(page.take(kept) for kept in messages):
                return False

    def _start(self, cursor: str | None) -> tuple[int, int] | None:
        """Return the partition and sequence to begin at, or None for no cursor of ours."""
        if cursor is None:
            return 0, 1
        match = _CURSOR.match(cursor)
        if match is None or int(match[1]) >= len(self._buckets):
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
