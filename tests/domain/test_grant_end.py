"""A grant's end is told in time and once, and so is its coming back."""

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from domain.commands import Command, Connect, Disconnect, Refresh
from domain.connection import (
    ConnectionStatus,
    Ended,
    ProviderConnection,
    Trouble,
    broken_invariant,
)
from domain.decision import decide
from domain.due import DueKind, next_due
from domain.events import (
    Event,
    ProviderGrantExpiring,
    ProviderGrantNeedsReauth,
    ProviderGrantRecovered,
)
from domain.exchange import Tokens, Verdict
from domain.grant_end import action_needed, is_action_told, warned
from domain.grant_life import NO_REFRESH_TOKEN_NOTE, EndCause
from domain.profile import FailureClass, ProviderProfile, RefreshMode
from domain.record import Record, decode_record, encode_record
from domain.refreshing import failed, succeeded
from domain.token_read import GRANT_EXPIRED, NO_REFRESH_TOKEN
from tests.domain.shapes import (
    ABOUT,
    CONNECTION_ID,
    FLYING,
    NOW,
    SLUG,
    USER_ID,
    connections,
    profiles,
    sealed,
    stored,
    times,
)
from tests.fakes.world import CountingIds

DAY_S = 86_400
PLAIN = ProviderProfile(slug=SLUG)
MONTH = ProviderProfile(slug=SLUG, grant_lifetime_s=30 * DAY_S)
NEVER_TRIED = replace(MONTH, grant_trial_interval_s=0.0)
IDLE = ProviderProfile(slug=SLUG, grant_idle_s=60 * DAY_S, refresh=RefreshMode.ON_DEMAND)
BARE = replace(sealed(expires_at=NOW + timedelta(days=60)), notes=("no_refresh_token",))
FIRST_ID = next(iter(CountingIds()))
DEAD = Trouble(failure_class=FailureClass.USER, code="invalid_grant", reason="It is over", at=NOW)
PASSING = Trouble(failure_class=FailureClass.TRANSIENT, code="timeout", reason="No answer", at=NOW)
MADE = "2026-03-01T12:00:00Z"
SAID = Ended(at=NOW - timedelta(minutes=1), reason="their user asked us to")
IS_OVER = Verdict(failure_class=FailureClass.USER, code="invalid_grant", reason="It is over")


def day(number: float) -> datetime:
    """Return a time by its distance from NOW in days."""
    return NOW + timedelta(days=number)


def granted(**fields: Any) -> ProviderConnection:
    """Return a connection whose user consented at NOW, with an access token for an hour."""
    values: dict[str, Any] = {"credentials": sealed(expires_at=day(1 / 24)), "granted_at": NOW}
    return replace(stored(ConnectionStatus.ACTIVE), **(values | fields))


def told_at(
    now: datetime, connection: ProviderConnection, profile: ProviderProfile = MONTH
) -> tuple[ProviderConnection, tuple[Event, ...]]:
    """Return the connection after what is told of it now, and what is."""
    step = warned(connection, profile, now=now, ids=CountingIds())
    return (connection, ()) if step is None else step


def story(
    connection: ProviderConnection, profile: ProviderProfile, days: int
) -> list[tuple[float, int]]:
    """Return on which day which warning is told of a connection that is looked at each hour."""
    told: list[tuple[float, int]] = []
    for hour in range(days * 24 + 1):
        connection, events = told_at(day(hour / 24), connection, profile)
        for event in events:
            within_s = event.within_s if isinstance(event, ProviderGrantExpiring) else 0
            told.append((hour / 24, within_s))
        # What was told is remembered where the connection is: a restart changes nothing.
        data = encode_record(Record(connection=connection))
        connection = decode_record(data).connection
    return told


