"""A listing covers every connection once, page by page, and no page is too large to send."""

import random
from collections.abc import Sequence
from uuid import UUID

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from domain.connection import ConnectionStatus, ProviderConnection
from domain.list_query import ListQuery
from domain.record import Record, encode_record
from domain.result import Failure, FailureCode, Success
from runtime.gateway.replies import value_body
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.listing import Listing
from runtime.ledger.partition_streams import Kept
from runtime.ledger.streams import ensure_streams
from runtime.ledger.subjects import (
    MARKER_KEY,
    NO_TAG,
    bucket_stream,
    partition_of,
    record_key_subject,
)
from runtime.nats.link import NatsLink
from tests.fakes.buckets import listing_of
from tests.fakes.commands import connection_number
from tests.fakes.connections import active, record_subject
from tests.fakes.memory_streams import MemoryStreams
from tests.fakes.stream_settings import settings_of

PARTITIONS = 3
STRANGER = UUID(int=99)


@pytest.fixture
async def listing(link: NatsLink) -> Listing:
    settings = settings_of(PARTITIONS)
    await ensure_streams(link, settings)
    return listing_of(
        [
            JetStreamPartition(link, number, answer_timeout_s=5, tag=NO_TAG)
            for number in range(PARTITIONS)
        ]
    )


async def put(link: NatsLink, connection: ProviderConnection) -> None:
    record = encode_record(Record(seq=1, connection=connection))
    await put_bytes(link, connection.id, record)


async def put_bytes(link: NatsLink, connection_id: UUID, data: bytes) -> None:
    await link.request(record_subject(connection_id, PARTITIONS), data, timeout_s=5.0)


async def put_many(link: NatsLink, count: int) -> list[UUID]:
    ids = [connection_number(number) for number in range(count)]
    for connection_id in ids:
        await put(link, active(connection_id))
    return ids


async def page(listing: Listing, query: ListQuery) -> tuple[list[UUID], str | None, int]:
    """Return a page's ids, its cursor and the size of its answer."""
    result = await listing.page(query, 5.0)
    assert isinstance(result, Success), result
    body = value_body(result.value)
    value = msgspec.json.decode(body)["ok"]
    return [UUID(each["id"]) for each in value["connections"]], value["cursor"], len(body)


async def pages(listing: Listing, query: ListQuery) -> list[list[UUID]]:
    """Follow the cursors to the end."""
    found: list[list[UUID]] = []
    while True:
        ids, cursor, _ = await page(listing, query)
        found.append(ids)
        if cursor is None:
            return found
        query = msgspec.structs.replace(query, cursor=cursor)


async def all_of(listing: Listing, query: ListQuery) -> list[UUID]:
    return [each for ids in await pages(listing, query) for each in ids]


async def test_nothing_stored_is_one_empty_page(listing: Listing):
    assert await page(listing, ListQuery()) == (
        [],
        None,
        len(b'{"ok":{"connections":[],"cursor":null}}'),
    )


@pytest.mark.parametrize("limit", [1, 2, 7, 40, 41, 1000])
async def test_pages_of_any_size_cover_everything_once(
    link: NatsLink, listing: Listing, limit: int
):
    ids = await put_many(link, 40)

    found = await pages(listing, ListQuery(limit=limit))

    assert sorted(each for part in found for each in part) == ids
    assert max(len(part) for part in found) <= limit


async def test_a_connection_is_listed_as_it_is_got_and_without_its_credentials(
    link: NatsLink, listing: Listing
):
    await put(link, active(connection_number(1)))

    result = await listing.page(ListQuery(), 5.0)

    assert isinstance(result, Success)
    [view] = msgspec.json.decode(value_body(result.value))["ok"]["connections"]
    assert view["credentials"] == {
        "credential_type": "oauth2",
        "expires_at": "2026-01-01T00:00:00Z",
    }
    assert view["status"] == "active"
    assert view["generation"] == 1


async def test_a_listing_shows_the_last_write_of_each_connection(link: NatsLink, listing: Listing):
    ids = await put_many(link, 5)
    for connection_id in ids[:3]:
        await put(link, active(connection_id, generation=2))

    assert sorted(await all_of(listing, ListQuery(limit=2))) == ids


