"""Whatever is written meanwhile, a listing leaves out nothing that was there all the time.

And no page shows a connection twice; over several pages one that was written may come again.
"""

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import anyio
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.connection import ProviderConnection
from domain.list_query import ListQuery
from domain.record import Record, encode_record
from domain.result import Success
from runtime.gateway.replies import value_body
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.listing import Listing
from runtime.ledger.partition_streams import Kept, Outgoing, View
from runtime.ledger.streams import ensure_streams
from runtime.ledger.subjects import NO_TAG
from runtime.nats.link import Login, NatsLink, open_link
from tests.fakes.buckets import listing_of
from tests.fakes.commands import connection_number
from tests.fakes.connections import active, record_subject
from tests.fakes.memory_streams import MemoryStreams
from tests.fakes.stream_settings import settings_of

ROUNDS = 25
USER = active(connection_number(0)).user_id
STRANGER = UUID(int=99)


async def pages(listing: Listing, query: ListQuery) -> list[list[UUID]]:
    """Follow the cursors to the end."""
    found: list[list[UUID]] = []
    while True:
        result = await listing.page(query, 10.0)
        assert isinstance(result, Success), result
        value = msgspec.json.decode(value_body(result.value))["ok"]
        found.append([UUID(each["id"]) for each in value["connections"]])
        if value["cursor"] is None:
            return found
        query = msgspec.structs.replace(query, cursor=value["cursor"])


async def test_nothing_is_left_out_while_others_create_and_rewrite(
    nats_login: Login, link: NatsLink
):
    settings = settings_of(1)
    await ensure_streams(link, settings)
    ids = [connection_number(number) for number in range(600)]
    listing = listing_of([JetStreamPartition(link, 0, answer_timeout_s=5, tag=NO_TAG)])
    is_over = False

    async with open_link(nats_login, name="writers") as other:

        async def put(connection_id: UUID, generation: int = 1) -> None:
            record = encode_record(
                Record(seq=1, connection=active(connection_id, generation=generation))
            )
            await other.request(record_subject(connection_id, 1), record, timeout_s=5.0)

        async def write(seed: int) -> None:
            draws = random.Random(seed)
            while not is_over:
                # A few at the end, which a page is about to read; now and then one from anywhere,
                # and now and then a new one, though not so many that listing never ends.
                some = draws.choice((ids[-50:], ids[-50:], ids, range(9_000, 9_200)))
                one = draws.choice(some)
                await put(connection_number(one) if isinstance(one, int) else one, 2)

        await asyncio.gather(*map(put, ids))
        writers = [asyncio.create_task(write(seed)) for seed in range(8)]
        rounds = [await pages(listing, ListQuery(limit=250)) for _ in range(ROUNDS)]
        is_over = True
        await asyncio.gather(*writers)

    for found in rounds:
        assert set(ids) <= {each for page in found for each in page}
        assert all(len(set(page)) == len(page) for page in found)


class _WrittenMeanwhile(MemoryStreams):
    """Streams in memory into which others write before each scan, as planned."""

    def __init__(self, plan: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._plan = iter(plan)
        self._generation = 0

    async def put(self, numbers: Sequence[int]) -> None:
        """Write one checkpoint of these connections."""
        self._generation += 1
        some = [connection(number, self._generation) for number in dict.fromkeys(numbers)]
        messages = [
            Outgoing(record_subject(one.id, 1), encode_record(Record(seq=1, connection=one)))
            for one in some
        ]
        marker = await self.marker(View.RECORDS)
        expected_seq = 0 if marker is None else marker.seq
        await self.write(View.RECORDS, messages, b"marker", expected_seq=expected_seq)

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """See ``PartitionStreams``."""
        numbers = next(self._plan, ())
        if numbers:
            await self.put(numbers)
        return await super().scan(start_seq, messages_max=messages_max, timeout_s=timeout_s)


def connection(number: int, generation: int) -> ProviderConnection:
    """Return one; those with an odd number are the stranger's."""
    one = active(connection_number(number), generation=generation)
    return msgspec.structs.replace(one, user_id=STRANGER) if number % 2 else one


@given(
    stored=st.integers(0, 12),
    plans=st.lists(st.lists(st.lists(st.integers(0, 16), max_size=5), max_size=12), max_size=3),
    user_id=st.sampled_from([None, USER, STRANGER]),
    limit=st.integers(1, 5),
    records_max=st.integers(1, 6),
)
def test_no_order_of_pages_and_writes_leaves_a_connection_out(
    stored: int,
    plans: list[list[list[int]]],
    user_id: UUID | None,
    limit: int,
    records_max: int,
):
    buckets = [_WrittenMeanwhile(plan) for plan in plans]

    async def listed() -> list[list[UUID]]:
        for bucket in buckets:
            await bucket.put(range(stored))
        listing = listing_of(buckets, records_max=records_max)
        return await pages(listing, ListQuery(limit=limit, user_id=user_id))

    found = anyio.run(listed)

    there = [connection(number, 1) for number in range(stored) if buckets]
    wanted = {one.id for one in there if user_id in (None, one.user_id)}
    assert wanted <= {each for page in found for each in page}
    assert all(len(set(page)) == len(page) <= limit for page in found)
