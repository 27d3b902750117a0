"""Whatever fails whenever, and however the clock is set: whoever is due is looked at."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import anyio
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from actors.waker import Told
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.partition_streams import View
from tests.fakes.due_town import Town
from tests.fakes.examples import examples
from tests.fakes.faulty_streams import Fate
from tests.fakes.schedule import run_seeded

LATE_S_MAX = 70.0
"""How late a look may be that faults or a crash have kept from its time."""
_CONNECTIONS_MAX = 8
"""In one story: some looks each second, not dozens."""


def test_each_is_looked_at_in_its_second_as_long_as_nothing_fails():
    async def scene() -> None:
        town = Town([3.0, 61.0, 200.0, 0.5, 3700.0])
        async with town.owned():
            for number in range(60):
                await town.connect(number * 7.0)
            await anyio.sleep(3 * 3600)

            assert len(town.looks) > 300
            assert max(late_s for _, late_s in town.looks) < 0.1

    run_seeded(scene, seed=1)


def test_it_is_told_how_many_are_due_and_how_late_the_latest_is():
    async def scene() -> None:
        town = Town([1_000_000.0])
        async with town.owned() as ledger:
            for number in range(20):
                await town.connect(31.0 + number * 600.0)
            await ledger.records.checkpointed()
        async with town.owned(counts=True) as ledger:
            await anyio.sleep(1)
            assert ledger.due.counts.within(60) is None or ledger.due.counts.within(1440) is None
            await anyio.sleep(29)
            assert (ledger.due.next_minute, ledger.due.late_s) == (1, 0.0)
            assert ledger.due.counts.within(60) == 6
            assert ledger.due.counts.within(1440) == 20
            for _ in range(5):
                await town.connect(1000.0)
            assert ledger.due.counts.within(60) == 11
        await anyio.sleep(500)
        async with town.owned() as ledger:
            await ledger.due.read_ahead()
            assert 490 < ledger.due.late_s < 540
            await anyio.sleep(3)
            assert ledger.due.late_s == 0.0

    run_seeded(scene, seed=7)


def test_what_is_done_is_purged_and_the_marker_says_so():
    async def scene() -> None:
        town = Town([10_000.0])
        async with town.owned() as ledger:
            for number in range(100):
                await town.connect(number * 3.0)
            await anyio.sleep(400)
            await town.connect(20_000.0)
            await ledger.records.checkpointed()

            minutes = {one.minute for one in town.world.kept._kept_due()}
            now_minute = int(town.now_s() // 60)
            assert min(minutes) > now_minute
            assert ledger.records.mark.due.minute == now_minute - 1
            assert ledger.records.first_minute == now_minute
            assert ledger.due.held == 0

    run_seeded(scene, seed=2)


@pytest.mark.parametrize("missed_s", [100, 4000, 3 * 86_400])
def test_what_was_missed_while_nobody_owned_the_partition_is_looked_at_at_once(missed_s: int):
    async def scene() -> None:
        town = Town([1_000_000.0])
        async with town.owned() as ledger:
            for number in range(50):
                await town.connect(60.0 + number * missed_s / 60)
            await ledger.records.checkpointed()
        await anyio.sleep(missed_s + 60)
        async with town.owned():
            await anyio.sleep(3)

            assert {one for one, _ in town.looks} == set(town.connections)

    run_seeded(scene, seed=3)


def test_more_entries_than_an_answer_or_the_memory_holds_come_all_the_same():
    async def scene() -> None:
        town = Town([100_000.0])
        async with town.owned() as ledger:
            for _ in range(60):
                await town.connect_many(50, "slow", due_in_s=300.0)
            await ledger.records.checkpointed()
        async with town.owned() as ledger:
            ledger.due._limits = LedgerLimits(due_held_max=700)
            await anyio.sleep(600)

            assert len(town.looks) == len(set(town.connections)) == 3000
            assert ledger.due.held == 0
            assert max(late_s for _, late_s in town.looks) < 200

    run_seeded(scene, seed=4)


def test_a_provider_that_is_slow_keeps_nobody_elses_minutes_from_being_read():
    async def scene() -> None:
        town = Town([100_000.0])
        looks_left = 0

        def wake(connection_id: UUID, *, slug: str, urgent_s: float, told: Told) -> None:
            nonlocal looks_left
            if slug == "slow" and not looks_left:
                waiting.append(partial(town.wake, connection_id, slug=slug, urgent_s=0, told=told))
                return
            looks_left -= slug == "slow"
            town.wake(connection_id, slug=slug, urgent_s=urgent_s, told=told)

        waiting: list[Callable[[], None]] = []
        async with town.owned() as ledger:
            for _ in range(60):
                await town.connect_many(50, "slow", due_in_s=300.0)
            await town.connect_many(3, "other", due_in_s=301.0)
            await town.connect_many(3, "other", due_in_s=1000.0)
            await ledger.records.checkpointed()
        async with town.owned() as ledger:
            ledger.due._limits = LedgerLimits(due_held_max=700)
            ledger.due.wake = wake
            await anyio.sleep(1200)

            assert {one for one, _ in town.looks} == set(town.connections[-6:])
            assert max(late_s for _, late_s in town.looks) < 1.0
            assert ledger.due.held <= 350
            assert 880 < ledger.due.late_s < 940
            looks_left = 10_000
            for one in waiting:
                one()
            await anyio.sleep(120)
            assert len(town.looks) == len(set(town.connections)) == 3006
            assert (ledger.due.held, ledger.due.late_s) == (0, 0.0)

    run_seeded(scene, seed=8)


def test_a_clock_that_was_a_day_ahead_leaves_no_day_to_be_held():
    async def scene() -> None:
        town = Town([1800.0])
        async with town.owned() as ledger:
            ledger.due._limits = LedgerLimits(due_held_max=100)
            town.offset_s = 86_400.0
            await anyio.sleep(5)
            town.offset_s = 0.0
            await anyio.sleep(5)
            for number in range(30):
                await town.connect_many(20, "slug", due_in_s=30.0 + number * 60.0)
            assert ledger.due.held < 100
            await anyio.sleep(4000)

            assert len(town.looks) > 600
            assert max(late_s for _, late_s in town.looks) < 1.0

    run_seeded(scene, seed=9)


def test_a_clock_that_is_set_back_opens_what_was_closed_though_somebody_before_it_waits():
    async def scene() -> None:
        town = Town([100_000.0])

        def wait(connection_id: UUID, *, slug: str, urgent_s: float, told: Told) -> None:
            """Look at nobody."""

        async with town.owned() as ledger:
            ledger.due.wake = wait
            await town.connect(30.0)
            await anyio.sleep(600)
            ledger.due.wake = town.wake
            town.offset_s = -300.0
            await anyio.sleep(5)
            await town.connect(60.0)
            await anyio.sleep(70)

            assert town.looks == [(town.connections[1], pytest.approx(0.0, abs=0.1))]

    run_seeded(scene, seed=11)


def test_a_clock_that_is_set_back_while_a_minute_is_closed_keeps_what_comes_due_in_it_again():
    async def scene() -> None:
        town = Town([100_000.0])
        async with town.owned() as ledger:
            purge = town.streams.purge_due

            async def set_back(minute: int, through_seq: int) -> None:
                await purge(minute, through_seq)
                ledger.due._streams.purge_due = purge
                town.offset_s = -61.0
                await town.connect(20.0)

            ledger.due._streams.purge_due = set_back
            await town.connect(5.0)
            await anyio.sleep(70)

            assert town.looks[1:] == [(town.connections[1], pytest.approx(0.0, abs=0.1))]

    run_seeded(scene, seed=12)


def test_records_without_an_entry_get_one_by_a_scan_that_a_kill_does_not_begin_anew():
    async def scene() -> None:
        town = Town([100_000.0])
        async with town.owned():
            await town.store_unindexed(1200)
        for _ in range(3):
            async with town.owned() as ledger:
                before = len(town.noted)
                with anyio.move_on_after(0.7):
                    await town.scan(due_scan_records_per_s=500).run()
                await town.connect(100_000.0)
                await ledger.records.checkpointed()
                assert before < len(town.noted) <= before + 500
        async with town.owned():
            await town.scan().run()
            assert len(town.noted) == len(set(town.noted)) == 1200
            await anyio.sleep(61)

            assert {one for one, _ in town.looks} == set(town.noted)

    run_seeded(scene, seed=5)


def test_a_scan_is_made_once_for_each_policy():
    async def scene() -> None:
        town = Town([100_000.0])
        async with town.owned() as ledger:
            await town.store_unindexed(3)
            await town.scan().run()
            assert len(town.noted) == 3
            await town.store_unindexed(2)
            await town.scan().run()
            assert len(town.noted) == 3

            await town.scan("another").run()

            assert len(town.noted) == 5
            assert ledger.records.mark.due.policy == "another"

    run_seeded(scene, seed=6)


def test_what_another_policy_has_decided_is_found_although_its_owner_died_before_its_scan():
    async def scene() -> None:
        town = Town([100_000.0])
        async with town.owned() as ledger:
            await town.scan("policy").run()
            await town.connect(100_000.0)
            await ledger.records.checkpointed()
        async with town.owned() as ledger:
            ledger.records.mark.decide_by("another")
            await town.store_unindexed(3)
        async with town.owned() as ledger:
            ledger.records.mark.decide_by("policy")
            await town.scan("policy").run()

            assert len(town.noted) == 3

    run_seeded(scene, seed=10)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("connect"), st.floats(-100, 500)),
        st.tuples(st.just("touch"), st.floats(-10, 400)),
        st.tuples(st.just("wait"), st.floats(0.1, 130)),
        st.tuples(st.just("crash"), st.sampled_from([0.0, 0.0, 50.0, 4000.0])),
        st.tuples(st.just("clock"), st.sampled_from([-3600.0, -59.0, 61.0, 86_400.0])),
        st.tuples(st.just("records"), st.sampled_from(list(Fate))),
        st.tuples(st.just("purge"), st.sampled_from(list(Fate))),
        st.tuples(st.just("stale"), st.integers(1, 4)),
    ),
    max_size=30,
)


# Where one fails, it is told at once: to make a smaller one of it takes minutes.
@settings(max_examples=examples(60), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(steps=_steps, pauses_s=st.lists(st.floats(5, 400), min_size=1, max_size=5))
@example(
    steps=[("connect", 20.0), ("wait", 59.0), ("clock", -3600.0), ("wait", 100.0)], pauses_s=[9.0]
)
@example(steps=[("connect", 1.0), ("wait", 61.0), ("crash", 50.0)], pauses_s=[0.5])
@example(
    steps=[
        *(("connect", 254.0), ("wait", 111.0), ("clock", -3600.0), ("stale", 2)),
        *(("connect", 190.0), ("touch", 0.0)),
    ],
    pauses_s=[30.0],
)
def test_whatever_fails_whoever_is_due_is_looked_at_within_a_minute_or_so(
    steps: list[tuple[str, float | Fate]], pauses_s: list[float]
) -> None:
    run_seeded(lambda: _story(steps, pauses_s), seed=0)


async def _story(steps: list[tuple[str, float | Fate]], pauses_s: list[float]) -> None:
    town = Town(pauses_s)
    lives: list[list[tuple[str, float | Fate]]] = [[]]
    for step in steps:
        lives[-1].append(step)
        if step[0] == "crash":
            lives.append([])
    for life in lives:
        async with town.owned():
            for step, argument in life:
                await _take(town, step, argument)
        if life and life[-1][0] == "crash":
            assert isinstance(life[-1][1], float)
            await anyio.sleep(life[-1][1])
    async with town.owned():
        await anyio.sleep(LATE_S_MAX)
        for _ in range(20):
            assert await town.late_s() < 1.0
            await anyio.sleep(37)


async def _take(town: Town, step: str, argument: float | Fate) -> None:
    assert town.ledger is not None
    match step, argument:
        case "connect", float(due_in_s) if len(town.connections) < _CONNECTIONS_MAX:
            await town.connect(due_in_s)
        case "touch", float(due_in_s):
            for one in town.connections[:1]:
                known = (await town.ledger.read(one)).next_due
                at = town.now() + timedelta(seconds=due_in_s)
                if known is not None and town.now() < known <= at:
                    at = known
                await town.store(one, at, known=known)
        case "wait", float(pause_s):
            await anyio.sleep(pause_s)
        case "clock", float(by_s):
            town.offset_s += by_s
        case "records", Fate() as fate:
            town.streams.view_fates[View.RECORDS].append(fate)
        case "purge", Fate() as fate:
            town.streams.purge_fates.append(fate)
        case "stale", int(reads):
            town.streams.stale_reads = reads
        case _:
            pass
