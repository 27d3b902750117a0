"""Each step of a refresh leaves the connection and the events that it must, and no others."""

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from domain.commands import Connect, Refresh
from domain.connection import (
    ConnectionStatus,
    ProviderConnection,
    Trouble,
    broken_invariant,
)
from domain.decision import decide
from domain.events import (
    Event,
    ProviderConnectionStatusChanged,
    ProviderGrantNeedsReauth,
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshFailed,
    ProviderTokenRefreshSucceeded,
)
from domain.exchange import Tokens, Verdict
from domain.profile import (
    FailureClass,
    ProviderProfile,
)
from domain.refreshing import (
    BACKOFF_S_MAX,
    OUTCOME_UNKNOWN,
    Step,
    attempt_s_max,
    begun,
    failed,
    left_open,
    succeeded,
)
from tests.domain.shapes import (
    ABOUT,
    ATTEMPT_ID,
    BEGUN_AT,
    CONNECTION_ID,
    FLYING,
    GRANTED_AT,
    IDLE,
    NOW,
    SLUG,
    profiles,
    sealed,
    stored,
    troubles,
)
from tests.fakes.world import CountingIds

T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)
PLAIN = ProviderProfile(slug=SLUG)
FIRST_ID, SECOND_ID, THIRD_ID = itertools.islice(CountingIds(), 3)
ATTEMPTED = ProviderTokenRefreshAttempted(
    id=ATTEMPT_ID, occurred_at=BEGUN_AT, attempt_id=ATTEMPT_ID, **ABOUT
)
TOKENS = Tokens(access_token="a2", expires_at=NOW + timedelta(hours=1))


def verdict(failure_class: FailureClass = T, **fields: Any) -> Verdict:
    """Return a verdict of a class."""
    told: dict[str, Any] = {"code": "server_error", "reason": "It broke"} | fields
    return Verdict(failure_class=failure_class, **told)


def fail(
    told: Verdict,
    connection: ProviderConnection = FLYING,
    profile: ProviderProfile = PLAIN,
    *,
    draw: float = 0.0,
    now: datetime = NOW,
) -> Step:
    """Return the step of a failure."""
    return failed(connection, told, profile, draw=draw, now=now, ids=CountingIds())


def succeed(
    tokens: Tokens, connection: ProviderConnection = FLYING, profile: ProviderProfile = PLAIN
) -> Step:
    """Return the step of a success."""
    return succeeded(connection, tokens, sealed("new"), profile, now=NOW, ids=CountingIds())


def told_of(
    told: Verdict, *, now: datetime = NOW, retry_at: datetime | None = None, **fields: Any
) -> list[Event]:
    """Return the events that must tell of a failure."""
    is_dead = told.failure_class is U
    event = ProviderTokenRefreshFailed(
        id=FIRST_ID,
        occurred_at=now,
        reason=told.reason,
        needs_user_action=is_dead,
        failure_class=told.failure_class,
        code=told.code,
        provider_code=told.provider_code,
        retry_at=retry_at,
        **fields,
        **ABOUT,
    )
    changed = ProviderConnectionStatusChanged(
        id=SECOND_ID,
        occurred_at=now,
        from_status=ConnectionStatus.ACTIVE,
        to_status=ConnectionStatus.EXPIRED,
        reason=told.reason,
        **ABOUT,
    )
    reauth = ProviderGrantNeedsReauth(id=THIRD_ID, occurred_at=now, reason=told.reason, **ABOUT)
    return [event, changed, reauth] if is_dead else [event]


def pause_s(
    told: Verdict,
    *,
    failures: int = 0,
    draw: float = 0.0,
    profile: ProviderProfile = PLAIN,
) -> float | None:
    """Return how long the provider may not be asked after so many failures and one more."""
    trouble = Trouble(failure_class=T, code="c", reason="r", at=BEGUN_AT, failures=failures)
    after = fail(told, replace(FLYING, trouble=trouble), profile, draw=draw).connection.trouble
    assert after is not None
    return None if after.retry_at is None else (after.retry_at - NOW).total_seconds()


def test_a_refresh_begins_with_an_intent_that_names_what_is_presented() -> None:
    step = begun(IDLE, PLAIN, attempt_id=ATTEMPT_ID, owner="me", now=BEGUN_AT)

    assert step == Step(FLYING, (ATTEMPTED,))
    assert broken_invariant(step.connection) is None


