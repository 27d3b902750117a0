"""One daemon of a day: whom it asks for when, as its provider's rate and circuit allow."""

import heapq
import math
from collections import defaultdict, deque
from random import Random
from typing import Protocol

from actors.circuit import Circuit
from actors.later import JITTER, LATER_S_MAX, LATER_S_MIN, LOOKS_AGAIN_PER_S
from actors.rate import Rate
from bench.day.grants import Grants, Request

ANSWER_S = 0.2
"""How long a request takes."""


class Clock:
    """What ``anyio.current_time`` says on that day."""

    def __init__(self) -> None:
        """Begin the day."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Told(Protocol):
    """What the day's figures are made of."""

    def asks(self, now_s: float) -> bool:
        """Count a request to the provider; return whether it is up."""
        ...

    def refreshed(self, now_s: float, *, late_s: float, left_s: float) -> None:
        """Count a refresh that came so late, with so much of the old token's life left."""
        ...


class Daemon:
    """Lives through the day second by second."""

    def __init__(self, grants: Grants, clock: Clock, told: Told, draws: Random) -> None:
        """Begin with nobody."""
        self.down = range(0)
        """The seconds in which it does not run."""
        self._grants = grants
        self._clock = clock
        self._told = told
        self._draws = draws
        self._calendar: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
        """Who is to be looked at when, by second."""
        self._second = -1
        self._waiting: list[tuple[float, int]] = []
        """Who is due, a heap: whose token ends first."""
        self._requests = deque[Request]()
        self._held = deque[int]()
        """Who is due while the circuit is open, or the daemon is down."""
        self._begin_anew()

    @property
    def waiting(self) -> int:
        """How many are due and were not asked for."""
        return len(self._waiting) + len(self._held)

    def own(self, number: int) -> None:
        """Take a connection."""
        self._look_at(self._grants.due_s[number], number)

    def live(self, second: int) -> None:
        """Live through a second."""
        self._second, self._clock.now_s = second, float(second)
        if second in self.down:
            self._stay_down(second)
            return
        if second == self.down.stop:
            self._begin_anew()
            while self._held:
                self._wait(self._held.popleft())
        if not self._circuit.is_closed:
            self._try_one()
        for at_s, number in sorted(self._calendar.pop(second, ())):
            self._go_on(until_s=at_s)
            self._clock.now_s = max(at_s, self._clock.now_s)
            self._wait(number)
        self._go_on(until_s=second + 1.0)

    def _begin_anew(self) -> None:
        profile = self._grants.profile
        assert profile.rate_per_s is not None
        self._rate = Rate(profile.rate_per_s, profile.burst)
        self._circuit = Circuit(profile, "day", lambda _: None)

    def _stay_down(self, second: int) -> None:
        """Take the answers that a stopping daemon waits for; who is due waits for the next."""
        self._held.extend(number for _, number in self._waiting)
        self._held.extend(number for _, number in self._calendar.pop(second, ()))
        self._waiting.clear()
        self._go_on(until_s=second + 1.0)

    def _go_on(self, until_s: float) -> None:
        """Take each answer and send each request at its time."""
        clock, requests, slots = self._clock, self._requests, self._grants.profile.max_concurrency
        while True:
            ends_s = requests[0].ends_s if requests else math.inf
            is_free = self._waiting and len(requests) < slots
            sends_s = clock.now_s + self._rate.left_s if is_free else math.inf
            if min(ends_s, sends_s) > until_s:
                return
            if ends_s <= sends_s:
                clock.now_s = ends_s
                self._answered(requests.popleft())
            else:
                clock.now_s = sends_s
                self._ask(heapq.heappop(self._waiting)[1])

    def _look_at(self, at_s: float, number: int) -> None:
        self._calendar[max(int(at_s), self._second + 1)].append((at_s, number))

    def _wait(self, number: int) -> None:
        if self._circuit.is_closed:
            heapq.heappush(self._waiting, (self._grants.ends_s[number], number))
        else:
            self._held.append(number)

    def _ask(self, number: int) -> None:
        now_s = self._clock.now_s
        may_ask_s = self._grants.may_ask_s(number, now_s)
        if may_ask_s > now_s:
            self._look_at(may_ask_s, number)
            return
        self._rate.take()
        self._circuit.begins(self._grants.connections[number].id)
        is_up = self._told.asks(now_s)
        self._requests.append(Request(now_s + ANSWER_S, now_s, number, is_up))

    def _try_one(self) -> None:
        """Look at one of those who are due while the circuit is open: it may be the probe."""
        if self._held:
            number = self._held.popleft()
            connection_id = self._grants.connections[number].id
            if self._circuit.closed(connection_id) is None and not self._rate.left_s:
                self._ask(number)
            else:
                self._held.append(number)

    def _answered(self, request: Request) -> None:
        grants, number, now_s = self._grants, request.number, request.ends_s
        connection_id, was_closed = grants.connections[number].id, self._circuit.is_closed
        if request.is_up:
            self._circuit.answered(connection_id)
            late_s, left_s = request.sent_s - grants.due_s[number], grants.ends_s[number] - now_s
            self._told.refreshed(now_s, late_s=late_s, left_s=left_s)
            due_s = grants.refreshed(request)
        else:
            verdict, due_s = grants.missed(request)
            assert verdict.blames_endpoint
            self._circuit.failed(connection_id, verdict.reason)
        self._circuit.ends(connection_id)
        self._look_at(due_s, number)
        if was_closed and not self._circuit.is_closed:
            self._held.extend(number for _, number in self._waiting)
            self._waiting.clear()
        elif self._circuit.is_closed and not was_closed and self._second not in self.down:
            self._look_at_held()

    def _look_at_held(self) -> None:
        """Have all looked at who found the circuit open, when their next look is."""
        pause_s = min(max(LATER_S_MIN, len(self._held) / LOOKS_AGAIN_PER_S), LATER_S_MAX)
        for number in self._held:
            at_s = self._grants.due_s[number]
            while at_s <= self._clock.now_s:
                at_s += pause_s * (1 + JITTER * self._draws.random())
            self._look_at(at_s, number)
        self._held.clear()
