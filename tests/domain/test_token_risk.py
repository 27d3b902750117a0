"""No refresh token is presented at a risk, and no step of the clock blocks or ends a connection."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.commands import GetToken
from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials
from domain.exchange import Tokens, Verdict
from domain.expiry import SKEW_S_MIN
from domain.grant_life import grant_ends_at
from domain.profile import NO_REUSE, NON_ROTATING, UNKNOWN_REUSE, FailureClass, ProviderProfile
from domain.refreshing import failed, succeeded
from domain.result import Failure, FailureCode
from domain.token_read import (
    GRANT_EXPIRED,
    NO_REFRESH_TOKEN,
    REPLAY_LEAD_S,
    Ask,
    Reading,
    Serve,
    read_token,
    reauth_required,
    redated,
    token_left_s,
)
from tests.domain.shapes import (
    CONNECTION_ID,
    FLYING,
    NOW,
    asks,
    connections,
    near_times,
    profiles,
    sealed,
    spans_s,
    stored,
    troubles,
)
from tests.fakes.world import CountingIds

GENERATION = 7
NO_REFRESH, OVER = reauth_required(NO_REFRESH_TOKEN), reauth_required(GRANT_EXPIRED)


def lives_s(credentials: Credentials | None) -> float:
    """Return how long a token lives from NOW on, which no token was issued after."""
    assert credentials is not None
    expires_at, issued_at = credentials.expires_at, credentials.issued_at or NOW
    counts_from = issued_at if issued_at - NOW > timedelta(seconds=SKEW_S_MIN) else NOW
    return float("inf") if expires_at is None else (expires_at - counts_from).total_seconds()


readables = st.builds(
    lambda expires_at, issued_at, **fields: replace(
        stored(ConnectionStatus.ACTIVE),
        generation=GENERATION,
        **fields,
        credentials=replace(sealed(expires_at=expires_at), issued_at=issued_at),
    ),
    expires_at=near_times,
    issued_at=near_times,
    doubted_at=near_times,
    granted_at=near_times,
    grant_expires_at=near_times,
    trouble=st.none() | troubles(near_times),
)
oddities = st.builds(
    replace, connections(troubled=True), doubted_at=near_times, granted_at=near_times
)


def is_disproved(connection: ProviderConnection, ends_at: datetime) -> bool:
    """Whether the provider has issued tokens after the grant's end."""
    issued_at = connection.credentials and connection.credentials.issued_at
    return issued_at is not None and issued_at >= ends_at


def is_fit_for_trial(
    connection: ProviderConnection, ends_at: datetime, profile: ProviderProfile
) -> bool:
    """Whether presenting the token of a grant past its end is no replay, and no repetition."""
    told, is_free = connection.trouble, profile.reuse_policy == NON_ROTATING
    may_try, pause = profile.grant_trial_interval_s > 0, profile.grant_trial_interval_s
    just_tried = (
        told is not None and ends_at <= told.at <= NOW and NOW - told.at < timedelta(seconds=pause)
    )
    return may_try and not just_tried and (is_free or connection.doubted_at is None)


@given(readables, asks(GENERATION), profiles, st.booleans())
def test_no_refresh_token_is_presented_at_a_risk(
    connection: ProviderConnection, ask: GetToken, of: ProviderProfile, presented: bool
) -> None:
    left_s, told = lives_s(connection.credentials), connection.trouble
    was_rejected = ask.if_generation == GENERATION

    reading = read_token(connection, ask, of, presented=presented, now=NOW)

    if isinstance(reading, Ask):
        ends_at = grant_ends_at(connection, of)
        assert presented
        if ends_at is not None and ends_at <= NOW:
            assert is_disproved(connection, ends_at) or is_fit_for_trial(connection, ends_at, of)
        if told is not None and told.retry_at is not None:
            assert told.retry_at <= NOW or told.at > NOW
        in_doubt = connection.doubted_at is not None and connection.doubted_at <= NOW
        if in_doubt and of.reuse_policy in (NO_REUSE, UNKNOWN_REUSE):
            assert left_s <= REPLAY_LEAD_S or was_rejected
        assert reading.can_wait == (left_s > 0 and not was_rejected)
    assert left_s <= 0 or reading not in (NO_REFRESH, OVER)


@given(readables, asks(GENERATION), profiles, spans_s)
def test_a_token_of_a_faster_clock_is_never_fresh_and_outlives_its_lifetime_nowhere(
    connection: ProviderConnection, ask: GetToken, of: ProviderProfile, pause_s: float
) -> None:
    noted = redated(connection, NOW)
    issued_at = connection.credentials and connection.credentials.issued_at
    is_ahead = issued_at is not None and issued_at - NOW > timedelta(seconds=SKEW_S_MIN)

    assert (noted is not None) == is_ahead
    if noted is None:
        return
    held, now = noted.credentials, NOW + timedelta(seconds=pause_s)
    assert held is not None
    reading = read_token(noted, ask, of, presented=True, now=now)
    assert not isinstance(reading, Serve) or reading.stale
    assert redated(noted, now) is None
    if held.expires_at is not None and held.issued_at is not None:
        lifetime_s = (held.expires_at - held.issued_at).total_seconds()
        assert token_left_s(held, now) == pytest.approx(lifetime_s - pause_s, abs=1e-3)


