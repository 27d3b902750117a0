"""A grant's ends are told apart: those that stay, those that each use puts off."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from domain.commands import Refresh
from domain.connection import ConnectionStatus, ProviderConnection
from domain.decision import decide
from domain.exchange import Tokens
from domain.grant_life import (
    EndCause,
    GrantEnd,
    end_slides,
    grant_ends,
    open_leads_s,
    still_told_s,
    used_at,
)
from domain.profile import ProviderProfile
from domain.refreshing import succeeded
from tests.domain.shapes import CONNECTION_ID, CREATED_AT, FLYING, NOW, SLUG, sealed, stored
from tests.fakes.world import CountingIds

DAY_S = 86_400.0
ALL, WITHIN_A_DAY = (604_800, 86_400, 43_200), (43_200,)
PLAIN = ProviderProfile(slug=SLUG)


def after(span_s: float) -> datetime:
    """Return a time by its distance from NOW."""
    return NOW + timedelta(seconds=span_s)


def granted(**fields: Any) -> ProviderConnection:
    """Return a connection whose user consented at NOW."""
    return replace(stored(ConnectionStatus.ACTIVE), granted_at=NOW, **fields)


def answered(told_s: float, *, at_s: float, before: ProviderConnection) -> ProviderConnection:
    """Return a connection after an answer that tells when the refresh token ends."""
    now = after(at_s)
    held = replace(sealed(), issued_at=now)
    tokens = Tokens(access_token="a", expires_at=now, grant_expires_at=after(told_s))
    flying = replace(FLYING, credentials=before.credentials, updated_at=now)
    for name in ("grant_expires_at", "grant_slides", "granted_at"):
        flying = replace(flying, **{name: getattr(before, name)})
    step = succeeded(flying, tokens, held, PLAIN, now=now, ids=CountingIds())
    return step.connection


@pytest.mark.parametrize(
    ("told_s", "slides"),
    [(7 * DAY_S, False), (7 * DAY_S + 1, False), (7 * DAY_S - 60, False), (7 * DAY_S + 60, True)],
)
def test_two_answers_show_whether_an_end_is_put_off(told_s: float, *, slides: bool) -> None:
    first = answered(7 * DAY_S, at_s=0, before=granted())
    second = answered(told_s, at_s=60, before=first)
    third = answered(8 * DAY_S, at_s=60, before=second)

    assert (first.grant_slides, second.grant_slides, third.grant_slides) == (None, slides, slides)


def test_another_grant_has_another_end() -> None:
    before = granted(grant_expires_at=after(DAY_S), grant_slides=True, warned_lead_s=43_200)
    command = Refresh(connection_id=CONNECTION_ID, credentials=sealed("new"))

    connection = decide(before, command, now=NOW, ids=CountingIds()).connection

    assert connection is not None
    assert (connection.grant_expires_at, connection.grant_slides) == (None, None)
    assert connection.warned_lead_s is None


def test_what_no_answer_tells_stays_as_it_was_and_never_is_forgotten() -> None:
    unset = Tokens(access_token="a", expires_at=NOW, grant_expires_at=UNSET)

    def step(tokens: Tokens, *, slides: bool | None = True) -> ProviderConnection:
        before = replace(FLYING, grant_slides=slides)
        return succeeded(before, tokens, sealed(), PLAIN, now=NOW, ids=CountingIds()).connection

    assert step(unset).grant_slides is True
    assert step(unset, slides=None).grant_slides is False
    assert step(replace(unset, grant_expires_at=None)).grant_slides is None


def test_a_clock_that_went_back_between_two_answers_shows_nothing() -> None:
    held = replace(sealed(), issued_at=after(60))
    before = granted(credentials=held, grant_expires_at=after(DAY_S), grant_slides=False)

    assert end_slides(before, after(2 * DAY_S), now=NOW) is False


@pytest.mark.parametrize(
    ("fields", "profile", "expected"),
    [
        ({}, {}, []),
        (
            {},
            {"grant_lifetime_s": DAY_S},
            [GrantEnd(after(DAY_S), EndCause.LIFETIME, ALL)],
        ),
        (
            {},
            {"grant_idle_s": 60 * DAY_S},
            [GrantEnd(after(60 * DAY_S), EndCause.IDLE, ALL)],
        ),
        (
            {},
            {"grant_idle_s": 1.5 * DAY_S},
            [GrantEnd(after(1.5 * DAY_S), EndCause.IDLE, WITHIN_A_DAY)],
        ),
        ({}, {"grant_idle_s": 60.0}, [GrantEnd(after(60), EndCause.IDLE, ())]),
        (
            {"grant_expires_at": after(1800), "grant_slides": True},
            {},
            [GrantEnd(after(1800), EndCause.IDLE, ())],
        ),
        (
            {"grant_expires_at": after(1800), "grant_slides": False},
            {},
            [GrantEnd(after(1800), EndCause.LIFETIME, ALL)],
        ),
        (
            {"credentials": replace(sealed(expires_at=after(9)), notes=("no_refresh_token",))},
            {"grant_idle_s": 60.0},
            [GrantEnd(after(9), EndCause.NO_REFRESH_TOKEN, ALL)],
        ),
        (
            {"credentials": replace(sealed(), issued_at=after(DAY_S))},
            {"grant_lifetime_s": DAY_S},
            [],
        ),
    ],
    ids=str,
)
def test_each_end_is_told_with_its_cause(
    fields: dict[str, Any], profile: dict[str, Any], expected: list[GrantEnd]
) -> None:
    assert grant_ends(granted(**fields), ProviderProfile(slug=SLUG, **profile)) == expected


@pytest.mark.parametrize("status", [one for one in ConnectionStatus if one != "active"])
def test_a_grant_that_is_not_active_has_no_end(status: ConnectionStatus) -> None:
    profile = ProviderProfile(slug=SLUG, grant_lifetime_s=DAY_S, grant_idle_s=DAY_S)

    assert grant_ends(replace(stored(status), granted_at=NOW), profile) == []


@pytest.mark.parametrize(
    ("left_s", "count"), [(8 * DAY_S, 0), (7 * DAY_S, 1), (0.6 * DAY_S, 2), (1.0, 3), (-1.0, 3)]
)
def test_a_lead_begins_so_long_before_the_end(left_s: float, count: int) -> None:
    ends = [GrantEnd(after(left_s), EndCause.LIFETIME, ALL)]

    assert open_leads_s(ends, NOW) == set(ALL[:count])


@pytest.mark.parametrize(
    ("told_s", "left_s", "expected"),
    [
        (None, 1.0, None),
        (604_800, 6 * DAY_S, 604_800),
        (604_800, 0.9 * DAY_S, 604_800),
        (604_800, 8 * DAY_S, None),
        (43_200, 1.0, 43_200),
        (43_200, 0.9 * DAY_S, 86_400),
        (0, 2 * DAY_S, 604_800),
    ],
)
def test_a_use_leaves_told_what_has_begun_anew_and_loses_no_warning_that_is_due(
    told_s: int | None, left_s: float, expected: int | None
) -> None:
    ends = [GrantEnd(after(left_s), EndCause.LIFETIME, ALL)]

    assert still_told_s(ends, NOW, told_s) == expected


def test_a_grant_was_used_last_when_it_was_given_where_nothing_says_otherwise() -> None:
    old = replace(stored(ConnectionStatus.ACTIVE), connected_at=None)

    assert used_at(old) == CREATED_AT
    assert used_at(granted()) == NOW
    assert used_at(replace(granted(connected_at=after(-5)), granted_at=after(-9e6))) == after(-5)
    assert used_at(granted(credentials=replace(sealed(), issued_at=after(5)))) == after(5)