def names(events: tuple[Event, ...]) -> list[str]:
    """Return the names of events."""
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize(
    ("connection", "profile", "expected"),
    [
        (granted(), MONTH, [(23, 7 * DAY_S), (29, DAY_S), (29.5, DAY_S // 2)]),
        (granted(), NEVER_TRIED, [(23, 7 * DAY_S), (29, DAY_S), (29.5, DAY_S // 2), (30, 0)]),
        (granted(), replace(IDLE, grant_idle_s=36_000.0), []),
        (
            granted(credentials=sealed()),
            IDLE,
            [(53, 7 * DAY_S), (59, DAY_S), (59.5, DAY_S // 2)],
        ),
        (
            granted(credentials=BARE),
            PLAIN,
            [(53, 7 * DAY_S), (59, DAY_S), (59.5, DAY_S // 2), (60, 0)],
        ),
        (granted(), PLAIN, []),
    ],
    ids=["lifetime", "never tried", "idle for hours", "idle", "no refresh token", "endless"],
)
def test_each_warning_is_told_once_and_in_time(
    connection: ProviderConnection,
    profile: ProviderProfile,
    expected: list[tuple[float, int]],
) -> None:
    assert story(connection, profile, 70) == expected


def test_a_warning_says_when_and_why_the_grant_ends() -> None:
    connection, events = told_at(day(23), granted())

    assert events == (
        ProviderGrantExpiring(
            id=FIRST_ID,
            occurred_at=day(23),
            grant_ends_at=day(30),
            within_s=7 * DAY_S,
            cause=EndCause.LIFETIME,
            **ABOUT,
        ),
    )
    assert connection == replace(granted(), warned_lead_s=7 * DAY_S, updated_at=day(23))


@pytest.mark.parametrize(
    ("now", "within_s"), [(29.2, DAY_S), (29.9, DAY_S // 2), (22.9, None), (30.1, None)]
)
def test_of_several_that_were_missed_the_most_urgent_alone_is_told(
    now: float, within_s: int | None
) -> None:
    connection, events = told_at(day(now), granted())

    told = [isinstance(event, ProviderGrantExpiring) and event.within_s for event in events]
    assert told == ([] if within_s is None else [within_s])
    assert told_at(day(now), connection)[1] == ()


def test_a_grant_that_began_anew_is_warned_of_anew() -> None:
    connection, _ = told_at(day(29), granted())
    command = Refresh(connection_id=CONNECTION_ID, credentials=sealed("new"))

    after = decide(connection, command, now=day(29.2), ids=CountingIds()).connection

    assert after is not None
    assert told_at(day(29.2), after)[1] == ()
    assert names(told_at(day(52.3), after)[1]) == ["ProviderGrantExpiring"]


def after_refresh(
    connection: ProviderConnection, now: datetime, ends_at: datetime
) -> ProviderConnection:
    """Return a connection after an answer that tells when the grant ends."""
    flying = replace(FLYING, updated_at=now)
    for name in ("grant_expires_at", "grant_slides", "warned_lead_s", "credentials"):
        flying = replace(flying, **{name: getattr(connection, name)})
    held = replace(sealed(), expires_at=now + timedelta(hours=1), issued_at=now)
    tokens = Tokens(access_token="a", expires_at=now, grant_expires_at=ends_at)
    return succeeded(flying, tokens, held, PLAIN, now=now, ids=CountingIds()).connection


def test_an_end_that_stays_is_not_told_again_because_it_is_reckoned_anew() -> None:
    connection, told = granted(), 0
    for hour in range(90):
        now = day(hour / 24)
        connection = after_refresh(connection, now, day(5) + timedelta(milliseconds=hour))
        connection, events = told_at(now, connection, PLAIN)
        told += len(events)

    assert told == 1
    assert connection.warned_lead_s == 7 * DAY_S


def test_an_end_that_each_refresh_puts_off_is_not_told_while_it_is() -> None:
    connection = granted()
    for hour in range(20):
        now = day(hour / 24)
        connection = after_refresh(connection, now, now + timedelta(minutes=90))
        connection, events = told_at(now, connection, PLAIN)
        assert events == ()


def test_an_end_that_went_far_away_is_told_again_when_it_is_near() -> None:
    near = replace(granted(), grant_expires_at=day(0.4), grant_slides=False)
    near, events = told_at(NOW, near, PLAIN)
    far = replace(after_refresh(near, NOW, day(3)), grant_slides=False)

    assert names(events) == ["ProviderGrantExpiring"]
    assert far.warned_lead_s == 7 * DAY_S
    assert names(told_at(day(2.1), far, PLAIN)[1]) == ["ProviderGrantExpiring"]


@pytest.mark.parametrize(
    ("connection", "profile", "reason"),
    [
        (granted(), NEVER_TRIED, GRANT_EXPIRED),
        (granted(doubted_at=NOW), MONTH, GRANT_EXPIRED),
        (granted(credentials=BARE), MONTH, NO_REFRESH_TOKEN),
    ],
    ids=["never tried", "in doubt", "no refresh token"],
)
def test_where_nobody_will_be_asked_the_calendar_tells_that_the_user_is_needed(
    connection: ProviderConnection, profile: ProviderProfile, reason: str
) -> None:
    connection, events = told_at(day(61), connection, profile)

    assert events == (
        ProviderGrantNeedsReauth(id=FIRST_ID, occurred_at=day(61), reason=reason, **ABOUT),
    )
    assert connection.is_active
    assert connection.needs_reauth
    assert next_due(connection, profile, now=day(61)) is None


def test_what_a_use_may_put_off_is_not_over_by_the_calendar_alone() -> None:
    of = replace(IDLE, grant_idle_s=10.0 * DAY_S)
    connection = granted(credentials=sealed(expires_at=day(11)))

    assert names(told_at(day(12), connection, of)[1]) == []


def test_a_refresh_that_is_under_way_is_told_of_first() -> None:
    assert warned(FLYING, PLAIN, now=day(8), ids=CountingIds()) is None
    over = replace(FLYING, grant_slides=False, granted_at=NOW)
    assert warned(over, MONTH, now=day(40), ids=CountingIds()) is None


def test_while_the_access_token_lives_nobody_needs_to_sign_in() -> None:
    connection = granted(credentials=sealed(expires_at=day(40)))

    assert names(told_at(day(31), connection, NEVER_TRIED)[1]) == []
    assert names(told_at(day(41), connection, NEVER_TRIED)[1]) == ["ProviderGrantNeedsReauth"]


def fail(connection: ProviderConnection) -> tuple[ProviderConnection, tuple[Event, ...]]:
    """Return a connection after the provider has ended its grant, and what is told."""
    return failed(connection, IS_OVER, PLAIN, draw=0.0, now=NOW, ids=CountingIds())


def test_a_verdict_that_ends_the_grant_tells_that_its_user_is_needed_once() -> None:
    connection, events = fail(FLYING)
    _, again = fail(replace(FLYING, warned_lead_s=0))

    assert names(events)[2:] == ["ProviderGrantNeedsReauth"]
    assert events[-1] == ProviderGrantNeedsReauth(
        id=list(itertools.islice(CountingIds(), 3))[-1],
        occurred_at=NOW,
        reason="It is over",
        **ABOUT,
    )
    assert connection.needs_reauth
    assert "ProviderGrantNeedsReauth" not in names(again)


CONNECT = Connect(credentials=sealed("new"), **ABOUT)
REFRESH = Refresh(connection_id=CONNECTION_ID, credentials=sealed("new"))


@pytest.mark.parametrize(
    ("before", "command", "is_recovered"),
    [
        (replace(stored(ConnectionStatus.EXPIRED), trouble=DEAD), CONNECT, True),
        (stored(ConnectionStatus.EXPIRED), CONNECT, False),
        (stored(ConnectionStatus.PENDING), CONNECT, False),
        (None, CONNECT, False),
        (granted(warned_lead_s=0), REFRESH, True),
        (granted(warned_lead_s=43_200), REFRESH, False),
        (
            granted(warned_lead_s=0),
            Disconnect(connection_id=CONNECTION_ID, user_id=USER_ID),
            False,
        ),
    ],
)
def test_new_credentials_bring_back_a_grant_that_needed_its_user(
    before: ProviderConnection | None, command: Command, *, is_recovered: bool
) -> None:
    decision = decide(before, command, now=NOW, ids=CountingIds())

    assert names(decision.events)[2:] == ["ProviderGrantRecovered"] * is_recovered
    assert decision.connection is not None
    assert not decision.connection.needs_reauth


def test_a_provider_that_answers_all_the_same_brings_a_grant_back() -> None:
    held = replace(sealed("new"), issued_at=NOW)
    tokens = Tokens(access_token="a", expires_at=day(1))
    before = replace(FLYING, warned_lead_s=0)

    step = succeeded(before, tokens, held, PLAIN, now=NOW, ids=CountingIds())

    ids = list(itertools.islice(CountingIds(), 2))
    assert step.events[1:] == (ProviderGrantRecovered(id=ids[1], occurred_at=NOW, **ABOUT),)
    assert not step.connection.needs_reauth


@given(connections(troubled=True), profiles, times)
def test_what_is_due_to_be_told_is_told_and_then_is_not_due_any_more(
    connection: ProviderConnection, profile: ProviderProfile, now: datetime
) -> None:
    due = next_due(connection, profile, now=now)
    is_due = due is not None and due.kind is DueKind.WARNING and due.at <= now
    steps = 0
    while (step := warned(connection, profile, now=now, ids=CountingIds())) is not None:
        steps += 1
        assert broken_invariant(step.connection) is None
        connection = step.connection

    assert steps <= 4
    assert steps > 0 or not is_due


@pytest.mark.parametrize(
    ("connection", "profile", "expected"),
    [
        (granted(), PLAIN, None),
        (stored(ConnectionStatus.PENDING), PLAIN, None),
        (stored(ConnectionStatus.DISCONNECTED), PLAIN, None),
        (stored(ConnectionStatus.REVOKED), PLAIN, f"the connection is revoked since {MADE}"),
        (
            replace(stored(ConnectionStatus.REVOKED), ended=SAID, trouble=PASSING, warned_lead_s=0),
            PLAIN,
            "the connection is revoked since 2026-03-01T12:59:00Z: their user asked us to",
        ),
        (stored(ConnectionStatus.FAILED), PLAIN, f"the connection is failed since {MADE}"),
        (
            replace(stored(ConnectionStatus.EXPIRED), trouble=DEAD),
            PLAIN,
            "the connection is expired since 2026-03-01T13:00:00Z: It is over",
        ),
        (granted(granted_at=day(-22)), MONTH, None),
        (granted(granted_at=day(-24)), MONTH, "the grant ends at 2026-03-07T13:00:00Z"),
        (granted(granted_at=day(-31)), MONTH, "the grant ended at 2026-02-28T13:00:00Z"),
        (
            granted(credentials=replace(sealed(expires_at=NOW), issued_at=day(-54))),
            IDLE,
            "the grant ends at 2026-03-07T13:00:00Z unless it is refreshed",
        ),
        (
            granted(credentials=BARE),
            None,
            "it ends at 2026-04-30T13:00:00Z, and there is no refresh token",
        ),
        (
            granted(credentials=replace(BARE, expires_at=day(-1))),
            MONTH,
            "it ended at 2026-02-28T13:00:00Z, and there is no refresh token",
        ),
    ],
)
def test_who_must_act_is_told_in_words(
    connection: ProviderConnection, profile: ProviderProfile | None, expected: str | None
) -> None:
    assert action_needed(connection, profile, NOW) == expected


@given(connections(troubled=True), profiles, times)
def test_who_must_act_is_seen_by_what_is_stored_once_it_was_told(
    connection: ProviderConnection, profile: ProviderProfile, now: datetime
) -> None:
    connection = replace(connection, warned_lead_s=None, intent=None)
    while (step := warned(connection, profile, now=now, ids=CountingIds())) is not None:
        connection = step.connection

    credentials = connection.credentials
    lacks = credentials is not None and NO_REFRESH_TOKEN_NOTE in credentials.notes
    ends_at = credentials.expires_at if credentials is not None and lacks else None
    told = is_action_told(connection.status, connection.warned_lead_s, ends_at)

    assert told == (action_needed(connection, profile, now) is not None)
