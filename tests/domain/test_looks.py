"""When a connection is looked at next is reckoned only where that may change it."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.connection import ConnectionStatus, ProviderConnection
from domain.looks import next_look, reckoned_look
from domain.profile import ProviderProfile, RefreshMode
from tests.domain.shapes import NOW, SLUG, near_times, profiles, sealed, stored

_moments = st.integers(-5_000, 20_000).map(lambda span_s: NOW + timedelta(seconds=span_s))
_seldom = st.none() | st.none() | st.none() | _moments


def _held(expires_at: datetime | None, issued_at: datetime | None, **fields: Any) -> Any:
    credentials = replace(sealed(), expires_at=expires_at, issued_at=issued_at)
    return replace(stored(ConnectionStatus.ACTIVE), credentials=credentials, **fields)


_held_ones = st.builds(
    _held,
    st.none() | _moments,
    _seldom,
    generation=st.integers(1, 50),
    granted_at=_moments,
    grant_expires_at=_seldom,
    doubted_at=_seldom,
    refresh=st.none() | st.sampled_from(RefreshMode),
)
_plain = st.builds(
    ProviderProfile,
    slug=st.just(SLUG),
    margin_s=st.sampled_from((0.0, 60.0, 600.0)),
    grant_idle_s=st.none() | st.floats(100, 30_000),
    interval_s_min=st.sampled_from((0.0, 1.0, 600.0)),
)


@given(_held_ones, _plain | profiles, st.none() | _moments | near_times, _moments)
def test_a_glance_finds_what_the_reckoning_does(
    connection: ProviderConnection,
    profile: ProviderProfile,
    known: datetime | None,
    now: datetime,
) -> None:
    found = next_look(connection, profile, known, now=now)

    assert found == reckoned_look(connection, profile, known, now=now)
    event(f"kept {known is not None and found == known}")
