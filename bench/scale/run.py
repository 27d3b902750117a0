"""One run, part by part."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from bench.processes import children, cpu_s, resident_mb
from bench.scale.costs import measure_costs
from bench.scale.disk import held, used_bytes
from bench.scale.importing import Imported, Wanted, idle, import_all
from bench.scale.lateness import middle_rate
from bench.scale.outcome import Times, hold_once, tell
from bench.scale.provider import SLUGS, Provider, free_port, provider_process, write_config
from bench.scale.sheet import Notebook
from bench.scale.sizes import Sizes
from bench.scale.starts import start_after_kill_s, starts
from bench.scale.stored import events_since, last_event, planned
from bench.system import System, opened_system
from bench.views import WrongOutcomeError
from runtime.nats.link import NatsLink
from runtime.world import Uuid7Ids

_WEEK_S = 7 * 86_400
_IMPORTED_SHARE, _IMPORTED_PER_S_MIN = 0.8, 500.0
_READ_PER_S = 8_000
"""What is to come due after an import must not do so in it, nor before its records are read."""
_GRANTS_MAX = 450_000
_ONE_IN_WARNED = 500
"""For so many that come due to be refreshed there is one whose user must be warned."""
_LEAD = 1.25
"""A token is refreshed so often its margin before its end, in the middle."""
_PATIENCE_S = 240.0
_SETTLING_READS = 60


class Scale:
    """A run on one data folder."""

    def __init__(self, sizes: Sizes, folder: Path, notebook: Notebook) -> None:
        """Use an empty folder."""
        self._sizes = sizes
        self._notebook = notebook
        self._folder = folder
        self._data_dir = self._new("many")
        self._port = free_port()
        self._config = write_config(folder, port=self._port)
        self._settings = {"REFRESHD_CONFIG": str(self._config)}
        self._imported_per_s = _IMPORTED_PER_S_MIN

    async def run(self) -> None:
        """Measure everything.

        Raises:
            WrongOutcomeError: A view does not say what was answered.
        """
        none_s, none = await self._started_empty()
        async with contextlib.AsyncExitStack() as life:
            system = await life.enter_async_context(self._opened())
            await self._import_idle(system)
            self._notebook.say("refreshes by callers, here and with 1,000 stored")
            await measure_costs(self._notebook, system, self._new("few"), self._sizes)
            rate = min(await self._find_limit(system) / 2, self._sizes.rate_max)
            many_s = await self._refresh_in_time(system, life, rate)
        self._notebook.note("start with the embedded server", many_s, "s", beside=none_s)
        self._notebook.say("starts and take-overs on a running server")
        many = await starts(self._data_dir, self._config, times=self._sizes.starts)
        self._notebook.note("start of a daemon, server running", many[1], "s", beside=none[1])
        self._notebook.note("take-over from a living one", many[2], "s", beside=none[2])
        self._notebook.note("  the server's own start", many[0], "s", beside=none[0])
        killed_s = start_after_kill_s(self._data_dir, self._config)
        self._notebook.note("start with the embedded server after a kill -9 of both", killed_s, "s")

    def _new(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _opened(self) -> contextlib.AbstractAsyncContextManager[System]:
        return opened_system(self._data_dir, settings=self._settings)

    async def _started_empty(self) -> tuple[float, tuple[float, float, float]]:
        """Return what starts take with nothing stored: the second one, and on a server."""
        self._notebook.say("starts with nothing stored")
        folder, start_s = self._new("none"), 0.0
        for _ in range(2):
            async with opened_system(folder, settings=self._settings) as system:
                start_s = system.daemon.start_s
        return start_s, await starts(folder, self._config, times=self._sizes.starts)

    async def _import_idle(self, system: System) -> None:
        """Store what is not due in this run."""
        notebook, count = self._notebook, self._sizes.connections
        notebook.say(f"importing {count:,} connections")
        before_bytes, before_s = used_bytes(self._data_dir), _cpu(system)
        imported = await asyncio.to_thread(import_all, self._data_dir, idle(count))
        # Of a few, the start of the command takes most of the time.
        self._imported_per_s = max(count / imported.seconds, _IMPORTED_PER_S_MIN)
        used_s = [now - then for now, then in zip(_cpu(system), before_s, strict=True)]
        _tell_import(notebook, imported, used_s)
        _tell_memory(notebook, "after the import", system)
        await self._settled(system.link)
        taken = used_bytes(self._data_dir) - before_bytes
        notebook.note("disk for a connection", taken / count, "bytes")
        streams = await held(system.link)
        notebook.note("  its record and entry in the due index", streams.records / count, "bytes")
        notebook.note("  the two events of its import", streams.events / count, "bytes")
        notebook.note("  what is left in the ledger", streams.ledger / count, "bytes")

    def _import_s(self, count: int) -> float:
        """Return how long an import may take, by what the first took."""
        return count / (self._imported_per_s * _IMPORTED_SHARE)

    async def _settled(self, link: NatsLink) -> None:
        """Return when the ledger is trimmed, or after half a minute."""
        for _ in range(_SETTLING_READS):
            if not (await held(link)).ledger:
                return
            await asyncio.sleep(0.5)

    async def _find_limit(self, system: System) -> float:
        """Have many due at once, and return how many are refreshed a second."""
        notebook, count = self._notebook, self._sizes.burst
        notebook.say(f"{count:,} due at once")
        with provider_process(grants=count, port=self._port) as provider:
            start_seq = await last_event(system.link)
            ends_at_s = time.time() + self._import_s(count) + self._sizes.slack_s
            wanted = [
                Wanted(one, "bench-burst", ends_at_s, tokens)
                for one, tokens in zip(Uuid7Ids(), provider.grants, strict=False)
            ]
            await asyncio.to_thread(import_all, self._data_dir, wanted)
            await asyncio.sleep(ends_at_s - 2 - time.time())
            before_s, provider_s = _cpu(system), cpu_s(provider.pid)
            await _until_refreshed(provider, count)
            used_s = [now - then for now, then in zip(_cpu(system), before_s, strict=True)]
            used_s.append(cpu_s(provider.pid) - provider_s)
            seen = await events_since(system.link, start_seq)
            limit = middle_rate([one for ended_s in seen.ended_s.values() for one in ended_s])
            notebook.note("refreshes that nobody asked for, all due at once", limit, "/s")
            for whose, whose_s in zip(("daemon", "server", "provider"), used_s, strict=True):
                notebook.note(f"  CPU for one refresh, {whose}", whose_s / count * 1e6, "us")
            hold_once(
                notebook, "all at once", [str(one.id) for one in wanted], seen, provider.stats()
            )
        return limit

    async def _refresh_in_time(
        self, system: System, life: contextlib.AsyncExitStack, rate: float
    ) -> float:
        """Have refreshes come due evenly, over a stop; return how long the start after it took."""
        notebook, sizes = self._notebook, self._sizes
        count = min(int(rate * sizes.due_s), _GRANTS_MAX)
        notebook.note("due-rate", rate, "/s")
        notebook.say(f"storing {count:,} that come due in {sizes.due_s:,.0f} s")
        with provider_process(grants=count, port=self._port) as provider:
            begin_s = time.time() + self._import_s(count) + count / _READ_PER_S + sizes.slack_s
            wanted = [*_evenly(provider, begin_s, rate, sizes.even_slug)]
            start_seq = await last_event(system.link)
            await asyncio.to_thread(import_all, self._data_dir, wanted)
            due = await planned(system.link, wanted)
            if time.time() < begin_s - 1:
                start_seq = await last_event(system.link)
            even_s = max(begin_s, time.time() + 1)
            notebook.say(f"waiting until they are due, and for {sizes.minutes:g} minutes more")
            await asyncio.sleep(begin_s + sizes.even_s - time.time())
            _tell_memory(notebook, "while refreshes come due", system)
            notebook.say(f"stopping for {sizes.stop_s:,.0f} s")
            stop_s = time.time()
            await life.aclose()
            await asyncio.sleep(stop_s + sizes.stop_s - time.time())
            start_s = time.time()
            async with self._opened() as again:
                times = Times(even_s, stop_s, start_s, start_s + again.daemon.start_s)
                await _until_refreshed(provider, len(provider.grants))
                seen = await events_since(again.link, start_seq)
                _tell_memory(notebook, "after the stop", again)
            warned = {str(one.id) for one in wanted if one.tokens[1] is None}
            refreshed = {one: when for one, when in due.items() if one not in warned}
            tell(notebook, refreshed, seen, provider.stats(), times)
            notebook.note("  warnings told", len(seen.warned))
            once = set(seen.warned) == warned and set(seen.warned.values()) <= {1}
            notebook.hold("each warning that is due is told once", is_kept=once)
            return again.daemon.start_s


def _evenly(provider: Provider, begin_s: float, rate: float, slug: str) -> Iterator[Wanted]:
    """Yield connections that come due one after the other, and some whose users must be warned."""
    for number, (one, tokens) in enumerate(zip(Uuid7Ids(), provider.grants, strict=False)):
        due_s = begin_s + number / rate
        yield Wanted(one, slug, due_s + _LEAD * SLUGS[slug], tokens)
        if number % _ONE_IN_WARNED == _ONE_IN_WARNED // 2:
            # Without a refresh token: the end is told a week before.
            yield Wanted(next(Uuid7Ids()), slug, due_s + _WEEK_S, (tokens[0], None))


async def _until_refreshed(provider: Provider, count: int) -> None:
    """Return when the provider has done so many refreshes.

    Raises:
        WrongOutcomeError: It does none any more.
    """
    done, since_s = 0, time.monotonic()
    while done < count:
        await asyncio.sleep(0.5)
        now = (await asyncio.to_thread(provider.stats)).successes
        if now > done:
            done, since_s = now, time.monotonic()
        elif time.monotonic() - since_s > _PATIENCE_S:
            raise WrongOutcomeError(f"{count - done} of {count} are not refreshed")
    await asyncio.sleep(2)


def _tell_import(notebook: Notebook, imported: Imported, used_s: list[float]) -> None:
    count = imported.connections
    notebook.note("connections imported", count / imported.seconds, "/s")
    notebook.note("  CPU for one import, the command", imported.cpu_s / count * 1e6, "us")
    for whose, whose_s in zip(("daemon", "server"), used_s, strict=True):
        notebook.note(f"  CPU for one import, {whose}", whose_s / count * 1e6, "us")


def _tell_memory(notebook: Notebook, when: str, system: System) -> None:
    pid = system.daemon.process.pid
    notebook.note(f"memory of the daemon {when}", resident_mb(pid), "MiB")
    server_mb = sum(map(resident_mb, children(pid)))
    notebook.note(f"memory of the server {when}", server_mb, "MiB")


def _cpu(system: System) -> list[float]:
    """Return the CPU that daemon and server have used, in seconds."""
    pid = system.daemon.process.pid
    return [cpu_s(pid), sum(map(cpu_s, children(pid)))]
