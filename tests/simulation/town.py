"""All hosts of a run, and what faults do to them."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from anyio.abc import TaskGroup

from tests.simulation.bus import Servers
from tests.simulation.faults import VIEWS, Deeds, Fault, Plan
from tests.simulation.hosts import Host, HostClock, Life
from tests.simulation.kept import Kept
from tests.simulation.link import Link, Way
from tests.simulation.provider import Provider
from tests.simulation.world import World

_BACK_S = (0.2, 3.0)
_CROWDED_S = 10.0
_FOUND_S = 6.0
"""How long after they could hear each other again two hosts have done so."""


class Town:
    """The hosts."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        tasks: TaskGroup,
        folder: Path,
        *,
        servers: Servers,
        kept: Kept,
        provider: Provider,
        main: "Callable[[Town, Life], Awaitable[None]]",
    ) -> None:
        """Have hosts on which nothing runs yet."""
        draws = world.draws("clocks")
        self.world = world
        self.plan = plan
        self.servers = servers
        self.kept = kept
        self.provider = provider
        self.lives: list[Life] = []
        """All there ever were."""
        self.links: list[Link] = []
        self._main = main
        self._tasks = tasks
        self.clocks_were_set = False
        self._hidden: list[tuple[float, float]] = []
        self._silences: list[tuple[float, float]] = []
        self.is_dark = False
        """Whether every process is down."""
        self._is_fair = False
        self.hosts = [self._host(f"d{one}", folder, draws.uniform) for one in range(plan.hosts)]
        self.ways = {host.name: Way() for host in self.hosts}

    def _host(self, name: str, folder: Path, draw: Callable[[float, float], float]) -> Host:
        clock = HostClock(self.world, ahead_s=draw(-5.0, 5.0), rate=draw(0.999, 1.001))
        host = Host(self.world, name, folder / name, clock)
        host.folder.mkdir()
        return host

    def start_all(self) -> None:
        """Start a process on every host."""
        for host in self.hosts:
            pause_s = self.world.draws("starts").uniform(0.0, 0.5)
            self.world.after(pause_s, partial(self._start, host))

    def _start(self, host: Host) -> None:
        if not self.is_dark and (host.life is None or host.life.ended.is_set()):
            life = Life(host, partial(self._main, self))
            self.lives.append(life)
            self.world.note(life.name, "starts")
            self._tasks.start_soon(self._live, life)

    async def _live(self, life: Life) -> None:
        await life.run()
        self.world.note(life.name, "has ended")
        pause_s = self.world.draws("starts").uniform(*_BACK_S)
        self.world.after(pause_s, partial(self._start, life.host))

    def end_faults(self) -> None:
        """Let everything that was broken be whole again, and stay so."""
        self._is_fair = True
        self.world.weather.clear()
        self.servers.apart.clear()
        for name, way in self.ways.items():
            way.in_open = way.out_open = True
            self._changed(name)
        for host in self.hosts:
            if host.life is not None:
                host.life.spare()
                if host.life.is_stopped:
                    host.life.go_on()
        for kept in self.kept.partitions:
            kept.stuck_s = None
            kept.refusing = dict.fromkeys(kept.refusing, -1.0)
            for leader in (kept.leader, *kept.view_leaders.values()):
                leader.come_back()
        self.provider.down_until_s = -1.0

    def is_apart(self, at_s: float) -> bool:
        """Whether hosts may not have heard each other then, although both could be heard."""
        return any(begin_s <= at_s <= end_s for begin_s, end_s in self._hidden)

    def were_apart(self, from_s: float, to_s: float) -> bool:
        """Whether hosts did not hear each other from then until then."""
        return any(begin_s <= from_s and to_s <= end_s for begin_s, end_s in self._silences)

    def was_anybody_cut_off(self, at_s: float) -> bool:
        """Whether a member may have been taken for gone then, or lately, that had requests out."""
        from_s = at_s - _CROWDED_S
        return any(self.was_cut_off(life, from_s, at_s) for life in self.lives) or any(
            begin_s <= at_s and end_s >= from_s for begin_s, end_s in self._hidden
        )

    def was_cut_off(self, life: Life, from_s: float, to_s: float) -> bool:
        """Whether a process was stopped or cut off at any time in between."""
        disturbed_s = [*life.disturbed_s]
        for link in self.links:
            if link.life is life:
                disturbed_s += link.disturbed_s
        return any(from_s <= at_s <= to_s for at_s in disturbed_s)

    @property
    def deeds(self) -> Deeds:
        """What each kind of fault does."""
        return {
            "crash": self._crash,
            "stop": self._stop,
            "cut": partial(self._cut, both=True),
            "cut_in": partial(self._cut, out=False),
            "cut_out": partial(self._cut, into=False),
            "reset": self._reset,
            "drain": self._drain,
            "blackout": self._black_out,
            "set_clock": self._set_clock,
            "apart": self._apart,
            "leader": self._leader,
            "view_leader": self._view_leader,
            "stuck": self._stick,
            "refuse": self._refuse,
            "provider_down": self._provider_down,
        }

    def _life(self, fault: Fault) -> Life | None:
        life = self.hosts[fault.whom].life
        return life if life is not None and life.is_alive else None

    def _later(self, pause_s: float, act: Callable[[], None]) -> None:
        """Mend what was broken, unless everything is whole already."""
        self.world.after(pause_s, lambda: None if self._is_fair else act())

    def _crash(self, fault: Fault) -> None:
        life = self._life(fault)
        if life is not None:
            life.kill(after_steps=fault.number)

    def _black_out(self, fault: Fault) -> None:
        """Kill every process, and start none until it is over."""
        self.is_dark = True
        for host in self.hosts:
            if host.life is not None:
                host.life.kill()

        def mend() -> None:
            self.is_dark = False
            for host in self.hosts:
                self._start(host)

        self.world.after(fault.lasts_s, mend)

    def _stop(self, fault: Fault) -> None:
        life = self._life(fault)
        if life is not None and not life.is_stopped:
            life.stop()
            self._later(fault.lasts_s, life.go_on)

    def _drain(self, fault: Fault) -> None:
        life = self._life(fault)
        if life is not None:
            life.terminate()

    def _set_clock(self, fault: Fault) -> None:
        self.clocks_were_set = True
        self.hosts[fault.whom].clock.ahead_s += (-3600.0, -60.0, -5.0, 5.0, 60.0)[fault.number % 5]

    def _cut(
        self, fault: Fault, *, both: bool = False, out: bool = True, into: bool = True
    ) -> None:
        name = self.hosts[fault.whom].name
        way = self.ways[name]
        way.out_open, way.in_open = not (both or out), not (both or into)
        self._changed(name)

        def mend() -> None:
            way.out_open = way.in_open = True
            self._changed(name)

        self._later(fault.lasts_s, mend)

    def _changed(self, host: str) -> None:
        for link in self.links:
            if link.life.host.name == host and link.life.is_alive:
                link.changed()

    def _reset(self, fault: Fault) -> None:
        for link in self.links:
            if link.life is self.hosts[fault.whom].life:
                link.drop()

    def _apart(self, fault: Fault) -> None:
        """Withhold from each other what two hosts send, or from one of them."""
        one = self.hosts[fault.whom].name
        other = self.hosts[(fault.whom + 1 + fault.number) % len(self.hosts)].name
        pairs = {(one, other)} if fault.number % 3 == 0 else {(one, other), (other, one)}
        self.servers.apart |= pairs
        self._hidden.append((fault.at_s, fault.at_s + fault.lasts_s + _FOUND_S))
        self._silences.append((fault.at_s, fault.at_s + fault.lasts_s))
        self._later(fault.lasts_s, lambda: self.servers.apart.difference_update(pairs))

    def _leader(self, fault: Fault) -> None:
        kept, draws = self.kept.partitions[fault.whom], self.world.draws("leader")
        absent_s = draws.uniform(0.2, 3.0)
        kept.leader.change(absent_s=absent_s, stale_s=draws.uniform(0.0, 1.0))
        if fault.number % 2 and kept.ledger.crash(within_s=2.0):
            self.world.note("servers", f"what was trimmed of ledger {fault.whom} is back")

    def _view_leader(self, fault: Fault) -> None:
        draws = self.world.draws("leader")
        leader = self.kept.partitions[fault.whom].view_leaders[VIEWS[fault.number % 2]]
        leader.change(absent_s=draws.uniform(0.2, 3.0), stale_s=draws.uniform(0.0, 1.0))

    def _stick(self, fault: Fault) -> None:
        kept = self.kept.partitions[fault.whom]
        kept.stuck_s = self.world.now_s()

        def mend() -> None:
            kept.stuck_s = None

        self._later(fault.lasts_s, mend)

    def _refuse(self, fault: Fault) -> None:
        kept = self.kept.partitions[fault.whom]
        kept.refusing[VIEWS[fault.number % 2]] = self.world.now_s() + fault.lasts_s

    def _provider_down(self, fault: Fault) -> None:
        self.provider.down_until_s = self.world.now_s() + fault.lasts_s
