"""Who follows the due times comes to no storm and goes in no circle, whatever a provider does."""

import random
from collections import Counter
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.connection import ProviderConnection, Trouble
from domain.due import refresh_due
from domain.exchange import Tokens, Verdict
from domain.profile import FailureClass, ProviderProfile, RefreshMode
from domain.refreshing import BACKOFF_S_MAX, begun, failed, succeeded
from tests.domain.shapes import ATTEMPT_ID, NOW, profiles, sealed, spans_s
from tests.domain.test_due import DAY_S, PLAIN, after, issued, others
from tests.fakes.world import CountingIds


def refreshed(
    connection: ProviderConnection, of: ProviderProfile, now: datetime, lives_s: float
) -> ProviderConnection:
    """Return the connection after a refresh that took no time."""
    flying = begun(connection, of, attempt_id=ATTEMPT_ID, owner="me", now=now).connection
    ends_at = now + timedelta(seconds=lives_s)
    held = replace(sealed(), expires_at=ends_at, issued_at=now)
    tokens = Tokens(access_token="a", expires_at=ends_at)
    return succeeded(flying, tokens, held, of, now=now, ids=CountingIds()).connection


def missed(
    connection: ProviderConnection, of: ProviderProfile, now: datetime, draw: float
) -> ProviderConnection:
    """Return the connection after a refresh that the provider did not answer."""
    told = Verdict(failure_class=FailureClass.TRANSIENT, code="connect_failed", reason="Down")
    flying = begun(connection, of, attempt_id=ATTEMPT_ID, owner="me", now=now).connection
    return failed(flying, told, of, draw=draw, now=now, ids=CountingIds()).connection


@given(
    profiles,
    st.lists(st.tuples(st.booleans(), st.floats(0, 1), spans_s), min_size=20, max_size=20),
)
def test_who_follows_the_due_times_never_goes_in_a_circle(
    of: ProviderProfile, world: list[tuple[bool, float, float]]
) -> None:
    of = replace(of, refresh=RefreshMode.PROACTIVE)
    connection, now, tried_at = issued(), NOW, None
    for is_up, draw, lives_s in world:
        due = refresh_due(connection, of, now=now)
        if due is None:
            break
        now = max(now, due.at)
        again = refresh_due(connection, of, now=now)
        assert again is not None
        assert again.at == now
        if tried_at is not None:
            assert (now - tried_at).total_seconds() >= min(of.interval_s_min, 0.5) - 1e-6
        tried_at = now
        if is_up:
            connection = refreshed(connection, of, now, lives_s)
        else:
            connection = missed(connection, of, now, draw)


def test_after_a_week_without_the_provider_its_connections_come_one_by_one() -> None:
    draws = random.Random(1)
    count, back_at = 1000, after(7 * DAY_S)
    per_s: Counter[int] = Counter()
    for one in others(count, issued(1800.0)):
        last_hour = back_at - timedelta(hours=1)
        trouble = Trouble(
            failure_class=FailureClass.TRANSIENT,
            code="connect_failed",
            reason="Down",
            at=last_hour,
            failures=4000,
            retry_at=last_hour,
        )
        connection = replace(one, trouble=trouble)
        while (due := refresh_due(connection, PLAIN)) is not None and due.at < back_at:
            connection = missed(connection, PLAIN, due.at, draws.random())
        assert due is not None
        assert connection.is_active
        per_s[int((due.at - back_at).total_seconds())] += 1

    # Each within the longest pause; no second is much fuller than the mean of the first ones.
    assert max(per_s) < BACKOFF_S_MAX
    assert max(per_s.values()) <= 6 * count / BACKOFF_S_MAX


def test_what_was_refreshed_at_once_comes_evenly_some_hours_later() -> None:
    lives_s, bins, bin_s = 1800.0, 10, 150
    from_at = after(6 * 3600)
    counts: Counter[int] = Counter()
    for one in others(300, issued(lives_s)):
        connection = one
        while (due := refresh_due(connection, PLAIN)) is not None:
            at_bin = int((due.at - from_at).total_seconds() // bin_s)
            if at_bin >= bins:
                break
            counts[at_bin] += at_bin >= 0
            connection = refreshed(connection, PLAIN, due.at, lives_s)

    assert max(counts.values()) < 1.8 * counts.total() / bins
