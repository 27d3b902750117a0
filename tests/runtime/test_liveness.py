"""The watchdog is told that we live while everything that was decided is tried to be stored."""

from types import SimpleNamespace
from typing import Any, cast

from runtime.ledger.limits import LedgerLimits
from runtime.liveness import STUCK_S, Liveness


class Scene:
    """Two partitions, one of them with something to store."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.partitions = {number: SimpleNamespace(entries=0) for number in (0, 1)}
        self.writers = {number: SimpleNamespace(tries=7) for number in (0, 1)}
        self.owned: dict[int, Any] = {
            number: SimpleNamespace(writer=one) for number, one in self.writers.items()
        }
        self.limits = LedgerLimits()
        directory = SimpleNamespace(partitions=self.partitions)
        ledgers = SimpleNamespace(partitions=self.owned, limits=self.limits)
        parts = SimpleNamespace(directory=directory, ledgers=ledgers)
        self.liveness = Liveness(cast("Any", parts), now_s=lambda: self.now_s)

    def later(self, pause_s: float) -> bool:
        self.now_s += pause_s
        return self.liveness.is_live()


def test_who_has_nothing_to_store_lives_for_ever():
    scene = Scene()

    assert all(scene.later(STUCK_S) for _ in range(10))


def test_what_comes_after_a_long_rest_is_given_its_time():
    scene = Scene()
    scene.later(10 * STUCK_S)
    scene.partitions[1].entries = 3

    assert scene.later(10 * STUCK_S)
    assert scene.later(STUCK_S - 1)


def test_what_is_tried_again_and_again_lives_and_what_nobody_tries_does_not():
    scene = Scene()
    scene.partitions[1].entries = 3
    for _ in range(10):
        scene.writers[1].tries += 1
        assert scene.later(STUCK_S)

    assert not scene.later(STUCK_S)
    assert not scene.later(1)
    scene.writers[1].tries += 1
    assert scene.later(1)


def test_a_try_that_may_take_long_is_waited_for():
    scene = Scene()
    scene.partitions[1].entries = 3
    scene.limits.answer_timeout_s = 2 * STUCK_S
    scene.later(1)

    assert scene.later(9 * STUCK_S)
    assert not scene.later(STUCK_S)


def test_a_partition_that_was_given_away_holds_nobody_up():
    scene = Scene()
    scene.partitions[0].entries = 1
    scene.later(1)
    del scene.owned[0]

    assert scene.later(STUCK_S)
