"""What everything in a simulation shares: draws, a clockwork, the weather, a history."""

import heapq
import itertools
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import anyio

from tests.fakes.world import EPOCH

LATENCY_S = (0.0005, 0.004)


class Noted(NamedTuple):
    """One line of the history."""

    at_s: float
    who: str
    what: str

    def __str__(self) -> str:
        """Return the line as it is printed."""
        return f"{self.at_s:9.4f}  {self.who:<12} {self.what}"


class Weather:
    """How often things go wrong, as long as the faults last. A share each, of 1."""

    def __init__(self) -> None:
        """Be fair."""
        self.message_lost = 0.0
        self.message_twice = 0.0
        self.message_slow = 0.0
        """Held up for up to a second."""
        self.request_lost = 0.0
        """Of a request to JetStream, before it has done anything."""
        self.answer_lost = 0.0
        """After it has."""
        self.request_slow = 0.0
        """Either way, so that it may take effect long after its sender has given it up."""
        self.in_flight = 0.0
        """Error 10164."""
        self.refused = 0.0
        """Any other error, before anything was done."""
        self.read_stale = 0.0
        """Of reads that any replica may answer."""
        self.provider_unreached = 0.0
        self.provider_lost_before = 0.0
        self.provider_lost_after = 0.0
        """The answer to a rotation does not come."""
        self.provider_fails = 0.0
        self.provider_limits = 0.0
        self.provider_slow = 0.0

    def clear(self) -> None:
        """Be fair from now on."""
        self.__init__()


class World:
    """A simulation's clockwork. ``run`` must be running."""

    def __init__(self, seed: int) -> None:
        """Begin at 0 with fair weather."""
        self.seed = seed
        self.epoch = EPOCH + timedelta(seconds=random.Random(f"{seed} epoch").uniform(0.0, 60.0))
        """When it begins: anywhere in a minute."""
        self.weather = Weather()
        self.history: list[Noted] = []
        self.broken: list[str] = []
        """What was found broken at the moment it broke."""
        self._draws: dict[str, random.Random] = {}
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._stirred = anyio.Event()

    def draws(self, name: str) -> random.Random:
        """Return the source of one part's draws, which no other part disturbs."""
        if name not in self._draws:
            self._draws[name] = random.Random(f"{self.seed} {name}")
        return self._draws[name]

    def chance(self, name: str, share: float) -> bool:
        """Whether what happens that often happens now."""
        return share > 0.0 and self.draws(name).random() < share

    def latency_s(self, name: str, *, slow: float = 0.0, slow_s: float = 3.0) -> float:
        """Return how long something takes on its way."""
        draws = self.draws(name)
        if slow and draws.random() < slow:
            return draws.uniform(0.0, slow_s)
        return draws.uniform(*LATENCY_S)

    @staticmethod
    def now_s() -> float:
        """Return the time since the beginning, which no host knows."""
        return anyio.current_time()

    def time_of(self, at_s: float) -> datetime:
        """Return a time as a clock shows it that is right."""
        return self.epoch + timedelta(seconds=at_s)

    def note(self, who: str, what: str) -> None:
        """Add a line to the history."""
        self.history.append(Noted(self.now_s(), who, what))

    def breaks(self, law: str) -> None:
        """Note that a law is broken, now."""
        self.note("BROKEN", law)
        self.broken.append(law)

    def after(self, pause_s: float, act: Callable[[], None]) -> None:
        """Have something done; it must neither block nor raise, and be no daemon's code."""
        heapq.heappush(self._waiting, (self.now_s() + pause_s, next(self._numbers), act))
        if self._waiting[0][2] is act:
            self._stirred.set()

    async def run(self) -> None:
        """Do everything at its time, until cancelled."""
        while True:
            now_s = self.now_s()
            while self._waiting and self._waiting[0][0] <= now_s:
                heapq.heappop(self._waiting)[2]()
            self._stirred = anyio.Event()
            pause_s = self._waiting[0][0] - now_s if self._waiting else 3600.0
            with anyio.move_on_after(max(pause_s, 0.0)):
                await self._stirred.wait()

    def run_dry(self) -> None:
        """Do what is to be done now, at the end."""
        while self._waiting and self._waiting[0][0] <= self.now_s():
            heapq.heappop(self._waiting)[2]()
