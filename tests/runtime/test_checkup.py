"""How far other clocks are from ours is told no larger than it is known to be."""

from datetime import timedelta

import pytest

from domain.credentials import Secret
from domain.exchange import Answered
from runtime.checkup import ahead_s
from runtime.provider.clocks import ProviderClocks
from tests.domain.shapes import NOW


@pytest.mark.parametrize(
    ("told_s", "ahead"),
    [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (3.5, 2.5), (-2.0, -2.0)],
)
def test_a_clock_that_was_read_between_two_of_our_times_is_as_far_as_it_must_be(
    told_s: float, ahead: float
):
    told = NOW + timedelta(seconds=told_s)

    assert ahead_s(told, NOW, NOW + timedelta(seconds=1)) == ahead


def test_only_clocks_of_providers_that_are_far_are_told():
    clocks = ProviderClocks()
    for slug, off_s in (("near", 2.0), ("far", 90.0), ("mended", -90.0), ("mended", 0.0)):
        date = NOW + timedelta(seconds=off_s)
        answered = Answered(status=200, body=Secret(b""), sent_at=NOW, received_at=NOW, date=date)
        clocks.note(slug, "https://one.example/token", answered)

    assert clocks.far_s.keys() == {"far"}
    assert 88 < clocks.far_s["far"] <= 90
