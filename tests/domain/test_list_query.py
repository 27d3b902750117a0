"""A listing holds what is asked for: each filter by itself, and all of them together."""

from typing import Any

import pytest

from domain.connection import ConnectionStatus
from domain.list_query import ListQuery
from tests.domain.shapes import OTHER_USER_ID, SLUG, USER_ID, stored

HELD: dict[str, Any] = {"user_id": USER_ID, "provider_slug": SLUG, "status": "active"}
OTHER: dict[str, Any] = {"user_id": OTHER_USER_ID, "provider_slug": "google", "status": "failed"}
ACTIVE = stored(ConnectionStatus.ACTIVE)


def test_a_query_without_filters_matches_everything() -> None:
    assert ListQuery().matches(ACTIVE)
    assert not ListQuery().is_filtered
    assert not ListQuery(cursor="x", limit=1).is_filtered


@pytest.mark.parametrize("field", HELD)
def test_each_filter_keeps_what_is_equal_and_leaves_out_the_rest(field: str) -> None:
    assert ListQuery(**{field: HELD[field]}).matches(ACTIVE)
    assert ListQuery(**HELD).matches(ACTIVE)
    assert not ListQuery(**{field: OTHER[field]}).matches(ACTIVE)
    assert not ListQuery(**(HELD | {field: OTHER[field]})).matches(ACTIVE)
    assert ListQuery(**{field: HELD[field]}).is_filtered


def test_who_needs_somebody_to_act_is_a_filter_too() -> None:
    assert ListQuery(needs_action=True).is_filtered
