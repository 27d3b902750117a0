"""Every event there is has words, and they fit a terminal."""

import json
import typing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.connection import ConnectionStatus
from domain.events import (
    Event,
    ProviderClientPaused,
    ProviderConnectionStatusChanged,
    ProviderConnectionSucceeded,
    ProviderGrantExpiring,
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshFailed,
    ProviderTokenRefreshSucceeded,
)
from domain.grant_life import EndCause
from domain.profile import FailureClass
from domain.refreshing import NOT_ASKED_CODE
from runtime.cli.event_words import Told, told
from runtime.cli.explaining import show_history
from runtime.ledger.cloud_events import encode_event
from tests.domain.shapes import ABOUT, NOW

EVENT_TYPES: tuple[type[msgspec.Struct], ...] = typing.get_args(Event)


def event(kind: type[Event], *, after_s: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Return a CloudEvent as the stream has it."""
    at = NOW + timedelta(seconds=after_s)
    one = kind(id=UUID(int=1), occurred_at=at, **ABOUT, **fields)
    return json.loads(encode_event(one, source="/refreshd/d-1").body)


def words(*events: dict[str, Any]) -> list[tuple[str, ...]]:
    return [tuple(one[1:]) for one in told(events)]


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_type_of_event_is_named_by_what_it_is_about(kind: type[msgspec.Struct]):
    shown = {"type": kind.__name__, "time": "2026-03-01T13:00:00.123456Z", "data": {}}

    [found] = told([shown])

    assert found.time == "2026-03-01T13:00:00Z"
    assert found.outcome != "-"
    assert found.what in (
        *("connection", "disconnection", "token_refresh"),
        *("status", "grant", "client"),
    )


def test_a_type_of_a_later_version_is_shown_as_it_is():
    later = {"type": "ProviderMoonPhase", "time": "soon", "data": {"reason": "it is new"}}

    assert told([later]) == [Told("soon", "MoonPhase", "-", "", "it is new")]


def test_a_refresh_is_told_with_who_began_it_and_how_long_it_took():
    attempt: dict[str, Any] = {"attempt_id": UUID(int=2)}

    assert words(
        event(ProviderTokenRefreshAttempted, **attempt),
        event(ProviderTokenRefreshSucceeded, after_s=0.25, **attempt),
        event(ProviderTokenRefreshAttempted, after_s=9.0),
        event(ProviderTokenRefreshSucceeded, after_s=9.0),
        event(ProviderTokenRefreshAttempted, after_s=10.0, **attempt),
        event(ProviderTokenRefreshSucceeded, after_s=8.0, **attempt),
    ) == [
        ("token_refresh", "attempted", "", "at the provider"),
        ("token_refresh", "succeeded", "250 ms", ""),
        ("token_refresh", "attempted", "", "a caller's credentials"),
        ("token_refresh", "succeeded", "", ""),
        ("token_refresh", "attempted", "", "at the provider"),
        ("token_refresh", "succeeded", "", ""),
    ]


def test_a_failure_is_told_with_its_codes_and_what_follows():
    failed = event(
        ProviderTokenRefreshFailed,
        after_s=1.5,
        reason="The provider asks to wait",
        needs_user_action=False,
        failure_class=FailureClass.TRANSIENT,
        code="rate_limited",
        provider_code="slow_down",
        retry_at=NOW + timedelta(minutes=1),
    )

    *step, detail = words(event(ProviderTokenRefreshAttempted), failed)[1]
    assert step == ["token_refresh", "failed", "1.5 s"]
    assert detail == (
        "The provider asks to wait (rate_limited, slow_down) "
        "- not again before 2026-03-01T13:01:00Z"
    )


def test_an_attempt_that_presented_nothing_is_not_said_to_have_been_at_the_provider():
    intended, asked = uuid4(), uuid4()
    told_of = [
        event(ProviderTokenRefreshAttempted, attempt_id=intended),
        event(
            ProviderTokenRefreshFailed,
            attempt_id=intended,
            reason="The provider was not asked",
            needs_user_action=False,
            code=NOT_ASKED_CODE,
        ),
        event(ProviderTokenRefreshAttempted, attempt_id=asked),
    ]

    assert [detail for *_, detail in words(*told_of)] == [
        "about to ask the provider",
        "The provider was not asked (not_begun)",
        "at the provider",
    ]


def test_changes_are_told_with_from_what_to_what_and_why():
    active, revoked = ConnectionStatus.ACTIVE, ConnectionStatus.REVOKED
    changed = event(
        ProviderConnectionStatusChanged, from_status=active, to_status=revoked, reason="asked"
    )
    silent = event(
        ProviderConnectionStatusChanged, from_status=active, to_status=revoked, reason=None
    )
    expiring = event(
        ProviderGrantExpiring, grant_ends_at=NOW, within_s=86_400, cause=EndCause.LIFETIME
    )
    paused = event(ProviderClientPaused, code="invalid_client", reason="It is refused")

    assert words(changed, silent, expiring, paused) == [
        ("status", "changed", "", "active -> revoked: asked"),
        ("status", "changed", "", "active -> revoked"),
        ("grant", "expiring", "", "ends at 2026-03-01T13:00:00Z by its lifetime"),
        ("client", "paused", "", "It is refused (invalid_client)"),
    ]


@given(st.lists(st.text(max_size=120), min_size=1, max_size=4))
def test_a_history_is_never_wider_than_the_terminal(reasons: list[str]):
    rows = [Told("2026-03-01T13:00:00Z", "status", "changed", "", reason) for reason in reasons]

    assert all(len(line) <= 80 for line in show_history(rows).splitlines())


def test_a_history_is_a_row_an_event():
    shown = show_history(told([event(ProviderConnectionSucceeded)]))

    assert shown.splitlines() == [
        "TIME                  EVENT          OUTCOME       TOOK     DETAIL",
        "2026-03-01T13:00:00Z  connection     succeeded",
    ]