async def test_filters_choose_by_user_provider_and_status(link: NatsLink, listing: Listing):
    base = active(connection_number(0))
    others = {
        connection_number(1): {"user_id": STRANGER},
        connection_number(2): {"provider_slug": "google"},
        connection_number(3): {"status": ConnectionStatus.EXPIRED},
        connection_number(4): {"user_id": STRANGER, "provider_slug": "google"},
    }
    await put(link, base)
    for connection_id, changes in others.items():
        await put(link, msgspec.structs.replace(base, id=connection_id, **changes))

    async def chosen(query: ListQuery) -> list[int]:
        return sorted(each.int & 0xFF for each in await all_of(listing, query))

    assert await chosen(ListQuery()) == [0, 1, 2, 3, 4]
    assert await chosen(ListQuery(user_id=STRANGER)) == [1, 4]
    assert await chosen(ListQuery(provider_slug="google")) == [2, 4]
    assert await chosen(ListQuery(status="expired")) == [3]
    assert await chosen(ListQuery(user_id=STRANGER, provider_slug="google", limit=1)) == [4]
    assert await chosen(ListQuery(status="revoked")) == []


async def test_who_needs_somebody_to_act_is_shown_with_the_reason(link: NatsLink, listing: Listing):
    ids = await put_many(link, 9)
    ended = ConnectionStatus.REVOKED
    await put(link, msgspec.structs.replace(active(ids[4]), status=ended))

    result = await listing.page(ListQuery(needs_action=True, limit=2), 5.0)
    none = await all_of(listing, ListQuery(needs_action=True, status="active"))

    assert isinstance(result, Success)
    value = msgspec.json.decode(value_body(result.value))["ok"]
    told = [(one["id"], one["needs_action"]) for one in value["connections"]]
    assert told == [(str(ids[4]), "the connection is revoked since 2026-01-01T00:00:00Z")]
    assert value["cursor"] is None
    assert none == []


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "0",
        "0.",
        ".1",
        "-1.1",
        "0.-1",
        "3.1",
        "9999.1",
        "0.1.1",
        "0.1 ",
        " 0.1",
        "0.1\n",
        "0.12345678901234567890",
        "\u0660.1",
        "0x1.1",
    ],
)
async def test_a_cursor_that_no_listing_returned_is_an_invalid_command(
    listing: Listing, cursor: str
):
    result = await listing.page(ListQuery(cursor=cursor), 5.0)

    assert isinstance(result, Failure)
    assert result.code is FailureCode.INVALID_COMMAND
    assert "$.cursor" in result.message


@pytest.mark.parametrize("cursor", ["2.1", "2.0", "2.9999999999999999999", "0.9223372036854775807"])
async def test_a_cursor_beyond_the_end_goes_on_from_there(
    link: NatsLink, listing: Listing, cursor: str
):
    ids = await put_many(link, 10)

    assert set(await all_of(listing, ListQuery(cursor=cursor))) <= set(ids)


async def test_records_that_cannot_be_read_are_passed_over(link: NatsLink, listing: Listing):
    ids = await put_many(link, 10)
    draws = random.Random(1)
    for number, data in enumerate(
        (b"rubbish", b"", draws.randbytes(500), b"\x81\xa1v\xcd\x03\xe8")
    ):
        await put_bytes(link, connection_number(100 + number), data)

    assert sorted(await all_of(listing, ListQuery(limit=3))) == ids


async def test_a_listing_shows_everything_that_was_acknowledged_before_it(
    link: NatsLink, listing: Listing
):
    """The buckets lag behind: each is read after it has caught up."""
    ids = [connection_number(number) for number in range(12)]

    async def proven(partition: int) -> int:
        for one in ids:
            if partition_of(one, PARTITIONS) == partition:
                await put(link, active(one))
        return 0

    listing._proven = proven

    assert sorted(await all_of(listing, ListQuery())) == ids


