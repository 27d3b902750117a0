"""Every event is a CloudEvent 1.0 in structured JSON, by the judgement of the reference SDK."""

import json
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as ReferenceEvent
from hypothesis import given
from hypothesis import strategies as st

from domain import events
from domain.connection import ConnectionStatus
from domain.events import Event
from domain.trace import Trace
from runtime.ledger.cloud_events import CONTENT_TYPE, encode_event, trace_lines
from runtime.ledger.subjects import event_subject
from tests.domain.shapes import CONNECTION_ID, PROVIDER_ID, USER_ID

EVENT_ID = UUID("01890000-0000-7000-8000-0000000000e1")
OCCURRED_AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
SOURCE = "/refreshd/d-1"
SHARED: dict[str, Any] = {
    "id": EVENT_ID,
    "occurred_at": OCCURRED_AT,
    "user_id": USER_ID,
    "connection_id": CONNECTION_ID,
    "provider_id": PROVIDER_ID,
    "provider_slug": "schwab",
}
SHARED_DATA = {
    "user_id": "01890000-0000-7000-8000-0000000000a1",
    "connection_id": "01890000-0000-7000-8000-00000000c0de",
    "provider_id": "01890000-0000-7000-8000-0000000000b1",
    "provider_slug": "schwab",
}
REASON = {"reason": "Connection is not active"}
CHANGE: dict[str, Any] = {"from_status": "active", "to_status": "expired", "reason": None}

# The type, what it says beyond the shared fields, and the end of its subject.
EVENTS: list[tuple[type[Event], dict[str, Any], str]] = [
    (events.ProviderConnectionAttempted, {}, "connection.attempted"),
    (events.ProviderConnectionSucceeded, {}, "connection.succeeded"),
    (events.ProviderConnectionFailed, REASON, "connection.failed"),
    (events.ProviderDisconnectionAttempted, {}, "disconnection.attempted"),
    (events.ProviderDisconnectionSucceeded, {}, "disconnection.succeeded"),
    (events.ProviderDisconnectionFailed, REASON, "disconnection.failed"),
    (events.ProviderTokenRefreshAttempted, {}, "token_refresh.attempted"),
    (events.ProviderTokenRefreshSucceeded, {}, "token_refresh.succeeded"),
    (
        events.ProviderTokenRefreshFailed,
        {**REASON, "needs_user_action": True},
        "token_refresh.failed",
    ),
    (
        events.ProviderConnectionStatusChanged,
        {**CHANGE, "reason": "user said so"},
        "status.changed",
    ),
    (events.ProviderConnectionStatusChanged, {**CHANGE, "reason": None}, "status.changed"),
    (
        events.ProviderGrantExpiring,
        {"grant_ends_at": "2026-08-01T00:00:00Z", "within_s": 86_400, "cause": "idle"},
        "status.changed",
    ),
    (events.ProviderGrantNeedsReauth, REASON, "status.changed"),
    (events.ProviderGrantRecovered, {}, "status.changed"),
    (
        events.ProviderClientPaused,
        {"code": "invalid_client", "reason": "No such client"},
        "status.changed",
    ),
    (events.ProviderClientResumed, {}, "status.changed"),
]
each_event = pytest.mark.parametrize(
    ("kind", "extra", "subject"),
    EVENTS,
    ids=[f"{kind.__name__}-{len(str(extra))}" for kind, extra, _ in EVENTS],
)


def event_of(kind: type[Event], extra: dict[str, Any]) -> Event:
    """Return an event of ``kind``."""
    return msgspec.convert({**SHARED, **extra}, kind)


def accepted(body: bytes) -> tuple[dict[str, Any], Any]:
    """Return the attributes and the data that the reference SDK reads."""
    event = JSONFormat().read(None, body)
    assert isinstance(event, ReferenceEvent)
    return event.get_attributes(), event.get_data()


def test_every_type_of_event_is_in_the_table() -> None:
    assert {kind for kind, _, _ in EVENTS} == set(get_args(Event))


@each_event
def test_the_reference_sdk_reads_the_attributes_of_the_contract(
    kind: type[Event], extra: dict[str, Any], subject: str
) -> None:
    attributes, _ = accepted(encode_event(event_of(kind, extra), source=SOURCE).body)

    assert attributes == {
        "specversion": "1.0",
        "id": str(EVENT_ID),
        "source": SOURCE,
        "type": kind.__name__,
        "subject": str(CONNECTION_ID),
        "time": OCCURRED_AT,
        "datacontenttype": "application/json",
    }


@each_event
def test_the_data_are_the_fields_and_nothing_else(
    kind: type[Event], extra: dict[str, Any], subject: str
) -> None:
    _, data = accepted(encode_event(event_of(kind, extra), source=SOURCE).body)

    assert data == {**SHARED_DATA, **extra}


@each_event
def test_the_event_can_be_had_back(kind: type[Event], extra: dict[str, Any], subject: str) -> None:
    event = event_of(kind, extra)

    body = json.loads(encode_event(event, source=SOURCE).body)

    fields = {"id": body["id"], "occurred_at": body["time"], **body["data"]}
    assert body["type"] == type(event).__name__
    assert msgspec.convert(fields, kind) == event


@each_event
def test_the_subject_tells_workflow_and_outcome(
    kind: type[Event], extra: dict[str, Any], subject: str
) -> None:
    event = event_of(kind, extra)

    assert event_subject("refreshd.v1", event, str(event.connection_id)) == (
        f"refreshd.v1.event.schwab.{CONNECTION_ID}.{subject}"
    )


@given(
    reason=st.text(),
    at=st.datetimes(timezones=st.just(UTC)),
    slug=st.from_regex(r"\A[a-z0-9_-]{1,50}\Z"),
)
def test_any_reason_at_any_time_is_carried_to_the_letter(
    reason: str, at: datetime, slug: str
) -> None:
    extra = {"occurred_at": at, "provider_slug": slug, "reason": reason, "needs_user_action": False}
    event = event_of(events.ProviderTokenRefreshFailed, extra)

    attributes, data = accepted(encode_event(event, source=SOURCE).body)

    assert attributes["time"] == at
    assert (data["reason"], data["provider_slug"]) == (reason, slug)


def test_the_time_is_utc_in_rfc_3339() -> None:
    event = event_of(events.ProviderConnectionAttempted, {})

    assert (
        json.loads(encode_event(event, source=SOURCE).body)["time"] == "2026-03-01T12:30:15.123456Z"
    )


def test_the_content_type_is_that_of_structured_json() -> None:
    assert JSONFormat().get_content_type() == CONTENT_TYPE


def test_the_states_of_a_change_are_the_words_of_the_wire() -> None:
    for from_status in ConnectionStatus:
        extra = {**CHANGE, "from_status": from_status}
        event = event_of(events.ProviderConnectionStatusChanged, extra)

        _, data = accepted(encode_event(event, source=SOURCE).body)

        assert data["from_status"] == from_status.value == from_status.name.lower()


@each_event
@given(state=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1))
def test_a_trace_is_two_attributes_and_two_headers(
    kind: type[Event], extra: dict[str, Any], subject: str, state: str
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    [event] = events.traced([event_of(kind, extra)], Trace(parent, state))

    attributes, data = accepted(encode_event(event, source=SOURCE).body)

    assert (attributes["traceparent"], attributes["tracestate"]) == (parent, state)
    assert (attributes["time"], attributes["id"]) == (OCCURRED_AT, str(EVENT_ID))
    assert data == {**SHARED_DATA, **extra}
    assert trace_lines(event) == f"traceparent: {parent}\r\ntracestate: {state}\r\n"
