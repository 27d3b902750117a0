"""Each connection is looked at in time, never before it may be, and never in a circle."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.credentials import Credentials, CredentialType, Opaque
from domain.due import SPREAD, Due, DueKind, next_due, refresh_due
from domain.profile import NO_REUSE, FailureClass, ProviderProfile, RefreshMode, ReusePolicy
from domain.token_read import REPLAY_LEAD_S, may_still_ask
from tests.domain.shapes import (
    FLYING,
    INTENT,
    NOW,
    SLUG,
    connections,
    near_times,
    profiles,
    sealed,
    spans_s,
    stored,
    times,
    troubles,
)

HOUR_S, DAY_S = 3600.0, 86_400.0
PLAIN = ProviderProfile(slug=SLUG)
ON_DEMAND = RefreshMode.ON_DEMAND


def profile(**fields: Any) -> ProviderProfile:
    """Return a profile with some fields of its own."""
    return ProviderProfile(slug=SLUG, **fields)


def after(span_s: float) -> datetime:
    """Return a time by its distance from NOW."""
    return NOW + timedelta(seconds=span_s)


def issued(lives_s: float | None = HOUR_S, **fields: Any) -> ProviderConnection:
    """Return a connection whose token the provider issued at NOW."""
    ends_at = None if lives_s is None else after(lives_s)
    credentials = replace(sealed(), expires_at=ends_at, issued_at=NOW)
    values: dict[str, Any] = {"credentials": credentials, "granted_at": NOW} | fields
    return replace(stored(ConnectionStatus.ACTIVE), **values)


def due_s(connection: ProviderConnection, of: ProviderProfile = PLAIN) -> float:
    """Return how long after NOW the provider is asked."""
    due = refresh_due(connection, of)
    assert due is not None
    return (due.at - NOW).total_seconds()


def trouble(retry_s: float | None, at_s: float = 0.0) -> Trouble:
    """Return what a failure leaves."""
    return Trouble(
        failure_class=FailureClass.TRANSIENT,
        code="c",
        reason="r",
        at=after(at_s),
        retry_at=None if retry_s is None else after(retry_s),
    )


def others(count: int, connection: ProviderConnection) -> list[ProviderConnection]:
    """Return as many that differ in their ids alone."""
    draws = random.Random(7)
    return [replace(connection, id=UUID(int=draws.getrandbits(128))) for _ in range(count)]


idle = st.builds(
    lambda expires_at, issued_at, redated_at, **fields: replace(
        stored(ConnectionStatus.ACTIVE),
        credentials=replace(
            sealed(), expires_at=expires_at, issued_at=issued_at, redated_at=redated_at
        ),
        **fields,
    ),
    near_times,
    near_times,
    st.none() | near_times,
    generation=st.integers(1, 2**53),
    granted_at=near_times,
    grant_expires_at=near_times,
    grant_slides=st.none() | st.booleans(),
    doubted_at=near_times,
    trouble=st.none() | troubles(near_times),
    refresh=st.none() | st.sampled_from(RefreshMode),
)
"""An ACTIVE connection that nobody refreshes just now, in any state."""


@given(connections(troubled=True), st.none() | profiles, st.none() | times)
def test_no_time_at_all_raises(
    connection: ProviderConnection, of: ProviderProfile | None, now: datetime | None
) -> None:
    due = next_due(connection, of, now=now)

    assert due is None or due.at.tzinfo is UTC
    assert due == next_due(connection, of, now=now)


@pytest.mark.parametrize("year", [1, 9999])
def test_the_ends_of_the_calendar_raise_nothing(year: int) -> None:
    edge = datetime(year, 1, 1, tzinfo=UTC) if year == 1 else datetime(year, 12, 31, tzinfo=UTC)
    held = replace(sealed(), expires_at=edge, issued_at=edge)
    connection = issued(credentials=held, granted_at=edge, grant_expires_at=edge, doubted_at=edge)
    wide = profile(grant_lifetime_s=1e9, grant_idle_s=1e9, reuse_policy=ReusePolicy("grace", 9.0))

    for of in (PLAIN, wide, None):
        assert next_due(connection, of) is None or next_due(connection, of, now=NOW)


@given(idle, profiles, near_times)
def test_what_is_due_now_may_be_asked_now(
    connection: ProviderConnection, of: ProviderProfile, at: datetime | None
) -> None:
    now = at or NOW
    due = refresh_due(connection, of, now=now)
    if due is None or due.at > now or connection.credentials is None:
        return
    if connection.credentials.redated_at is None:
        assert may_still_ask(connection, of, was_rejected=False, now=now)


@given(idle, profiles)
def test_none_is_asked_before_the_provider_allows_it(
    connection: ProviderConnection, of: ProviderProfile
) -> None:
    credentials = connection.credentials
    assert credentials is not None
    due = refresh_due(connection, of)
    if due is None:
        return

    if of.max_lead_s is not None and credentials.redated_at is None:
        assert credentials.expires_at is not None
        assert due.at >= credentials.expires_at - timedelta(seconds=of.max_lead_s)
    if credentials.issued_at is not None and credentials.redated_at is None:
        assert due.at >= credentials.issued_at + timedelta(seconds=of.interval_s_min)
    if connection.trouble is not None and connection.trouble.retry_at is not None:
        assert due.at >= connection.trouble.retry_at


@pytest.mark.parametrize(
    ("lives_s", "of", "lead_s"),
    [
        (HOUR_S, PLAIN, 300.0),
        (600.0, PLAIN, 120.0),
        (5.0, PLAIN, 1.0),
        (HOUR_S, profile(margin_s=60), 60.0),
        (HOUR_S, profile(margin_s=9e9, margin_fraction=0.5), 1800.0),
        (HOUR_S, profile(margin_s=0), 0.0),
    ],
)
def test_a_token_is_refreshed_by_the_margin_or_the_fraction_whichever_is_less(
    lives_s: float, of: ProviderProfile, lead_s: float
) -> None:
    leads = [lives_s - due_s(one, of) for one in others(200, issued(lives_s))]

    assert min(leads) >= lead_s - 1e-3
    assert max(leads) <= lead_s * (1 + SPREAD) + 1e-3
    assert max(leads) - min(leads) >= lead_s * SPREAD * 0.9


@pytest.mark.parametrize("max_lead_s", [30.0, 0.5])
def test_a_provider_that_refuses_early_refreshes_is_asked_late(max_lead_s: float) -> None:
    exact = profile(max_lead_s=max_lead_s)

    leads = [600.0 - due_s(one, exact) for one in others(200, issued(600.0))]

    assert 0 < min(leads) < max(leads) < max_lead_s
    assert max(leads) - min(leads) > max_lead_s / 4


def test_a_grant_that_must_be_used_soon_waits_for_what_the_provider_allows() -> None:
    assert due_s(issued(600.0), profile(max_lead_s=30.0, grant_idle_s=100.0)) == 573.0


def test_each_connection_keeps_its_share() -> None:
    connection = issued()
    dues = {due_s(replace(connection, generation=n)) for n in range(1, 51)}

    assert len(dues) == 1
    assert len({due_s(one) for one in others(50, connection)}) == 50


@given(spans_s, spans_s, st.floats(0, 0.5), st.sampled_from([1.0, 10.0]))
def test_no_margin_makes_two_refreshes_closer_than_the_least_interval(
    lives_s: float, margin_s: float, fraction: float, interval_s: float
) -> None:
    of = profile(margin_s=margin_s, margin_fraction=fraction, interval_s_min=interval_s)
    due = refresh_due(issued(lives_s), of)

    is_over_at_once = after(lives_s) == NOW
    assert (due is None) == is_over_at_once
    assert due is None or due.at >= after(max(interval_s, lives_s / 4 - 1e-3))


def test_a_token_that_was_issued_as_ended_is_not_refreshed_ahead_of_nobody() -> None:
    assert next_due(issued(0.0), PLAIN) is None
    assert next_due(issued(0.0), profile(grant_idle_s=DAY_S)) is not None


def test_what_an_answer_told_as_ended_is_not_kept_alive_ahead_of_nobody() -> None:
    ended = issued(None, grant_expires_at=after(-0.5))

    assert refresh_due(issued(0.0), profile(presents="access_token")) is None
    assert refresh_due(ended, PLAIN) is None
    assert refresh_due(issued(HOUR_S, grant_expires_at=after(-0.5)), PLAIN) is not None


def test_a_token_that_was_connected_as_ended_is_refreshed_at_once() -> None:
    credentials = replace(sealed(), expires_at=after(-HOUR_S))
    connection = issued(credentials=credentials)

    assert refresh_due(connection, PLAIN) == Due(after(PLAIN.interval_s_min), DueKind.REFRESH)


@pytest.mark.parametrize("lives_s", [None, 1000 * DAY_S])
def test_a_grant_is_used_before_half_of_its_idle_limit(lives_s: float | None) -> None:
    of = profile(grant_idle_s=60 * DAY_S)

    dues = [next_due(one, of) for one in others(200, issued(lives_s))]

    assert {due.kind for due in dues if due} == {DueKind.KEEP_ALIVE}
    spans = [(due.at - NOW) / timedelta(days=1) for due in dues if due]
    assert 24 <= min(spans) < 25
    assert 29 < max(spans) <= 30


def test_an_end_that_an_answer_told_is_kept_off_unless_it_is_known_to_stay() -> None:
    connection = issued(None, grant_expires_at=after(10 * DAY_S))

    for slides in (None, True):
        due = next_due(replace(connection, grant_slides=slides), PLAIN)
        assert due is not None
        assert due.kind is DueKind.KEEP_ALIVE
        assert after(4 * DAY_S) <= due.at <= after(5 * DAY_S)
    fixed = next_due(replace(connection, grant_slides=False), PLAIN)
    assert fixed == Due(after(3 * DAY_S), DueKind.WARNING)


def test_an_access_token_that_is_presented_itself_is_renewed_at_half_its_life() -> None:
    due = refresh_due(issued(60 * DAY_S), profile(presents="access_token"))

    assert due is not None
    assert (due.kind, due.at < after(30 * DAY_S)) == (DueKind.KEEP_ALIVE, True)


@pytest.mark.parametrize("mode", ["provider", "connection"])
def test_on_demand_refreshes_nothing_ahead(mode: str) -> None:
    of = profile(refresh=ON_DEMAND) if mode == "provider" else PLAIN
    connection = issued(refresh=ON_DEMAND if mode == "connection" else None)

    assert next_due(connection, of) is None
    assert next_due(replace(connection, trouble=trouble(60)), of) is None


def test_a_connections_own_word_comes_before_the_providers() -> None:
    assert next_due(issued(refresh=RefreshMode.PROACTIVE), profile(refresh=ON_DEMAND)) is not None


def test_on_demand_keeps_a_grant_alive_once_its_access_token_has_ended() -> None:
    of = profile(refresh=ON_DEMAND, grant_idle_s=10 * DAY_S)

    assert due_s(issued(HOUR_S), of) >= 4 * DAY_S
    assert due_s(issued(8 * DAY_S), of) == 8 * DAY_S
    assert refresh_due(issued(11 * DAY_S), of) is None
    assert refresh_due(issued(None), of) is None


@pytest.mark.parametrize(
    "connection",
    [
        *(stored(status) for status in ConnectionStatus if status != "active"),
        issued(credentials=replace(sealed(), expires_at=NOW, notes=("no_refresh_token",))),
        issued(credentials=Credentials(credential_type=CredentialType.API_KEY, payload=Opaque(data=b"x"), expires_at=NOW)),
        issued(credentials=replace(sealed(expires_at=NOW), credential_type=CredentialType.API_KEY)),
    ],
)  # fmt: skip
def test_what_cannot_be_refreshed_never_is(connection: ProviderConnection) -> None:
    if connection.is_active:
        assert refresh_due(connection, profile(grant_idle_s=DAY_S)) is None
    else:
        assert next_due(connection, profile(grant_idle_s=DAY_S)) is None


def test_without_a_profile_nothing_is_refreshed() -> None:
    assert next_due(issued(), None) is None


def test_an_attempt_that_was_left_open_is_looked_at_when_it_is_over() -> None:
    assert next_due(FLYING, PLAIN) == Due(INTENT.deadline_at, DueKind.RETRY)


def test_a_failure_is_tried_again_when_its_pause_is_over_and_not_before_the_token_needs_it() -> (
    None
):
    late = replace(issued(60.0), trouble=trouble(90.0))
    early = replace(issued(HOUR_S), trouble=trouble(90.0))

    assert refresh_due(late, PLAIN) == Due(after(90.0), DueKind.RETRY)
    assert due_s(early) == due_s(issued(HOUR_S))


def test_a_pause_from_the_future_holds_nobody_up() -> None:
    connection = replace(issued(60.0), trouble=trouble(2 * DAY_S, at_s=2 * DAY_S - 60))

    due = refresh_due(connection, PLAIN, now=after(61))

    assert due == Due(after(61), DueKind.RETRY)


def test_a_token_in_doubt_waits_until_its_access_token_is_about_to_end() -> None:
    strict, grace = profile(reuse_policy=NO_REUSE), profile(reuse_policy=ReusePolicy("grace", 60.0))
    doubted = issued(doubted_at=after(10.0))

    for one in others(100, doubted):
        assert HOUR_S - REPLAY_LEAD_S <= due_s(one, strict) <= HOUR_S - REPLAY_LEAD_S / 2
    assert due_s(doubted, grace) == 10.0
    assert due_s(replace(doubted, trouble=trouble(30.0)), grace) == 30.0
    assert due_s(replace(doubted, trouble=trouble(80.0)), grace) >= HOUR_S - REPLAY_LEAD_S
    missed = refresh_due(doubted, grace, now=after(100.0))
    assert missed is not None
    assert missed.at >= after(HOUR_S - REPLAY_LEAD_S)
    assert refresh_due(issued(None, doubted_at=NOW), strict) is None
    on_demand = replace(grace, refresh=ON_DEMAND, grant_idle_s=10 * DAY_S)
    assert due_s(doubted, on_demand) >= 4 * DAY_S


def test_a_grant_that_is_over_is_tried_once_an_interval_when_nothing_is_left_to_serve() -> None:
    of = profile(grant_lifetime_s=DAY_S)
    over = issued(granted_at=after(-DAY_S - 60), credentials=sealed(expires_at=after(HOUR_S)))

    assert due_s(over, of) == HOUR_S
    assert due_s(replace(over, trouble=trouble(60, at_s=HOUR_S)), of) == 2 * HOUR_S
    assert refresh_due(over, replace(of, grant_trial_interval_s=0.0)) is None
    assert refresh_due(replace(over, doubted_at=NOW), of) is None
    disproved = issued(granted_at=after(-DAY_S - 60))
    assert due_s(disproved, of) == due_s(issued(), PLAIN)


def test_a_token_of_a_faster_clock_is_refreshed_within_its_lifetime() -> None:
    held = replace(
        sealed(), issued_at=after(DAY_S), expires_at=after(DAY_S + HOUR_S), redated_at=NOW
    )

    assert due_s(issued(credentials=held)) == pytest.approx(due_s(issued(HOUR_S)))