def test_it_is_noted_again_when_the_clock_is_set_back_further_and_not_amid_a_refresh() -> None:
    ahead = replace(sealed(expires_at=NOW), issued_at=NOW + timedelta(days=1))
    idle = replace(FLYING, intent=None, credentials=ahead)
    noted = redated(idle, NOW)
    assert noted is not None
    assert noted.updated_at == NOW

    earlier = redated(noted, NOW - timedelta(seconds=1))

    assert earlier is not None
    assert earlier.credentials == replace(ahead, redated_at=NOW - timedelta(seconds=1))
    assert earlier.updated_at == NOW
    assert redated(noted, NOW) is None
    assert redated(replace(FLYING, credentials=ahead), NOW) is None
    assert redated(replace(idle, credentials=None), NOW) is None
    assert redated(None, NOW) is None


@given(oddities | readables, asks(GENERATION), st.none() | profiles, st.booleans())
def test_whatever_is_stored_has_a_reading(
    connection: ProviderConnection, ask: GetToken, of: ProviderProfile | None, presented: bool
) -> None:
    reading = read_token(connection, ask, of, presented=presented, now=NOW)

    assert connection.is_active or isinstance(reading, Failure)


steps_s = st.sampled_from([-86_400.0, -31.0, -1.0, 0.0, 1.0, 86_400.0]) | st.floats(-1e9, 1e9)
wishes = st.sampled_from([{}, {"force": True}, {"if_generation": 1}, {"if_generation": 2}])


def read_after(
    connection: ProviderConnection, profile: ProviderProfile, step_s: float, **ask: object
) -> Reading:
    """Return the reading once the clock was set by ``step_s``."""
    wish = GetToken(connection_id=CONNECTION_ID, **ask)  # type: ignore[arg-type]
    now = NOW + timedelta(seconds=step_s)
    return read_token(connection, wish, profile, presented=True, now=now)


@given(
    st.sampled_from([FailureClass.TRANSIENT, FailureClass.AMBIGUOUS, FailureClass.OPERATOR]),
    st.none() | st.floats(0, 3600),
    profiles,
    steps_s,
    wishes,
)
def test_no_step_of_the_clock_makes_a_pause_longer_than_it_was_meant(
    failure_class: FailureClass,
    asked_s: float | None,
    of: ProviderProfile,
    step_s: float,
    ask: dict[str, object],
) -> None:
    told = Verdict(
        failure_class=failure_class,
        code="x",
        reason="x",
        outcome_unknown=True,
        retry_after_s=asked_s,
    )
    flying = replace(FLYING, credentials=sealed(expires_at=NOW), grant_expires_at=None)
    after = failed(flying, told, of, draw=0.0, now=NOW, ids=CountingIds()).connection
    assert after.trouble is not None
    assert after.trouble.retry_at is not None
    meant_s = (after.trouble.retry_at - NOW).total_seconds()

    reading = read_after(replace(after, granted_at=None), of, step_s, **ask)

    if isinstance(reading, Failure):
        assert reading.code is not FailureCode.REAUTH_REQUIRED
        assert reading.retry_after_s is not None
        assert reading.retry_after_s <= max(meant_s, 1.0) + 0.1


@given(st.floats(0, 86_400), profiles, steps_s, wishes)
def test_no_step_of_the_clock_after_a_refresh_blocks_the_next_one(
    lifetime_s: float, of: ProviderProfile, step_s: float, ask: dict[str, object]
) -> None:
    ends_at = NOW + timedelta(seconds=lifetime_s)
    tokens = Tokens(access_token="a2", refresh_token="r2", expires_at=ends_at)
    held = replace(sealed(expires_at=ends_at), issued_at=NOW)
    flying = replace(FLYING, grant_expires_at=None, granted_at=None)
    after = succeeded(flying, tokens, held, of, now=NOW, ids=CountingIds()).connection

    reading = read_after(after, of, step_s, **ask)

    if step_s < -30.0:
        # It was issued in the future: when it ends is not known, so the provider is asked.
        assert isinstance(reading, Ask)
    elif isinstance(reading, Failure):
        assert reading.retry_after_s is not None
        assert reading.retry_after_s <= max(of.interval_s_min, 1.0) + 0.1


@given(profiles, steps_s, st.booleans())
def test_an_end_by_the_calendar_is_undone_by_a_clock_that_is_right_again(
    of: ProviderProfile, step_s: float, is_certain: bool
) -> None:
    connection = replace(
        FLYING,
        intent=None,
        credentials=sealed(expires_at=NOW),
        granted_at=NOW,
        grant_expires_at=NOW + timedelta(seconds=100),
    )
    trial_s = 0.0 if is_certain else 3600.0
    profile = replace(of, grant_lifetime_s=200.0, grant_trial_interval_s=trial_s)

    assert (read_after(connection, profile, step_s) == OVER) == (step_s >= 100.0 and is_certain)
    assert read_after(connection, profile, 0.0) == Ask(can_wait=False)


@given(profiles, st.floats(100.0, 1e9), wishes)
def test_a_grant_past_its_end_is_tried_once_and_not_again_while_that_is_recent(
    of: ProviderProfile, step_s: float, ask: dict[str, object]
) -> None:
    profile = ProviderProfile(slug="x", reuse_policy=of.reuse_policy)
    over = replace(
        FLYING,
        intent=None,
        credentials=sealed(expires_at=NOW),
        grant_expires_at=NOW + timedelta(seconds=100),
    )
    unsent = Verdict(failure_class=FailureClass.TRANSIENT, code="x", reason="x")
    now = NOW + timedelta(seconds=step_s)
    after = failed(over, unsent, profile, draw=0.0, now=now, ids=CountingIds()).connection

    assert read_after(over, profile, step_s, **ask) == Ask(can_wait=False)
    assert read_after(after, profile, step_s, **ask) == OVER
    assert read_after(after, profile, step_s + 3599.0, **ask) == OVER
    assert read_after(after, profile, step_s + 3601.0, **ask) == Ask(can_wait=False)