@pytest.mark.parametrize(
    "connection",
    [FLYING, *(stored(status) for status in ConnectionStatus if status != "active")],
    ids=lambda connection: connection.status,
)
def test_only_an_idle_active_connection_can_begin(connection: ProviderConnection) -> None:
    with pytest.raises(AssertionError):
        begun(connection, PLAIN, attempt_id=ATTEMPT_ID, owner="me", now=NOW)


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        ({}, 35.0),
        ({"client_secrets": 0}, 35.0),
        ({"client_secrets": 2}, 65.0),
        ({"scope": "read"}, 65.0),
        ({"client_secrets": 3, "scope": "read", "timeout_s": 10}, 45.0),
    ],
)
def test_an_attempt_ends_only_after_every_request_that_it_may_make(
    fields: dict[str, Any], expected_s: float
) -> None:
    profile = ProviderProfile(slug=SLUG, **fields)
    intent = begun(IDLE, profile, attempt_id=ATTEMPT_ID, owner="me", now=NOW).connection.intent

    assert attempt_s_max(profile) == expected_s
    assert intent is not None
    assert intent.deadline_at == NOW + timedelta(seconds=expected_s)


def test_success_leaves_the_new_credentials_and_nothing_of_the_attempt() -> None:
    trouble = Trouble(failure_class=T, code="c", reason="r", at=BEGUN_AT, failures=3)
    before = replace(FLYING, trouble=trouble, doubted_at=BEGUN_AT)

    step = succeed(TOKENS, before)

    after = replace(
        IDLE, credentials=sealed("new"), generation=2, updated_at=NOW, grant_slides=False
    )
    event = ProviderTokenRefreshSucceeded(
        id=FIRST_ID, occurred_at=NOW, attempt_id=ATTEMPT_ID, **ABOUT
    )
    assert step == Step(after, (event,))
    assert broken_invariant(after) is None


def test_success_takes_what_the_answer_told_of_the_grant_and_the_place() -> None:
    ends_at, base = NOW + timedelta(days=1), "https://us.example.com"
    tokens = replace(TOKENS, grant_expires_at=ends_at, endpoint_base=base)

    after = succeed(tokens).connection

    assert (after.grant_expires_at, after.endpoint_base) == (ends_at, base)


def test_only_the_user_renews_a_grant() -> None:
    expired = replace(IDLE, status=ConnectionStatus.EXPIRED)
    connect = Connect(credentials=sealed("new"), **ABOUT)
    refresh = Refresh(connection_id=CONNECTION_ID, credentials=sealed("new"))

    by_provider = succeed(TOKENS).connection
    by_user = [
        decide(expired, connect, now=NOW, ids=CountingIds()).connection,
        decide(IDLE, refresh, now=NOW, ids=CountingIds()).connection,
    ]

    assert by_provider.granted_at == GRANTED_AT
    for connection in by_user:
        assert connection is not None
        assert (connection.granted_at, connection.grant_expires_at) == (NOW, None)


@pytest.mark.parametrize(
    ("told", "expected"), [(NOW, NOW), (None, None), (UNSET, GRANTED_AT)], ids=str
)
def test_a_grants_end_stays_where_an_answer_tells_none_and_goes_where_it_says_never(
    told: datetime | UnsetType | None, expected: datetime | None
) -> None:
    tokens = replace(TOKENS, grant_expires_at=told)

    after = succeed(tokens, replace(FLYING, grant_expires_at=GRANTED_AT)).connection

    assert after.grant_expires_at == expected


@pytest.mark.parametrize("failure_class", FailureClass)
def test_a_failure_is_stored_and_told_with_all_that_is_known(failure_class: FailureClass) -> None:
    told = verdict(failure_class, provider_code="sys_down")
    is_dead = failure_class is U

    step = fail(told, profile=ProviderProfile(slug=SLUG, probe_interval_s=77.0))

    retry_s = {T: 0.5, O: 0.5, U: None, A: 0.5}[failure_class]
    retry_at = None if retry_s is None else NOW + timedelta(seconds=retry_s)
    trouble = Trouble(
        failure_class=failure_class,
        code="server_error",
        provider_code="sys_down",
        reason="It broke",
        at=NOW,
        failures=1,
        ambiguous=failure_class is A,
        retry_at=retry_at,
    )
    status = ConnectionStatus.EXPIRED if is_dead else ConnectionStatus.ACTIVE
    after = replace(IDLE, status=status, trouble=trouble, updated_at=NOW)
    events = told_of(told, retry_at=retry_at, attempt_id=ATTEMPT_ID)
    assert step == Step(after, tuple(events))
    assert broken_invariant(step.connection) is None


@pytest.mark.parametrize(
    ("failures", "ceiling_s"),
    [(0, 1), (1, 2), (2, 4), (3, 8), (7, 128), (8, 256), (9, 300), (10, 300), (2**53, 300)],
)
def test_the_pause_is_anywhere_up_to_a_ceiling_that_doubles_to_a_bound(
    failures: int, ceiling_s: float
) -> None:
    for told in (verdict(T), verdict(A)):
        assert pause_s(told, failures=failures, draw=0.0) == 0.5
        assert pause_s(told, failures=failures, draw=0.5) == (ceiling_s + 0.5) / 2
        assert pause_s(told, failures=failures, draw=1.0) == ceiling_s
    assert ceiling_s <= BACKOFF_S_MAX


