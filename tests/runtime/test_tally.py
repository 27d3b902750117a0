"""What a daemon has done is counted once, as it is stored, and by a bounded number of names."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from domain.commands import Refresh
from domain.connection import ConnectionStatus
from domain.decision import decide, store_failed
from domain.exchange import Tokens, Verdict
from domain.profile import FailureClass, ProviderProfile
from domain.refreshing import begun, failed, succeeded
from runtime.ledger.provider_names import ProviderNames
from runtime.tally import LIFE_LEFT_BOUNDS_S, SLOT_S, LifeLeft, Tally
from tests.domain.shapes import FLYING, IDLE, NOW, SLUG, sealed, stored
from tests.fakes.world import CountingIds

PROFILE = ProviderProfile(slug=SLUG)
DEAD = Verdict(failure_class=FailureClass.USER, code="invalid_grant", reason="It is over")
BROKEN = Verdict(failure_class=FailureClass.TRANSIENT, code="server_error", reason="It broke")
TOKENS = Tokens(access_token="a2", expires_at=NOW + timedelta(hours=1))
IDS = CountingIds()


class Counting:
    """A tally whose clock a test sets."""

    def __init__(self, *, names_max: int = 9) -> None:
        self.now_s = 1_000_000.0
        self.tally = Tally(ProviderNames(names_max=names_max), now_s=lambda: self.now_s)

    def failed(self, verdict: Verdict, slug: str = SLUG) -> None:
        connection = msgspec.structs.replace(FLYING, provider_slug=slug)
        step = failed(connection, verdict, PROFILE, draw=0.5, now=NOW, ids=IDS)
        self.tally.stored([step])

    def succeeded(self) -> None:
        step = succeeded(FLYING, TOKENS, sealed("new"), PROFILE, now=NOW, ids=IDS)
        self.tally.stored([step])


def test_refreshes_are_counted_by_provider_and_by_what_became_of_them() -> None:
    counting = Counting()

    counting.succeeded()
    counting.failed(BROKEN)
    counting.failed(DEAD)
    counting.failed(DEAD)

    tally = counting.tally
    assert tally.refreshes == {(SLUG, "succeeded"): 1, (SLUG, "transient"): 1, (SLUG, "user"): 2}
    counting.failed(DEAD, "another")
    assert tally.outcomes == {"succeeded": 1, "transient": 1, "user": 3}
    assert tally.needs_reauth == {SLUG: 2, "another": 1}
    assert (tally.appends, tally.entries) == (5, 5)


def test_what_no_provider_was_asked_for_is_no_refresh() -> None:
    counting, active = Counting(), stored(ConnectionStatus.ACTIVE)
    brought = Refresh(connection_id=active.id, credentials=sealed("new"))
    nothing = msgspec.structs.replace(brought, credentials=None)

    for decision in (
        decide(active, brought, now=NOW, ids=IDS),
        store_failed(active, nothing, cause="no", now=NOW, ids=IDS),
    ):
        counting.tally.stored([(decision.connection, decision.events)])

    assert counting.tally.refreshes == {}
    assert counting.tally.life_left == {}


@pytest.mark.parametrize(("left_s", "bound_s"), [(-90.0, 0), (0.0, 0), (29.0, 30), (301.0, 600)])
def test_the_life_that_is_left_is_observed_once_a_token_is_about_to_be_presented(
    left_s: float, bound_s: int
) -> None:
    counting = Counting()
    ends = msgspec.structs.replace(
        IDLE, credentials=sealed(expires_at=NOW + timedelta(seconds=left_s))
    )
    step = begun(ends, PROFILE, attempt_id=UUID(int=1), owner="d-1", now=NOW)

    counting.tally.stored([step])

    life: LifeLeft = counting.tally.life_left[SLUG]
    assert life.counts[LIFE_LEFT_BOUNDS_S.index(bound_s)] == sum(life.counts) == 1
    assert life.sum_s == max(left_s, 0.0)


def test_of_the_last_day_what_became_of_refreshes_is_kept_in_slots() -> None:
    counting = Counting()

    for _ in range(2 * 86_400 // SLOT_S):
        counting.succeeded()
        counting.failed(BROKEN)
        counting.now_s += SLOT_S

    slots = counting.tally.slots
    assert len(slots) == 86_400 // SLOT_S
    assert {(slot.succeeded, slot.failed) for slot in slots} == {(1, 1)}
    assert slots[-1].number == slots[0].number + len(slots) - 1


def test_providers_beyond_the_bound_are_counted_together() -> None:
    counting = Counting(names_max=1)

    for slug in ("one", "two", "three"):
        counting.failed(DEAD, slug)
        counting.tally.outcome_unknown(slug)

    assert counting.tally.refreshes == {("one", "user"): 1, ("other", "user"): 2}
    assert counting.tally.unknown == {"one": 1, "other": 2}
