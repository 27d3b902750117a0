"""A refresh token is in doubt from its first presentation that may have spent it unheard."""

from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from domain.connection import ProviderConnection, broken_invariant
from domain.exchange import Tokens, Verdict
from domain.profile import (
    NO_REUSE,
    NON_ROTATING,
    UNKNOWN_REUSE,
    FailureClass,
    ProviderProfile,
    ReusePolicy,
)
from domain.refreshing import OUTCOME_UNKNOWN, failed, left_open, succeeded
from tests.domain.shapes import BEGUN_AT, FLYING, GRANTED_AT, IDLE, NOW, SLUG, sealed
from tests.fakes.world import CountingIds


@pytest.mark.parametrize(
    ("connection", "policy", "outcome_unknown", "expected"),
    [
        (FLYING, NO_REUSE, True, BEGUN_AT),
        (FLYING, UNKNOWN_REUSE, True, BEGUN_AT),
        (FLYING, ReusePolicy("grace", 30), True, BEGUN_AT),
        (FLYING, NON_ROTATING, True, None),
        (FLYING, NO_REUSE, False, None),
        (FLYING, UNKNOWN_REUSE, False, None),
        (IDLE, NO_REUSE, True, None),
        (replace(FLYING, doubted_at=GRANTED_AT), NO_REUSE, True, GRANTED_AT),
        (replace(FLYING, doubted_at=GRANTED_AT), NO_REUSE, False, GRANTED_AT),
    ],
)
def test_a_refresh_token_is_in_doubt_from_the_first_presentation_of_unknown_end(
    connection: ProviderConnection,
    policy: ReusePolicy,
    outcome_unknown: bool,
    expected: datetime | None,
) -> None:
    profile = ProviderProfile(slug=SLUG, reuse_policy=policy)

    verdict = replace(OUTCOME_UNKNOWN, outcome_unknown=outcome_unknown)

    step = failed(connection, verdict, profile, draw=0.0, now=NOW, ids=CountingIds())

    assert step.connection.doubted_at == expected
    if outcome_unknown and connection.intent is not None:
        cut_off = left_open(connection, profile, now=NOW, ids=CountingIds())
        assert cut_off.connection.doubted_at == expected


@pytest.mark.parametrize(
    ("connection", "profile", "expected"),
    [
        (FLYING, {"reuse_policy": NO_REUSE}, BEGUN_AT),
        (FLYING, {"reuse_policy": UNKNOWN_REUSE}, BEGUN_AT),
        (FLYING, {"reuse_policy": ReusePolicy("grace", 30)}, BEGUN_AT),
        (FLYING, {"reuse_policy": NON_ROTATING}, None),
        (FLYING, {"presents": "access_token"}, None),
        (replace(FLYING, doubted_at=GRANTED_AT), {"reuse_policy": NO_REUSE}, GRANTED_AT),
    ],
)
def test_a_refresh_token_whose_successor_could_not_be_read_stays_in_doubt(
    connection: ProviderConnection, profile: dict[str, Any], expected: datetime | None
) -> None:
    tokens = Tokens(access_token="a2", expires_at=NOW, replaces_unread=True)
    told = ProviderProfile(slug=SLUG, **profile)

    step = succeeded(connection, tokens, sealed("new"), told, now=NOW, ids=CountingIds())

    after = step.connection

    assert (after.doubted_at, after.generation) == (expected, 2)
    assert broken_invariant(after) is None


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_new_refresh_token_of_a_failed_refresh_is_stored_and_ends_the_doubt(
    is_dead: bool,
) -> None:
    verdict = Verdict(
        failure_class=FailureClass.USER if is_dead else FailureClass.AMBIGUOUS,
        code="x",
        reason="x",
    )
    before = replace(FLYING, doubted_at=GRANTED_AT)
    new = sealed("new")

    step = failed(
        before,
        verdict,
        ProviderProfile(slug=SLUG),
        credentials=new,
        draw=0.0,
        now=NOW,
        ids=CountingIds(),
    ).connection

    assert (step.credentials, step.doubted_at, step.intent) == (new, None, None)
    assert (step.generation, step.trouble is not None) == (before.generation, True)
