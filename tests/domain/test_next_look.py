"""The look that is noted is never later than what is due, and leaves no trail of entries."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.connection import ProviderConnection
from domain.due import next_due
from domain.looks import epoch_s, is_moved, minute_of, next_look, urgent_at
from domain.profile import ProviderProfile
from tests.domain.shapes import NOW, connections, near_times, profiles

_times = st.datetimes(timezones=st.just(UTC))


@given(connections(troubled=True), profiles, near_times)
def test_a_look_is_never_later_than_what_is_due_unless_it_is_put_off(
    connection: ProviderConnection, profile: ProviderProfile, known: datetime | None
) -> None:
    connection = replace(connection, intent=None)
    due = next_due(connection, profile, now=NOW)

    look_at = next_look(connection, profile, known, now=NOW)

    assert (look_at is None) == (due is None)
    if look_at is not None and due is not None:
        assert look_at <= due.at
        assert look_at in (due.at, known)
        assert look_at > NOW or due.at <= NOW


@given(connections(troubled=True), profiles, near_times.filter(bool))
def test_the_entry_that_is_there_stays_as_long_as_it_comes_first(
    connection: ProviderConnection, profile: ProviderProfile, known: datetime
) -> None:
    connection = replace(connection, intent=None)
    due = next_due(connection, profile, now=NOW)

    look_at = next_look(connection, profile, known, now=NOW)

    if due is not None and NOW < known <= due.at:
        assert look_at == known
        assert not is_moved(known, look_at)


@given(connections(troubled=True), profiles, near_times, _times)
def test_what_is_put_off_comes_no_sooner(
    connection: ProviderConnection,
    profile: ProviderProfile,
    known: datetime | None,
    no_sooner: datetime,
) -> None:
    connection = replace(connection, intent=None)

    look_at = next_look(connection, profile, known, now=NOW, no_sooner=no_sooner)

    assert look_at is None or look_at >= no_sooner


@given(connections(), near_times)
def test_an_attempt_under_way_leaves_the_look_that_is_noted(
    connection: ProviderConnection, known: datetime | None
) -> None:
    look_at = next_look(connection, None, known, now=NOW)

    if connection.intent is not None:
        assert look_at == (known or connection.intent.deadline_at)


@given(connections(troubled=True), profiles, _times)
def test_a_grant_that_ends_within_a_day_is_more_urgent_than_a_token_that_has_just_ended(
    connection: ProviderConnection, profile: ProviderProfile, look_at: datetime
) -> None:
    ending = replace(connection, grant_expires_at=NOW + timedelta(hours=23))

    assert urgent_at(ending, profile, look_at) <= NOW - timedelta(hours=1)


@given(_times, _times)
def test_minutes_follow_each_other_as_times_do(one: datetime, other: datetime) -> None:
    assert (minute_of(one) <= minute_of(other)) or one > other
    assert minute_of(one) * 60 <= epoch_s(one) < (minute_of(one) + 1) * 60
