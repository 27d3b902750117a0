"""Those who must come again come soon where they are few, and spread out where they are many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.later import JITTER, LATER_S_MAX, LATER_S_MIN, LOOKS_AGAIN_PER_S, Later


def test_a_few_come_again_within_seconds() -> None:
    later = Later()

    pauses_s = [later.pause_s("one", 7.0, least_s=0.0, draw=0.0) for _ in range(300)]

    assert min(pauses_s) == LATER_S_MIN
    assert max(pauses_s) == pytest.approx(300 / LOOKS_AGAIN_PER_S)


@given(st.integers(0, 5), st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
def test_however_many_come_again_in_a_quarter_of_an_hour(begun_s: int, draws: list[float]) -> None:
    later = Later()
    for _ in range(30_000):
        later.pause_s("one", float(begun_s), least_s=0.0, draw=0.0)

    for draw in draws:
        pause_s = later.pause_s("one", float(begun_s), least_s=0.0, draw=draw)
        assert pause_s == LATER_S_MAX * (1 + JITTER * draw)


def test_one_provider_keeps_no_other_waiting_and_who_was_told_longer_waits_longer() -> None:
    later = Later()
    for _ in range(100_000):
        later.pause_s("one", 0.0, least_s=0.0, draw=0.0)

    assert later.pause_s("two", 0.0, least_s=0.0, draw=0.0) == LATER_S_MIN
    assert later.pause_s("two", 0.0, least_s=60.0, draw=0.0) == 60.0
    assert later.pause_s("one", 2_000.0, least_s=0.0, draw=0.0) == LATER_S_MIN
