"""Those who must come again come soon where they are few, and spread out where they are many."""

from hypothesis import given
from hypothesis import strategies as st

from actors.later import LATER_S_MIN, LOOKS_AGAIN_PER_S, Later


def test_a_few_come_again_within_seconds() -> None:
    later = Later()

    pauses_s = [later.pause_s("one", 7.0, least_s=0.0, draw=0.0) for _ in range(300)]

    assert set(pauses_s) == {LATER_S_MIN}


@given(st.integers(0, 5), st.floats(0, 1, exclude_max=True))
def test_of_very_many_no_more_than_so_many_a_second_come_again(begun_s: int, draw: float) -> None:
    later, many = Later(), 20_000

    pauses_s = [later.pause_s("one", float(begun_s), least_s=0.0, draw=draw) for _ in range(many)]

    assert max(pauses_s) >= many / LOOKS_AGAIN_PER_S
    after_s = sorted(pauses_s)[len(pauses_s) // 2 :]
    for first, last in zip(after_s, after_s[1_000:], strict=False):
        assert last - first >= 999 / LOOKS_AGAIN_PER_S


def test_one_provider_keeps_no_other_waiting_and_who_was_told_longer_waits_longer() -> None:
    later = Later()
    for _ in range(100_000):
        later.pause_s("one", 0.0, least_s=0.0, draw=0.0)

    assert later.pause_s("two", 0.0, least_s=0.0, draw=0.0) == LATER_S_MIN
    assert later.pause_s("two", 0.0, least_s=60.0, draw=0.0) == 60.0
    assert later.pause_s("one", 1_000.0, least_s=0.0, draw=0.0) == LATER_S_MIN
