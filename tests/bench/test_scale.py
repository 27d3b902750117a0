"""What ``bench.scale`` reckons is right, and a tiny run of it measures every part."""

from pathlib import Path

import msgspec
import pytest

from bench.results import machine
from bench.scale.lateness import Begun, begun, calm_at_s, middle_rate, passed_over, quantiles
from bench.scale.run import Scale
from bench.scale.sheet import Notebook, Sheet
from bench.scale.sizes import Sizes
from bench.scale.stored import Planned
from tests.fakes.long_tests import LONG


def test_lateness_is_of_the_last_attempt_of_each_connection_that_had_one() -> None:
    due = {"a": Planned(10.0, 20.0), "b": Planned(5.0, 15.0), "c": Planned(1.0, 2.0)}

    found = begun(due, {"a": [3.0, 10.5], "b": [11.0]})

    assert found == [Begun(10.0, 10.5, 20.0), Begun(5.0, 11.0, 15.0)]
    assert [one.late_s for one in found] == [0.5, 6.0]


def test_quantiles_of_a_hundred_figures_are_those_that_stand_there() -> None:
    assert quantiles([float(one) for one in range(1, 101)]) == (50.0, 100.0, 100.0)
    assert quantiles([float(one) for one in range(1, 1001)]).p99 == 991.0


def test_it_is_calm_after_the_last_that_was_late_before_a_while_without_any() -> None:
    late = [Begun(0.0, 1.0 + one, 0.0) for one in range(4)]
    in_time = [Begun(4.5 + one, 4.6 + one, 0.0) for one in range(20)]
    late_again = [Begun(20.0, 30.0, 0.0)]

    assert calm_at_s([*late, *in_time, *late_again], 0.5, late_s_max=1.0) == 4.0


def test_it_is_not_calm_while_nothing_is_begun() -> None:
    refreshes = [Begun(0.0, 1.0, 0.0), Begun(0.0, 20.0, 0.0), Begun(20.0, 20.1, 0.0)]

    assert calm_at_s(refreshes, 0.5, late_s_max=1.0) == 20.0


def test_the_rate_is_that_between_the_first_and_the_last_tenth() -> None:
    even = [one / 10 for one in range(100)]

    assert middle_rate([*even[:-1], 500.0]) == pytest.approx(10.0)


def test_who_is_begun_before_a_more_urgent_one_that_waits_has_jumped_the_line() -> None:
    patient, urgent = Begun(0.0, 10.0, 100.0), Begun(0.0, 20.0, 30.0)
    came_later = Begun(9.5, 19.0, 10.0)

    assert passed_over([patient, came_later, urgent], 5.0) == [70.0]
    assert passed_over([patient, came_later, urgent], 15.0) == []


@LONG
@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_a_tiny_run_measures_every_part_and_finds_every_promise_kept(tmp_path: Path) -> None:
    sizes = Sizes(
        connections=200,
        minutes=0.05,
        even_slug="bench-soon",
        slack_s=5.0,
        rate_max=40.0,
        rounds=1,
        starts=1,
    )
    sheet = Sheet(machine=machine(), connections=sizes.connections, minutes=sizes.minutes)
    file = tmp_path / "scale.json"

    await Scale(sizes, tmp_path, Notebook(sheet, file)).run()

    assert sheet.faults == []
    assert msgspec.json.decode(file.read_bytes(), type=Sheet) == sheet
    assert {
        "connections imported",
        "CPU of a refresh, daemon and server",
        "refreshes that nobody asked for, all due at once",
        "refreshes that came due evenly",
        "the daemon was away for",
        "start with the embedded server",
        "take-over from a living one",
    } <= {*sheet.figures}
