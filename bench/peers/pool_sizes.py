"""How many connections to PostgreSQL are best for the seed's handler?

``python -m bench.peers.pool_sizes [--hot]``: 256 callers, 500 connections or one, pools of 4 to 64
measured in turn. ``measuring.POOL`` is what was found best on two cores whose disk others used as
well: more transactions under way share a sync. 16, 32, 48 and 64 made 1,311, 1,384, 1,525 and 1,544
refreshes/s, and in one statement 2,173, 2,572 and 2,814. On one hot row a small one is best: 4, 16
and 48 made 1,892, 1,647 and 1,164 (``HOT_POOL``).
"""

import contextlib
import statistics
import sys

import uvloop

from bench.peers.measuring import PEERS, Measured, RunningPeer, Servers, measure, running_peer
from bench.peers.servers import Package, ensure_installed, running_postgres

SIZES = (4, 8, 16, 32, 48, 64)
ROUNDS = 5
REQUESTS = 3000


async def run(*, hot: bool) -> None:
    """Measure in turn and print the medians; ``hot``: of refreshes of one connection."""
    async with contextlib.AsyncExitStack() as stack:
        servers = Servers(stack.enter_context(running_postgres()))
        peers: dict[int, RunningPeer] = {}
        for size in SIZES:
            peer = running_peer(PEERS["a"], servers, pool=size)
            peers[size] = await stack.enter_async_context(peer)
            await peers[size].connect(500)
        results: dict[int, list[Measured]] = {size: [] for size in SIZES}
        for number in range(ROUNDS + 1):
            for size in SIZES if number % 2 else reversed(SIZES):
                measured = await measure(
                    peers[size], callers=256, requests=REQUESTS, connections=500, hot=hot
                )
                if number:
                    results[size].append(measured)
    for size in SIZES:
        rate, p50_ms, p99_ms, handler_us, database_us, *_ = (
            statistics.median(column) for column in zip(*results[size], strict=True)
        )
        print(
            f"pool of {size:2}: {rate:7,.0f}/s  p50 {p50_ms:6.1f} ms  p99 {p99_ms:6.1f} ms  "
            f"handler {handler_us:4.0f} us  database {database_us:4.0f} us"
        )


if __name__ == "__main__":
    ensure_installed(Package.POSTGRES)
    uvloop.run(run(hot="--hot" in sys.argv))