@pytest.mark.parametrize(
    ("failures", "probe_interval_s", "expected_s"),
    [(0, 900, 1), (8, 900, 256), (9, 900, 512), (10, 900, 900), (9, 77, 77), (99, 3e9, 65_536)],
)
def test_while_the_configuration_is_wrong_the_pause_doubles_to_the_profiles_interval(
    failures: int, probe_interval_s: float, expected_s: float
) -> None:
    profile = ProviderProfile(slug=SLUG, probe_interval_s=probe_interval_s)

    assert pause_s(verdict(O), failures=failures, draw=1.0, profile=profile) == expected_s


@pytest.mark.parametrize(
    ("told", "expected_s"),
    [
        (verdict(retry_after_s=0.0), 8.0),
        (verdict(retry_after_s=7.9), 8.0),
        (verdict(retry_after_s=8.1), 8.1),
        (verdict(retry_after_s=3600.0), 3600.0),
        (verdict(counts=False), 4.0),
        (verdict(counts=False, retry_after_s=4.1), 4.1),
        (verdict(U, retry_after_s=5.0), None),
        (verdict(O, retry_after_s=9.0), 8.0),
    ],
)
def test_what_the_provider_asked_for_wins_where_it_is_longer_and_there_is_a_next_time(
    told: Verdict, expected_s: float | None
) -> None:
    assert pause_s(told, failures=3, draw=1.0) == expected_s


@pytest.mark.parametrize("told", [verdict(O), verdict(T, retry_after_s=3e9)], ids=["probe", "wait"])
def test_a_failure_is_stored_however_long_the_pause_is(told: Verdict) -> None:
    profile = ProviderProfile(slug=SLUG, probe_interval_s=3e9, retry_after_s_max=3e9)

    assert fail(told, profile=profile).connection.intent is None


@pytest.mark.parametrize(
    ("told", "failures", "ambiguous"),
    [
        (verdict(T), 4, 0),
        (verdict(T, counts=False), 3, 0),
        (verdict(A), 4, 3),
        (verdict(A, counts=False), 3, 3),
        (verdict(O), 4, 0),
        (verdict(U), 4, 0),
    ],
)
def test_failures_are_counted_in_a_row_but_for_those_that_do_not_count(
    told: Verdict, failures: int, ambiguous: int
) -> None:
    before = Trouble(
        failure_class=A, code="c", reason="r", at=BEGUN_AT, failures=3, ambiguous=2, retry_at=NOW
    )

    trouble = fail(told, replace(FLYING, trouble=before)).connection.trouble

    assert trouble is not None
    assert (trouble.failures, trouble.ambiguous) == (failures, ambiguous)


@pytest.mark.parametrize("profile", [PLAIN, None])
@pytest.mark.parametrize("age_s", [35.0, 300.0, 9999.0])
def test_an_attempt_that_a_crash_cut_off_is_in_doubt_and_may_be_asked_about_at_once(
    age_s: float, profile: ProviderProfile | None
) -> None:
    now = BEGUN_AT + timedelta(seconds=age_s)

    step = left_open(FLYING, profile, now=now, ids=CountingIds())

    reason = "The daemon ended before the provider's answer was stored"
    trouble = Trouble(
        failure_class=A, code="outcome_unknown", reason=reason, at=now, failures=1, ambiguous=1
    )
    after = replace(IDLE, doubted_at=BEGUN_AT, trouble=trouble, updated_at=now)
    events = told_of(OUTCOME_UNKNOWN, now=now, attempt_id=ATTEMPT_ID)
    assert step == Step(after, tuple(events))
    assert broken_invariant(step.connection) is None


steps_at = st.floats(-1e6, 1e6).map(lambda span_s: NOW + timedelta(seconds=span_s))


@given(
    st.none() | troubles(st.none() | steps_at),
    st.builds(
        verdict,
        st.sampled_from(FailureClass),
        outcome_unknown=st.booleans(),
        counts=st.booleans(),
        retry_after_s=st.none() | st.floats(0, 3600),
    ),
    profiles,
    st.floats(0, 1),
    steps_at,
)
def test_whenever_a_refresh_fails_its_laws_hold_and_the_credentials_stay(
    before: Trouble | None, told: Verdict, profile: ProviderProfile, draw: float, now: datetime
) -> None:
    flying = replace(FLYING, trouble=before)

    for step in (
        fail(told, flying, profile, draw=draw, now=now),
        left_open(flying, profile, now=now, ids=CountingIds()),
    ):
        after = step.connection
        assert broken_invariant(after) is None
        assert (after.intent, after.updated_at) == (None, max(now, flying.updated_at))
        assert (after.credentials, after.generation) == (flying.credentials, flying.generation)
        assert after.is_active or told.failure_class is U
