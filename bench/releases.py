"""Is this release faster than another one, on the same machine at the same minute?

``python -m bench.releases FOLDER`` takes a checkout of the other release. Both daemons run, each
with an embedded server of its own; rounds alternate, and each ratio is taken within a round.
8 client connections of 32 callers, as workers share a connection, refresh 500 connections; then
one hot connection; then one caller alone. CPU is that of the daemon, of its server and of the load.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.bodies import connect_body, refresh_body
from bench.daemon import RunningDaemon, running_daemon
from bench.load import Load, Request, open_load
from bench.processes import children, cpu_s
from runtime.world import Uuid7Ids

CONNECTIONS = 500
CLIENTS = 8
CALLERS = 256
ROUNDS = 5


class Measured(NamedTuple):
    """One stretch of load on one daemon."""

    rate: float
    p50_ms: float
    p99_ms: float
    daemon_us: float
    """CPU per request."""
    server_us: float
    load_us: float


class Release:
    """A daemon of one release, under load."""

    def __init__(self, name: str, daemon: RunningDaemon) -> None:
        """Have no connection yet."""
        self.name = name
        self.daemon = daemon
        self.load: Load
        self.ids: list[str] = []

    async def prepare(self) -> None:
        """Connect clients and connections."""
        self.load = await open_load(self.daemon.context, clients=CLIENTS)
        self.ids = [str(one) for one, _ in zip(Uuid7Ids(), range(CONNECTIONS), strict=False)]
        for one in self.ids:
            request = ("refreshd.v1.connect", connect_body(one))
            await self.load.run(lambda _, r=request: r, callers=1, requests=1, expected=None)

    async def measure(self, pick: Callable[[], str], *, callers: int, requests: int) -> Measured:
        """Refresh from so many callers."""

        def make(number: int) -> Request:
            return f"refreshd.v1.connection.{pick()}.refresh", refresh_body(number)

        cpu_before, load_before_s = self._cpu_s(), time.process_time()
        started_s = time.perf_counter()
        latencies_s = await self.load.run(make, callers=callers, requests=requests)
        took_s = time.perf_counter() - started_s
        daemon_s, server_s = (a - b for a, b in zip(self._cpu_s(), cpu_before, strict=True))
        quantiles = statistics.quantiles(latencies_s, n=100)
        return Measured(
            requests / took_s,
            quantiles[49] * 1e3,
            quantiles[98] * 1e3,
            daemon_s / requests * 1e6,
            server_s / requests * 1e6,
            (time.process_time() - load_before_s) / requests * 1e6,
        )

    def _cpu_s(self) -> tuple[float, float]:
        pid = self.daemon.process.pid
        return cpu_s(pid), sum(map(cpu_s, children(pid)))


async def run(releases: list[Release]) -> None:
    """Measure in turn and print."""
    for release in releases:
        await release.prepare()
    shapes: list[tuple[str, Callable[[Release], Callable[[], str]], int, int]] = [
        ("500 connections, 256 callers", lambda r: lambda: random.choice(r.ids), CALLERS, 15_000),
        ("one hot connection, 256 callers", lambda r: lambda: r.ids[0], CALLERS, 15_000),
        ("one caller alone", lambda r: lambda: random.choice(r.ids), 1, 600),
    ]
    for name, picker, callers, requests in shapes:
        results: dict[str, list[Measured]] = {release.name: [] for release in releases}
        for number in range(ROUNDS + 1):
            for release in releases if number % 2 else reversed(releases):
                measured = await release.measure(
                    picker(release), callers=callers, requests=requests if number else requests // 5
                )
                if number:
                    results[release.name].append(measured)
        print(f"{name}:")
        for release in releases:
            rows = results[release.name]
            rate, p50, p99, daemon_us, server_us, load_us = (
                statistics.median(column) for column in zip(*rows, strict=True)
            )
            print(
                f"  {release.name:<8}{rate:8,.0f}/s  p50 {p50:5.2f} ms  p99 {p99:6.2f} ms  "
                f"daemon {daemon_us:4.0f} us  server {server_us:4.0f} us  "
                f"load {load_us:3.0f} us"
            )
        ratios = [
            new.rate / old.rate for new, old in zip(results["this"], results["other"], strict=True)
        ]
        print(f"  ratio   {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


def main() -> None:
    """Start both daemons and measure."""
    other = Path(sys.argv[1]).resolve()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_daemon(Path(folder) / "this") as this_daemon,
        running_daemon(Path(folder) / "other", root=other) as other_daemon,
    ):
        uvloop.run(run([Release("this", this_daemon), Release("other", other_daemon)]))


if __name__ == "__main__":
    main()
