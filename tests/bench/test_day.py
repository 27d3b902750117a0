"""A bad day costs no grant, and asks the provider no more often than it takes."""

import math
from random import Random

import pytest

from bench.day.daemon import ANSWER_S
from bench.day.figures import Calls, Figures, Spread
from bench.day.grants import LIFETIME_S, Grants, Request, ids, renewed, renewed_by_domain
from bench.day.simulation import Day, lived
from domain.due import next_due
from domain.profile import ProviderProfile

PROFILE = ProviderProfile(slug="day")


def bad_day(outage_hours: float) -> tuple[Day, Figures]:
    connections, daemons = (400, 3) if outage_hours == 1 else (60, 1)
    day = Day(connections=connections, hours=8, outage_hours=outage_hours, daemons=daemons)
    return day, lived(day)


@pytest.fixture(scope="module", params=[1.0, 24.0])
def lived_day(request: pytest.FixtureRequest) -> tuple[Day, Figures]:
    return bad_day(request.param)


def test_no_grant_is_lost_and_everybody_is_refreshed(lived_day: tuple[Day, Figures]) -> None:
    day, figures = lived_day

    refreshes = sum(span.late.count for span in figures.spans)

    assert figures.lost == 0
    assert figures.behind < day.connections / 10
    assert refreshes > day.connections * (day.hours - 1 - LIFETIME_S / 3600) * 3600 / LIFETIME_S


def test_the_provider_is_never_asked_more_often_than_it_takes(
    lived_day: tuple[Day, Figures],
) -> None:
    day, figures = lived_day
    per_s = figures.calls(0, figures.seconds).per_s

    for seconds in (1, 10, 60, 600):
        most = day.daemons * PROFILE.burst + day.rate_per_s * seconds
        calls = sum(per_s[:seconds])
        for second in range(seconds, len(per_s)):
            calls += per_s[second] - per_s[second - seconds]
            assert calls <= most + 1e-6


def test_while_the_provider_is_down_the_circuits_alone_ask_it(
    lived_day: tuple[Day, Figures],
) -> None:
    day, figures = lived_day
    down = figures.calls(day.outage.start, day.outage.stop).per_s

    evidence = 3 + math.ceil(day.rate_per_s / day.daemons * ANSWER_S)
    probes = 15 + len(down) / PROFILE.outage_probe_interval_s
    assert day.daemons <= sum(down) <= day.daemons * (evidence + probes)


def test_after_the_outage_nobody_runs_out_again(lived_day: tuple[Day, Figures]) -> None:
    day, figures = lived_day
    down, then = figures.spans[-2:]

    assert down.left.below(0) == day.connections
    assert then.left.below(0) == 0
    assert then.late.share(1) < PROFILE.margin_s


def test_tokens_run_out_after_the_import_and_in_the_outage_alone() -> None:
    _, figures = bad_day(1.0)

    ran_out = [span.left.below(0) > 0 for span in figures.spans]

    assert ran_out == [True, False, False, False, True, False]


def test_a_day_is_the_same_each_time_it_is_lived() -> None:
    day = Day(connections=20, hours=6, daemons=2)

    once, again = lived(day), lived(day)

    assert once.calls(0, once.seconds).per_s == again.calls(0, again.seconds).per_s


def test_a_refresh_makes_of_a_connection_what_the_domain_says() -> None:
    grants = Grants(20, PROFILE, Random(1))
    sent_s = 1400.0
    for number, before in enumerate(grants.connections):
        request = Request(sent_s + ANSWER_S, sent_s, number, is_up=True)

        after = renewed(before, PROFILE, request, ids())
        told = renewed_by_domain(before, PROFILE, request, ids())

        assert next_due(after, PROFILE) == next_due(told, PROFILE)
        assert after.credentials == told.credentials
        assert (after.generation, after.trouble) == (told.generation, told.trouble)


def test_figures_are_those_of_what_was_counted() -> None:
    spread = Spread()
    for seconds in range(100):
        spread.add(seconds)

    assert (spread.share(0), spread.share(0.5), spread.share(1)) == (0, 49, 99)
    assert spread.below(10) == 10
    assert Calls([1] * 120).unevenness == 1
    assert Calls([2] * 60 + [1] * 60).unevenness == pytest.approx(4 / 3)
    assert Calls([2] * 60 + [1] * 60).minutes(1) == 2
