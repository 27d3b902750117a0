"""How long an attempt that was left open may still bring something."""

from datetime import UTC, datetime, timedelta

import anyio

from actors.open_intent import open_until_s
from domain.connection import RefreshIntent
from tests.fakes.commands import connection_number

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _intent(*, began_s_ago: float) -> RefreshIntent:
    started_at = _NOW - timedelta(seconds=began_s_ago)
    return RefreshIntent(
        attempt_id=connection_number(1),
        generation=1,
        owner="d-1",
        started_at=started_at,
        deadline_at=started_at + timedelta(seconds=35),
    )


def _left_s(intent: RefreshIntent, *, us: str, owned_s_ago: float) -> float:
    now_s = anyio.current_time()
    until_s = open_until_s(intent, us=us, owned_s=now_s - owned_s_ago, now=_NOW, attempt_s=35.0)
    return until_s - now_s


async def test_anothers_lasts_its_full_time_since_the_partition_was_taken() -> None:
    assert _left_s(_intent(began_s_ago=30), us="d-2", owned_s_ago=5.0) == 30.0
    assert _left_s(_intent(began_s_ago=3_600), us="d-2", owned_s_ago=5.0) == 30.0


async def test_our_own_lasts_until_its_deadline() -> None:
    assert _left_s(_intent(began_s_ago=30), us="d-1", owned_s_ago=1_000.0) == 5.0
    assert _left_s(_intent(began_s_ago=60), us="d-1", owned_s_ago=1_000.0) <= 0.0


async def test_our_own_is_not_over_before_what_we_hold_of_it_can_come_to_a_partition_taken_back() -> (
    None
):
    assert _left_s(_intent(began_s_ago=60), us="d-1", owned_s_ago=0.0) >= 1.0
