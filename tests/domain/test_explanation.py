"""Every connection can be explained: where it stands, why, what comes next, and who must act."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.advice import HeldBack, Who
from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.credentials import CredentialType, Opaque
from domain.due import next_due
from domain.explanation import Explanation, NextKind, explained
from domain.grant_life import NO_REFRESH_TOKEN_NOTE, WARNING_LEADS_S
from domain.profile import NON_ROTATING, FailureClass, ProviderProfile, RefreshMode, ReusePolicy
from domain.time_words import span, when
from tests.domain.shapes import (
    INTENT,
    NOW,
    SLUG,
    connections,
    profiles,
    sealed,
    spans_s,
    stored,
    times,
    troubles,
)
from tests.fakes.examples import examples

PROFILE = ProviderProfile(slug=SLUG)
HOUR = timedelta(hours=1)
SIGN_IN = "ask the user to sign in again, and give the new credentials with "


def refresh_of(connection: ProviderConnection) -> str:
    return f"{SIGN_IN}`refreshd refresh {connection.id} --credentials-file FILE`"


def connect_of(connection: ProviderConnection) -> str:
    return (
        f"{SIGN_IN}`refreshd connect --connection-id {connection.id} --user-id {connection.user_id}"
        f" --provider-id {connection.provider_id} --provider-slug {connection.provider_slug}"
        " --credentials-file FILE`"
    )


def active(**changes: Any) -> ProviderConnection:
    """Return an ACTIVE connection whose access token lives for another hour."""
    before = stored(ConnectionStatus.ACTIVE)
    changes = {"credentials": sealed(expires_at=NOW + HOUR)} | changes
    return msgspec.structs.replace(before, **changes)


def trouble(failure_class: FailureClass, code: str = "a_code", **changes: Any) -> Trouble:
    return Trouble(
        failure_class=failure_class,
        code=code,
        reason="The reason",
        at=NOW - timedelta(minutes=2),
        **changes,
    )


def told(
    connection: ProviderConnection,
    profile: ProviderProfile | None = PROFILE,
    held_back: HeldBack | None = None,
) -> Explanation:
    return explained(connection, profile, held_back, now=NOW)


@pytest.mark.parametrize(
    ("status", "stands", "who"),
    [
        ("pending", "pending since 2026-03-01T12:00:00Z (60 min ago): its user has not", "user"),
        ("active", "active: its access token lives until 2026-03-01T14:00:00Z (in 60", "nobody"),
        ("expired", "expired: no token is given out", "user"),
        ("revoked", "revoked: no token is given out", "user"),
        ("failed", "failed: its user did not get through", "user"),
        ("disconnected", "disconnected for good: its credentials are gone", "nobody"),
    ],
)
def test_each_status_says_where_it_stands_and_who_must_act(status: str, stands: str, who: str):
    state = ConnectionStatus(status)

    found = told(active() if state is ConnectionStatus.ACTIVE else stored(state))

    assert found.stands.startswith(stands)
    assert found.advice.who == who
    assert (found.next.kind is NextKind.NOTHING) == (status != "active")


@pytest.mark.parametrize(
    "status", [s for s in ConnectionStatus if s is not ConnectionStatus.ACTIVE]
)
def test_what_is_not_active_waits_for_somebody_and_not_for_a_time(status: ConnectionStatus):
    found = told(stored(status), None)

    assert found.next.at is None
    assert found.next.text == "nothing happens by itself"
    assert found.advice.text


MEANINGS = [
    (FailureClass.TRANSIENT, "it may work later, and the grant is kept", "nobody"),
    (FailureClass.OPERATOR, "the configuration is at fault; the grant is kept", "operator"),
    (FailureClass.AMBIGUOUS, "what that means cannot be told yet; the grant is kept", "operator"),
]


@pytest.mark.parametrize(("failure_class", "meaning", "who"), MEANINGS)
def test_each_class_of_failure_says_what_it_means_and_when_it_is_tried_again(
    failure_class: FailureClass, meaning: str, who: str
):
    retry_at = NOW + timedelta(seconds=42)
    why = trouble(failure_class, provider_code="theirs", failures=3, retry_at=retry_at)
    ended = sealed(expires_at=NOW - timedelta(minutes=5))

    found = told(active(trouble=why, credentials=ended))

    assert found.stands == ("active, but its access token ended 2026-03-01T12:55:00Z (5 min ago)")
    failure, means = found.because[:2]
    assert failure == (
        "the last refresh failed 2026-03-01T12:58:00Z (2 min ago): The reason "
        "(a_code, by the provider theirs)"
    )
    assert means == f"{meaning}; 3 failures in a row"
    assert found.next == msgspec.structs.replace(
        found.next,
        kind=NextKind.RETRY,
        at=retry_at,
        text="the provider is asked again at 2026-03-01T13:00:42Z (in 42 s)",
    )
    assert found.advice.who == who


def test_a_code_that_is_the_providers_own_is_said_once():
    why = trouble(FailureClass.USER, "invalid_grant", provider_code="invalid_grant")

    [failure, _] = told(
        msgspec.structs.replace(stored(ConnectionStatus.EXPIRED), trouble=why)
    ).because

    assert failure.endswith(": The reason (invalid_grant)")


def test_a_grant_that_the_provider_has_ended_asks_for_its_user():
    dead = msgspec.structs.replace(
        stored(ConnectionStatus.EXPIRED), trouble=trouble(FailureClass.USER, "invalid_grant")
    )

    found = told(dead)

    assert "(invalid_grant)" in found.because[0]
    assert found.because[1] == "the grant is dead, and only its user can mend that"
    assert found.advice.who is Who.USER
    assert found.advice.text == connect_of(dead)


def test_the_next_refresh_is_the_one_that_is_due():
    connection = active()
    due = next_due(connection, PROFILE, now=NOW)
    assert due is not None

    found = told(connection).next

    assert found.kind is NextKind.REFRESH
    assert found.at == due.at
    assert found.text == f"its access token is refreshed at {when(due.at, NOW)}"


def test_what_is_late_comes_now():
    found = told(active(credentials=sealed(expires_at=NOW - HOUR))).next

    assert found.text == "its access token is refreshed now, in its turn"


def test_a_refresh_under_way_is_told_with_who_makes_it_and_until_when():
    found = told(active(intent=INTENT))

    assert "".join(found.because) == (
        "daemon me has been asking the provider for new tokens since "
        "2026-03-01T12:59:40Z (20 s ago)"
    )
    assert found.next.kind is NextKind.OUTCOME
    assert found.next.at == INTENT.deadline_at


def test_requests_that_are_held_back_put_off_what_is_next():
    held = HeldBack(FailureClass.OPERATOR, "The provider refuses the client", 600.0)

    found = told(active(credentials=sealed(expires_at=NOW - HOUR)), held_back=held)

    assert "".join(found.because) == (
        "nobody asks this provider for 10 min: The provider refuses the client "
        "(the configuration is at fault; the grant is kept)"
    )
    assert found.next.at == NOW + timedelta(minutes=10)
    assert found.next.text.endswith("when requests are let through again")
    assert found.advice.who is Who.OPERATOR


def test_what_is_held_back_for_less_than_until_it_is_due_changes_nothing():
    held = HeldBack(FailureClass.TRANSIENT, "It does not answer", 1.0)

    assert told(active(), held_back=held).next == told(active()).next


@pytest.mark.parametrize(
    ("policy", "then"),
    [
        (NON_ROTATING, "the provider takes it again, so it is tried again"),
        (ReusePolicy("grace", 300.0), "the provider takes it again until"),
        (ReusePolicy("grace", 60.0), "presented again it could end the grant"),
        (ReusePolicy("none"), "presented again it could end the grant"),
    ],
)
def test_a_refresh_token_in_doubt_says_what_is_done_with_it(policy: ReusePolicy, then: str):
    profile = msgspec.structs.replace(PROFILE, reuse_policy=policy)

    [why] = told(active(doubted_at=NOW - timedelta(minutes=2)), profile).because

    assert why.startswith("since 2026-03-01T12:58:00Z (2 min ago) the refresh token may be spent")
    assert then in why


def test_a_grant_that_ends_by_the_calendar_asks_for_its_user_in_time():
    profile = msgspec.structs.replace(PROFILE, grant_lifetime_s=86_400.0)

    connection = active(granted_at=NOW - HOUR)

    found = told(connection, profile)

    assert found.because == (
        "the grant ends 2026-03-02T12:00:00Z (in 23 h), however often it is used",
    )
    assert found.advice.who is Who.USER
    assert found.advice.text == f"before the grant ends, {refresh_of(connection)}"


@pytest.mark.parametrize("trouble_code", [None, "server_error"])
def test_a_refresh_past_the_grants_end_is_said_to_be_a_trial(trouble_code: str | None):
    profile = msgspec.structs.replace(PROFILE, grant_lifetime_s=1_800.0)
    used = msgspec.structs.replace(sealed(expires_at=NOW + HOUR), issued_at=NOW - HOUR)
    why = None if trouble_code is None else trouble(FailureClass.TRANSIENT, trouble_code)
    connection = active(
        granted_at=NOW - HOUR, credentials=used, trouble=why, warned_lead_s=WARNING_LEADS_S[-1]
    )

    found = told(connection, profile)

    assert "the grant ended 2026-03-01T12:30:00Z (30 min ago)" in "".join(found.because)
    assert found.next.text == (
        "the provider is asked at 2026-03-01T14:00:00Z (in 60 min), as a trial: by the calendar "
        "the grant has ended by then"
    )
    assert found.advice.text == refresh_of(connection)


def test_a_grant_whose_end_was_told_asks_for_its_user():
    connection = active(warned_lead_s=0)

    found = told(connection)

    assert "by the calendar the grant has ended, and that was told as an event" in found.because
    assert found.advice.text == refresh_of(connection)


def test_a_grant_that_ends_unused_needs_nothing_but_a_refresh():
    profile = msgspec.structs.replace(PROFILE, grant_idle_s=2 * 86_400.0)
    used = msgspec.structs.replace(
        sealed(expires_at=NOW - HOUR), issued_at=NOW - timedelta(hours=44)
    )

    found = told(active(credentials=used), profile)

    assert found.because == (
        "the grant ends 2026-03-01T17:00:00Z (in 4 h), unless it is refreshed before",
    )
    assert found.advice.who is Who.OPERATOR


def test_what_has_no_refresh_token_ends_with_its_access_token():
    lacking = msgspec.structs.replace(sealed(expires_at=NOW + HOUR), notes=(NO_REFRESH_TOKEN_NOTE,))

    connection = active(credentials=lacking)

    found = told(connection)

    assert found.because == (
        "there is no refresh token: it ends 2026-03-01T14:00:00Z (in 60 min)",
        "noted of its credentials: no_refresh_token",
    )
    assert found.advice.who is Who.USER
    assert found.advice.text == f"before the grant ends, {refresh_of(connection)}"


def test_a_provider_without_a_profile_is_the_operators_to_mend():
    found = told(active(), None)

    assert found.because == (f"no profile is configured for provider {SLUG}",)
    assert found.next.text == "nothing happens by itself: it cannot be refreshed"
    assert found.advice.text.startswith(
        f"add [providers.{SLUG}] to the configuration, and reload (SIGHUP)"
    )


def test_credentials_that_the_daemon_cannot_read_are_said_to_be_the_callers():
    own = msgspec.structs.replace(sealed(), payload=Opaque(data=b"sealed elsewhere"))
    key = msgspec.structs.replace(sealed(), credential_type=CredentialType.API_KEY)

    assert "sealed by the caller" in told(active(credentials=own)).because[0]
    assert told(active(credentials=key)).because == (
        "api_key credentials are stored and never refreshed",
    )
    assert told(active(credentials=key)).stands == "active: what it holds has no known end"


def test_a_connection_on_demand_waits_for_its_callers():
    found = told(active(refresh=RefreshMode.ON_DEMAND))

    assert found.because == ("it is refreshed on demand: when a caller needs a token",)
    assert found.next.text == (
        "nothing happens by itself: it is refreshed when a caller needs a token"
    )


held_back = st.none() | st.builds(
    HeldBack, st.sampled_from(FailureClass), st.text(max_size=20), spans_s
)


@settings(max_examples=examples(500))
@given(connections(troubled=True), st.none() | profiles, held_back, times)
def test_every_connection_has_all_four_parts_whatever_its_times(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    held: HeldBack | None,
    now: datetime,
):
    found = explained(connection, profile, held, now=now)

    assert found.stands.startswith(connection.status)
    assert found.next.text
    assert found.advice.text
    assert (found.next.at is None) == (found.next.kind is NextKind.NOTHING)
    # A connection that is over, or in trouble, never goes without a reason.
    if connection.trouble is not None or connection.intent is not None:
        assert found.because
    if connection.status in (ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED):
        assert found.advice.who is Who.USER


@given(connections(), troubles(st.none() | times), times)
def test_no_bytes_of_credentials_are_in_the_words(
    connection: ProviderConnection, why: Trouble, now: datetime
):
    secret = sealed("canary-of-the-secret", expires_at=NOW)
    if connection.credentials is not None:
        connection = msgspec.structs.replace(connection, credentials=secret, trouble=why)

    assert b"canary" not in msgspec.json.encode(explained(connection, PROFILE, None, now=now))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5_900, "98 min"),
        (6_000, "2 h"),
        (47 * 3_600, "47 h"),
        (2 * 86_400, "2 d"),
        (999 * 86_400, "999 d"),
        (1_000 * 86_400, "3 y"),
    ],
)
def test_a_span_is_told_to_the_unit_that_matters(seconds: float, words: str):
    assert span(seconds) == words


def test_a_time_is_told_with_how_far_it_is():
    assert when(NOW, NOW) == "2026-03-01T13:00:00Z (now)"
    assert when(NOW + HOUR, NOW).endswith("(in 60 min)")
    assert when(datetime.min.replace(tzinfo=UTC), NOW).endswith("(2025 y ago)")
