"""A connection's history is read from its end, page by page, whatever else is in the stream."""

import json
from typing import Any
from uuid import UUID

import pytest

from domain.list_query import HistoryQuery
from domain.result import Failure, FailureCode, Success
from runtime.ledger import history
from runtime.ledger.history import History
from runtime.ledger.streams import ensure_streams
from runtime.ledger.subjects import EVENT_STREAM, NO_TAG
from runtime.nats.direct_get import last_messages
from runtime.nats.jetstream_api import StoredMessage
from runtime.nats.link import NatsLink
from tests.fakes.stream_settings import settings_of

ID = UUID("0195e4a0-0000-7000-8000-000000000001")
OTHER = UUID("0195e4a0-0000-7000-8000-000000000002")
PREFIX = "refreshd.v1"


async def tell(link: NatsLink, *numbers: int, of: UUID = ID, slug: str = "fake") -> None:
    """Publish events; of five kinds, as their numbers go."""
    for number in numbers:
        step = ("connection", "disconnection", "token_refresh", "status")[number % 4]
        subject = f"{PREFIX}.event.{slug}.{of}.{step}.attempted"
        await link.request(subject, json.dumps({"number": number}).encode(), timeout_s=5)


@pytest.fixture
async def told(link: NatsLink) -> History:
    """The history of a stream that was just made."""
    await ensure_streams(link, settings_of(1))
    return History(link, prefix=PREFIX, tag=NO_TAG)


async def page(told: History, *, of: UUID = ID, **query: Any) -> tuple[list[int], int | None]:
    """Return the numbers of a page's events, and its cursor."""
    found = await told.page(str(of), HistoryQuery(**query), 10.0)
    assert isinstance(found, Success)
    value: Any = found.value
    events = [json.loads(bytes(one["event"])) for one in value["events"]]
    return [event["number"] for event in events], value["cursor"]


async def test_the_newest_events_come_last_and_nobody_elses(told: History, link: NatsLink):
    await tell(link, 0, 1, 2)
    await tell(link, 90, 91, of=OTHER)
    await tell(link, 3, 4, 5)
    await tell(link, 6, slug="unknown")

    assert await page(told) == ([0, 1, 2, 3, 4, 5, 6], None)
    assert await page(told, of=OTHER) == ([90, 91], None)


async def test_pages_lead_back_to_the_first_event_without_gap_or_repeat(
    told: History, link: NatsLink
):
    await tell(link, *range(7))

    pages: list[list[int]] = []
    cursor: int | None = None
    while True:
        numbers, cursor = await page(told, before=cursor, limit=3)
        pages.append(numbers)
        if cursor is None:
            break

    assert pages == [[4, 5, 6], [1, 2, 3], [0]]


async def test_what_was_told_meanwhile_does_not_move_the_page_before(told: History, link: NatsLink):
    await tell(link, *range(4))
    _, cursor = await page(told, limit=2)
    await tell(link, *range(4, 9))

    assert await page(told, before=cursor, limit=2) == ([0, 1], None)


async def test_who_has_no_events_has_an_empty_history(told: History):
    assert await page(told) == ([], None)


async def test_a_page_is_bounded_in_bytes_too(
    told: History, link: NatsLink, monkeypatch: pytest.MonkeyPatch
):
    await tell(link, *range(5))
    monkeypatch.setattr(history, "BYTES_MAX", 30)

    assert await page(told) == ([3, 4], 4)


async def test_what_is_no_event_is_left_out(told: History, link: NatsLink):
    await tell(link, 0)
    await link.request(f"{PREFIX}.event.fake.{ID}.status.changed", b"no event", timeout_s=5)
    await tell(link, 1)

    assert await page(told) == ([0, 1], None)


async def test_a_stream_that_nobody_answers_for_is_a_failure(link: NatsLink):
    found = await History(link, prefix=PREFIX, tag=NO_TAG).page(str(ID), HistoryQuery(), 5.0)

    assert isinstance(found, Failure)
    assert found.code is FailureCode.DATABASE_ERROR


async def test_the_last_message_as_of_a_sequence_is_found(told: History, link: NatsLink):
    await tell(link, 0, 4, 8)

    async def last(up_to_seq: int | None) -> list[StoredMessage]:
        subject = f"{PREFIX}.event.*.{ID}.>"
        found = await last_messages(link, EVENT_STREAM, [subject], timeout_s=5, up_to_seq=up_to_seq)
        return [*found.values()]

    assert [one.seq for one in await last(None)] == [3]
    assert [one.seq for one in await last(2)] == [2]
    assert [one.data for one in await last(1)] == [b'{"number": 0}']
