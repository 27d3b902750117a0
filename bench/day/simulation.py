"""A day from beginning to end, in virtual time."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple
from unittest.mock import patch

import anyio

from actors.world import Limits
from bench.day.daemon import Clock, Daemon
from bench.day.figures import HOUR_S, Figures
from bench.day.grants import LIFETIME_S, Grants
from domain.due import SPREAD
from domain.profile import ProviderProfile

HOURS_MIN = 6.0
"""A shorter day has no time in which nothing happens."""
SLOTS = Limits().looks_per_provider_max
"""How many requests of one daemon may be under way."""
_DOWN_S = (5, 60)
_BETWEEN_S = 30
_PLAIN = ProviderProfile(slug="day")
_LEAD_S = min(_PLAIN.margin_s, _PLAIN.margin_fraction * LIFETIME_S)
REFRESHED_EACH_S = LIFETIME_S - _LEAD_S * (1 + SPREAD / 2)
"""How long after a refresh the next one is due, on average."""


class Day(NamedTuple):
    """What happens."""

    connections: int = 50_000
    hours: float = 24.0
    """How long it is; an outage of more than an hour makes it longer."""
    outage_hours: float = 1.0
    daemons: int = 8
    rate: float = 2.0
    """How many requests the provider lets in, in those of a day on which nothing happens."""
    seed: int = 1

    @property
    def even_per_s(self) -> float:
        """How many refreshes a second there are when nothing happens."""
        return self.connections / REFRESHED_EACH_S

    @property
    def rate_per_s(self) -> float:
        """How many the provider lets in: each daemon has its part of that."""
        return self.rate * self.even_per_s

    @property
    def outage(self) -> range:
        """The seconds in which the provider is down: in the middle."""
        begins_s = int((self.hours - 1) / 2 * HOUR_S)
        return range(begins_s, begins_s + int(self.outage_hours * HOUR_S))

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.outage.stop + self.outage.start


def lived(day: Day) -> Figures:
    """Return how a day went; ``anyio.current_time`` is its clock meanwhile."""
    draws, clock = Random(day.seed), Clock()
    profile = ProviderProfile(
        slug="day", rate_per_s=day.rate_per_s / day.daemons, max_concurrency=SLOTS
    )
    with patch.object(anyio, "current_time", clock):
        grants = Grants(day.connections, profile, draws)
        downs = list(_restarts(day, draws))
        figures = Figures(_spans(day, downs), day.outage)
        daemons = [Daemon(grants, clock, figures, draws) for _ in downs]
        for daemon, down in zip(daemons, downs, strict=True):
            daemon.down = down
        for number in range(day.connections):
            daemons[number % day.daemons].own(number)
        for second in range(day.seconds):
            for daemon in daemons:
                daemon.live(second)
    figures.lost = grants.lost
    figures.behind = sum(daemon.waiting for daemon in daemons)
    return figures


def _restarts(day: Day, draws: Random) -> Iterator[range]:
    """Yield when each daemon is down, one after the other."""
    begins_s = int(day.outage.start * 0.6)
    for _ in range(day.daemons):
        ends_s = begins_s + draws.randint(*_DOWN_S)
        yield range(begins_s, ends_s)
        begins_s = ends_s + _BETWEEN_S


def _spans(day: Day, downs: list[range]) -> list[tuple[str, float]]:
    spans = [
        ("import, its first hour", HOUR_S),
        ("until the restarts", downs[0].start),
        ("restarts, 30 min after", downs[-1].stop + LIFETIME_S),
        ("until the outage", day.outage.start),
        ("outage, an hour after", day.outage.stop + HOUR_S),
        ("until the end", day.seconds),
    ]
    assert all(one[1] < other[1] for one, other in pairwise(spans)), "too short a day"
    return spans
