"""Members of a cluster that share a provider, and the provider's own book of who asked when."""

import random
from typing import Any, NamedTuple

import anyio
from anyio.abc import TaskGroup

from actors.client_gate import ClientGates
from actors.gate_word import GateWord
from domain.profile import ProviderProfile
from tests.fakes.commands import connection_number
from tests.fakes.gates import HERE, PROFILE

HEARTBEAT_S = 1.0
GATHER_S = 0.05
TIMEOUT_S = 5.0


def limited(**limits: Any) -> ProviderProfile:
    """Return a profile with other limits."""
    fields = {name: getattr(PROFILE, name) for name in ("slug", "client_id", "token_endpoint")}
    return ProviderProfile(**{**fields, **limits})


class Asked(NamedTuple):
    """One request, as the provider sees it."""

    member: str
    from_s: float
    until_s: float


class GateMember:
    """One daemon's gates, with heartbeats."""

    def __init__(self, members: "GateMembers", name: str) -> None:
        self.name = name
        self.gates = ClientGates(me=name, news=self._has_news)
        self.heard_s: dict[str, float] = {}
        self.waits: list[float] = []
        """How long each that got in has waited."""
        self.waiting = 0
        self._members = members
        self._stirred = anyio.Event()
        self._scope = anyio.CancelScope()
        self._tasks: TaskGroup | None = None
        self._flights = 0

    async def run(self) -> None:
        """Tell and fly, until it dies."""
        with self._scope:
            async with anyio.create_task_group() as self._tasks:
                while True:
                    self._members.tell(self, self.gates.word())
                    self._forget_silent()
                    self._stirred = anyio.Event()
                    with anyio.move_on_after(HEARTBEAT_S):
                        await self._stirred.wait()
                        await anyio.sleep(GATHER_S)

    def die(self) -> None:
        """End at once; what was sent to the provider goes on there."""
        self._scope.cancel()

    def heard(self, daemon: str, word: GateWord) -> None:
        """Take in a word that has come."""
        self.heard_s[daemon] = anyio.current_time()
        self.gates.heard(daemon, word)

    def fly(self, profile: ProviderProfile, takes_s: float) -> None:
        """Ask the provider once, when the gate lets it."""
        assert self._tasks is not None
        self._flights += 1
        self.waiting += 1
        self._tasks.start_soon(self._fly, profile, takes_s, self._flights)

    async def _fly(self, profile: ProviderProfile, takes_s: float, number: int) -> None:
        began_s, gate = anyio.current_time(), self.gates.of(profile, HERE)
        async with gate.slot(connection_number(number)) as closed:
            assert closed is None
            while (left_s := gate.departs()) > 0:  # noqa: ASYNC110 -- as a flight does
                await anyio.sleep(left_s)
            self.waiting -= 1
            now_s = anyio.current_time()
            self.waits.append(now_s - began_s)
            self._members.asked.append(Asked(self.name, now_s, now_s + takes_s))
            await anyio.sleep(takes_s)

    def _has_news(self) -> None:
        self._stirred.set()

    def _forget_silent(self) -> None:
        now_s = anyio.current_time()
        for daemon, heard_s in list(self.heard_s.items()):
            if now_s - heard_s > TIMEOUT_S:
                del self.heard_s[daemon]
                self.gates.gone(daemon)


class GateMembers:
    """Delivers their words late, some of them never, and each sender's in their order."""

    tasks: TaskGroup

    def __init__(self, draw: random.Random, *, delay_s_max: float) -> None:
        self.asked: list[Asked] = []
        self.members: dict[str, GateMember] = {}
        self._draw = draw
        self._delay_s_max = delay_s_max
        self._due_s: dict[tuple[str, str], float] = {}
        self._was_lost: set[tuple[str, str]] = set()

    def start(self, name: str) -> GateMember:
        """Let a member come."""
        member = self.members[name] = GateMember(self, name)
        self.tasks.start_soon(member.run)
        return member

    def kill(self, name: str) -> GateMember:
        """Let a member die."""
        member = self.members.pop(name)
        member.die()
        return member

    def tell(self, sender: GateMember, word: GateWord) -> None:
        """Send a word to the others."""
        for name in self.members:
            pair = (sender.name, name)
            if name == sender.name:
                continue
            if pair not in self._was_lost and self._draw.random() < 0.1:
                self._was_lost.add(pair)
                continue
            self._was_lost.discard(pair)
            at_s = anyio.current_time() + self._draw.random() * self._delay_s_max
            self._due_s[pair] = at_s = max(at_s, self._due_s.get(pair, 0.0))
            self.tasks.start_soon(self._deliver, pair, word, at_s)

    async def _deliver(self, pair: tuple[str, str], word: GateWord, at_s: float) -> None:
        await anyio.sleep_until(at_s)
        if (member := self.members.get(pair[1])) is not None:
            member.heard(pair[0], word)

    async def all_got_in(self, *, within_s: float) -> None:
        """Wait until nobody waits at any member, so long at most."""
        with anyio.fail_after(within_s):
            while any(one.waiting for one in self.members.values()):  # noqa: ASYNC110 -- in a test
                await anyio.sleep(0.5)

    @property
    def at_once_max(self) -> int:
        """How many requests the provider had at a time, at most."""
        changes = [(one.from_s, 1) for one in self.asked] + [
            (one.until_s, -1) for one in self.asked
        ]
        inside = peak = 0
        for _, change in sorted(changes):
            inside += change
            peak = max(peak, inside)
        return peak
