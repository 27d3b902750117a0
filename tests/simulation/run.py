"""One run: a seed makes a plan, the plan a history, and the history is checked."""

import contextlib
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import anyio
import structlog

from actors.world import Limits
from domain.refreshing import attempt_s_max
from runtime.cluster import site
from runtime.gateway import arrivals
from runtime.ledger import delivery
from runtime.ledger.due_count import DueCount
from runtime.nats import private_files
from tests.fakes.schedule import run_seeded
from tests.simulation.bus import Servers
from tests.simulation.callers import KINDS, READS, Callers
from tests.simulation.checks import Findings, check
from tests.simulation.daemon import Daemon, Place, VirtualAsyncio, heard
from tests.simulation.faults import Plan, arranged, begin_weather, drawn_plan
from tests.simulation.hosts import Life, living, processes
from tests.simulation.kept import Kept
from tests.simulation.provider import Provider
from tests.simulation.settling import debts, records
from tests.simulation.town import Town
from tests.simulation.world import Noted, World

_SETTLED_S = 60.0
"""How long after the faults everything must be in order again."""
_LAST_TRIES = 12
_LAST_S = 3.0


class Run(NamedTuple):
    """What became of a seed."""

    seed: int
    plan: Plan
    broken: list[str]
    """Every law that was found broken."""
    counts: dict[str, int]
    """What is allowed and happened, by name."""
    history: list[Noted]

    def __str__(self) -> str:
        """Return all of it, to be read."""
        lines = [f"seed {self.seed}", str(self.plan), *map(str, self.history), *self.broken]
        return "\n".join(lines)


def run(seed: int, *, hosts_max: int = 3) -> Run:
    """Return what became of a seed: the same each time."""
    plan = drawn_plan(seed, hosts_max=hosts_max)
    folder = Path(tempfile.mkdtemp(prefix="refreshd-simulation-", dir=_memory()))
    found: list[tuple[World, Findings]] = []

    async def scene() -> None:
        found.append(await _played(World(seed), plan, folder))

    random.seed(seed)
    try:
        with _simulated():
            run_seeded(scene, seed=seed)
    finally:
        shutil.rmtree(folder)
    world, findings = found[0]
    return Run(seed, plan, [*world.broken, *findings.broken], findings.counts, world.history)


async def _played(world: World, plan: Plan, folder: Path) -> tuple[World, Findings]:
    begin_weather(world.weather, plan)
    servers, kept = Servers(world), Kept(plan.partitions, world.now_s)
    provider = Provider(world, lifetime_s=plan.lifetime_s, max_concurrency=plan.max_concurrency)
    callers = Callers(world, servers, provider, clients=plan.clients, connections=plan.connections)
    callers.pause_s = plan.pause_s
    callers.kinds = READS if plan.reads else KINDS
    daemons: list[Daemon] = []
    numbers = iter(range(1, 1_000_000))
    limits = Limits(idle_s=plan.idle_s)
    place = Place(servers, kept, provider, limits, lambda: next(numbers))

    async def main(town: Town, life: Life) -> None:
        daemon = Daemon(life, town.ways[life.host.name], place)
        daemons.append(daemon)
        town.links.append(daemon.link)
        await daemon.run()

    findings = Findings([], Counter())
    async with anyio.create_task_group() as tasks:
        town = Town(
            world,
            plan,
            tasks,
            folder,
            servers=servers,
            kept=kept,
            provider=provider,
            main=main,
        )
        tasks.start_soon(world.run)
        town.start_all()
        tasks.start_soon(callers.run)
        arranged(world, plan, town.deeds)
        await anyio.sleep(plan.faulty_s)
        world.note("FAULTS", "are over")
        town.end_faults()
        callers.is_over = True
        await _settled(world, town, callers, daemons)
        last = [
            await callers.ask_all(verb, tries=_LAST_TRIES) for verb in ("get", "token", "refresh")
        ]
        await anyio.sleep(_LAST_S)
        asked = [one for some in last for one in some]
        findings = check(world, town, callers, daemons, asked)
        for life in town.lives:
            life.kill()
        world.run_dry()
        tasks.cancel_scope.cancel()
    return world, findings


async def _settled(world: World, town: Town, callers: Callers, daemons: list[Daemon]) -> None:
    """Return when everything is in order; note what is not although there was time for it."""
    while town.is_dark:  # noqa: ASYNC110 -- simple, and on virtual time
        await anyio.sleep(0.5)
    until_s = world.now_s() + _SETTLED_S
    while left := [*debts(town, callers, daemons)]:
        if world.now_s() > until_s:
            world.breaks(f"not in order after {_SETTLED_S:g} s without faults: {left[:4]}")
            return
        await anyio.sleep(0.5)
    if any(record.connection.intent is not None for record in records(town)):
        # It is found when its connection is due: who asks before waits for the rest of its full time.
        profiles = town.provider.profiles.values()
        await anyio.sleep(max(attempt_s_max(profile) for profile in profiles))
    world.note("FAULTS", "everything is in order")


def _memory() -> str | None:
    """Return a folder that is in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 -- and mkdtemp below


@contextlib.contextmanager
def _logs_noted() -> Generator[None]:
    """Have what daemons log in the history."""
    before = structlog.get_config()
    structlog.configure(processors=[_log], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def _simulated() -> Generator[None]:
    """Let no file wait for a disk, and subscribe without nats-py."""
    with (
        _logs_noted(),
        patch.object(private_files.os, "fsync", lambda _: None),
        patch.object(delivery, "hear", heard),
        patch.object(arrivals, "asyncio", VirtualAsyncio),
        patch.object(site, "time", VirtualAsyncio),
        # What is due within a day is counted for ``status`` alone, by thousands of requests.
        patch.object(DueCount, "run", _never),
        processes(),
    ):
        yield


async def _never(_: DueCount) -> None:
    await anyio.sleep_forever()


def _log(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """Have a daemon's line in the history."""
    name = event.pop("event")
    life = living()
    life.world.note(life.name, " ".join([name, *(f"{k}={v}" for k, v in event.items())]))
    raise structlog.DropEvent