async def test_a_replica_that_lacks_the_last_checkpoint_is_asked_again():
    connection = active(connection_number(1))
    record = encode_record(Record(seq=1, connection=connection))
    answers = iter([[], [Kept(7, str(connection.id), record), Kept(8, MARKER_KEY, b"m")], []])

    class Lagging(MemoryStreams):
        async def scan(
            self, start_seq: int, *, messages_max: int, timeout_s: float
        ) -> Sequence[Kept]:
            return next(answers)

    async def proven(_partition: int) -> int:
        return 8

    listing = listing_of([Lagging()])
    listing._proven = proven

    assert await all_of(listing, ListQuery()) == [connection.id]


async def test_what_was_found_is_a_page_where_the_next_partition_is_nobodys(
    link: NatsLink, listing: Listing
):
    ids = await put_many(link, 40)

    async def proven(partition: int) -> int:
        if partition == 1:
            await anyio.sleep_forever()
        return 0

    listing._proven = proven

    result = await listing.page(ListQuery(), 0.4)
    nothing = await listing.page(ListQuery(cursor="1.1"), 0.4)

    assert isinstance(result, Success)
    value = msgspec.json.decode(value_body(result.value))["ok"]
    here = {str(one) for one in ids if partition_of(one, PARTITIONS) == 0}
    assert {one["id"] for one in value["connections"]} == here
    assert value["cursor"] == "1.1"
    assert isinstance(nothing, Failure)
    assert nothing.code is FailureCode.DATABASE_ERROR
    assert nothing.retry_after_s == 1.0


async def test_a_marker_is_no_connection(link: NatsLink, listing: Listing):
    ids = await put_many(link, 3)
    for partition in range(PARTITIONS):
        await link.request(
            record_key_subject(partition, MARKER_KEY, NO_TAG), b"marker", timeout_s=5.0
        )

    with capture_logs() as logs:
        assert sorted(await all_of(listing, ListQuery(limit=1))) == ids
    assert logs == []


async def test_no_page_is_too_large_for_one_message(link: NatsLink, listing: Listing):
    params = {f"{number:060}": "\x01" * 256 for number in range(32)}
    ids = [connection_number(number) for number in range(40)]
    for connection_id in ids:
        await put(link, msgspec.structs.replace(active(connection_id), params=params))
    query = ListQuery(limit=1000)
    found: list[UUID] = []

    while True:
        listed, cursor, size_bytes = await page(listing, query)
        assert size_bytes < 1024 * 1024 - 1024
        assert listed
        found += listed
        if cursor is None:
            break
        query = ListQuery(limit=1000, cursor=cursor)

    assert sorted(found) == ids
    assert len(found) == 40


async def test_a_page_looks_at_so_many_records_and_no_more(link: NatsLink, listing: Listing):
    listing.records_max = 10
    ids = await put_many(link, 35)
    wanted = msgspec.structs.replace(active(ids[17]), user_id=STRANGER)
    await put(link, wanted)

    found = await pages(listing, ListQuery(user_id=STRANGER))

    assert [each for part in found for each in part] == [ids[17]]
    assert 4 <= len(found) <= 5


async def test_many_records_are_listed_in_several_batches(link: NatsLink, listing: Listing):
    ids = await put_many(link, 1700)

    found = await all_of(listing, ListQuery(limit=1000))

    assert sorted(found) == ids


async def test_a_connection_that_was_there_all_the_time_is_not_left_out_by_writes(
    link: NatsLink, listing: Listing
):
    ids = await put_many(link, 30)
    found: list[UUID] = []
    query = ListQuery(limit=4)
    generation = 2

    while True:
        listed, cursor, _ = await page(listing, query)
        found += listed
        if cursor is None or generation > 60:
            break
        await put(link, active(ids[generation % 30], generation=generation))
        generation += 1
        query = ListQuery(limit=4, cursor=cursor)

    assert set(found) == set(ids)


async def test_a_stream_that_is_gone_is_a_database_error(link: NatsLink, listing: Listing):
    await link.request(f"$JS.API.STREAM.DELETE.{bucket_stream(1, NO_TAG)}", b"", timeout_s=5.0)

    result = await listing.page(ListQuery(), 5.0)

    assert isinstance(result, Failure)
    assert result.code is FailureCode.DATABASE_ERROR
