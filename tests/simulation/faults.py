"""What goes wrong in a run, and when: a plan that the seed draws, which can be read."""

import random
from collections.abc import Callable
from typing import NamedTuple

from runtime.ledger.partition_streams import View
from tests.simulation.world import Weather, World


class Fault(NamedTuple):
    """One thing that goes wrong."""

    at_s: float
    kind: str
    whom: int
    """Which host, or which partition."""
    lasts_s: float
    number: int = 0
    """What else its kind needs."""

    def __str__(self) -> str:
        """Return its line in the plan."""
        return f"{self.at_s:7.2f}  {self.kind} {self.whom} for {self.lasts_s:.2f} s ({self.number})"


class Plan(NamedTuple):
    """A run: how large, for how long, and with which faults."""

    hosts: int
    partitions: int
    connections: int
    clients: int
    pause_s: float
    faulty_s: float
    lifetime_s: int
    max_concurrency: int
    reads: bool
    """Whether most commands only read."""
    idle_s: float
    """How long an actor stays in memory."""
    weather: dict[str, float]
    faults: list[Fault]

    def __str__(self) -> str:
        """Return the plan, to be read."""
        size = (
            f"{self.hosts} hosts, {self.partitions} partitions, {self.connections} connections, "
            f"{self.clients} clients, {self.faulty_s:.0f} s, tokens of {self.lifetime_s} s"
        )
        weather = ", ".join(f"{name} {share}" for name, share in self.weather.items())
        return "\n".join([size, f"weather: {weather or 'fair'}", *map(str, self.faults)])


OF_HOST = ("crash", "stop", "cut", "cut_in", "cut_out", "reset", "drain", "set_clock", "apart")
OF_PARTITION = ("leader", "view_leader", "stuck", "refuse")
OF_ALL = ("provider_down", "blackout")
_KINDS_MAX = 4
"""Of how many kinds the faults of one run are: what comes often together finds more."""
_LASTS_S = (0.3, 2.0, 4.0, 8.0, 8.0, 12.0)
_FENCING = 0.25
_AWAY = ("stop", "cut", "cut_out")
_LAST_BLACKOUT = 0.15
"""How often everything is down when the faults end, and for up to a minute more."""
_RATES = {
    "message_lost": (0.02, 0.1),
    "message_twice": (0.05,),
    "message_slow": (0.05, 0.2),
    "request_lost": (0.02, 0.1),
    "answer_lost": (0.02, 0.1),
    "request_slow": (0.02, 0.1),
    "in_flight": (0.05,),
    "refused": (0.05,),
    "read_stale": (0.2, 0.6),
    "provider_unreached": (0.1,),
    "provider_lost_before": (0.1,),
    "provider_lost_after": (0.05, 0.2),
    "provider_fails": (0.1,),
    "provider_limits": (0.1,),
    "provider_slow": (0.3, 0.8),
}


def drawn_plan(seed: int, *, hosts_max: int) -> Plan:
    """Return a seed's plan."""
    draws = random.Random(f"plan {seed}")
    hosts = draws.randint(min(2, hosts_max), hosts_max)
    partitions = draws.choice((1, 2, 2, 3))
    faulty_s = draws.uniform(8.0, 25.0)
    kinds = draws.sample([*OF_HOST, *OF_PARTITION, *OF_ALL], draws.randint(1, _KINDS_MAX))
    faults = [
        _fault(draws, draws.choice(kinds), hosts, partitions, faulty_s)
        for _ in range(draws.randint(2, 7))
    ]
    is_fencing = draws.random() < _FENCING
    if is_fencing:
        # Owners that are away for long enough to be replaced, come back, and remember.
        faults = [
            _fault(draws, draws.choice(_AWAY), hosts, partitions, faulty_s)._replace(
                lasts_s=draws.uniform(6.0, 12.0)
            )
            for _ in range(draws.randint(3, 5))
        ]
    if draws.random() < _LAST_BLACKOUT:
        faults.append(Fault(faulty_s - 0.5, "blackout", 0, draws.uniform(2.0, 60.0)))
    chosen = draws.sample([*_RATES], draws.randint(0, 5))
    return Plan(
        hosts=hosts,
        partitions=partitions,
        connections=draws.randint(2, 3 if is_fencing else 6),
        clients=draws.randint(2, 3),
        pause_s=0.15 if is_fencing else draws.choice((0.2, 0.4, 0.8)),
        faulty_s=faulty_s,
        lifetime_s=draws.choice((15, 40, 120)),
        max_concurrency=draws.choice((1, 2, 8)),
        reads=is_fencing,
        idle_s=60.0 if is_fencing else draws.choice((2.0, 60.0)),
        weather={name: draws.choice(_RATES[name]) for name in sorted(chosen)},
        faults=sorted(faults),
    )


def _fault(draws: random.Random, kind: str, hosts: int, partitions: int, faulty_s: float) -> Fault:
    return Fault(
        at_s=draws.uniform(0.5, faulty_s),
        kind=kind,
        whom=draws.randrange(hosts if kind in OF_HOST else partitions),
        lasts_s=draws.choice(_LASTS_S) * draws.uniform(0.5, 1.5),
        number=draws.randrange(60),
    )


def begin_weather(weather: Weather, plan: Plan) -> None:
    """Let things go wrong as often as is planned."""
    for name, share in plan.weather.items():
        setattr(weather, name, share)


Deeds = dict[str, Callable[[Fault], None]]


def arranged(world: World, plan: Plan, deeds: Deeds) -> None:
    """Have every fault begin at its time."""

    def begin(fault: Fault) -> None:
        world.note("FAULT", f"{fault.kind} {fault.whom} for {fault.lasts_s:.2f} s")
        deeds[fault.kind](fault)

    for fault in plan.faults:
        world.after(fault.at_s - world.now_s(), lambda fault=fault: begin(fault))


VIEWS = (View.RECORDS, View.EVENTS)
