"""How many concurrent refreshes per second, next to a bare echo on the same server?

500 connections, 256 callers, one caller process on plain nats-py for both: it encodes a JSON
body with credentials, makes the request, and decodes the reply. The echo is a nats-py responder
on uvloop that answers the same ``{"ok":null}`` and stores nothing. The two are measured in turn,
and the ratio is taken pair by pair.
"""

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import nats
import uvloop
from nats.aio.client import Client

from bench.daemon import ROOT, running_daemon
from runtime.embedded_nats import CONTEXT_FILE, NatsContext
from runtime.world import Uuid7Ids

CONNECTIONS = 500
CALLERS = 256
REQUESTS = 20_000
ROUNDS = 5


async def measure(
    client: Client, subject: Callable[[int], str], requests: int
) -> tuple[float, list[float]]:
    """Return requests per second and the latencies in seconds."""
    numbers = iter(range(requests))
    latencies_s: list[float] = []

    async def caller() -> None:
        for number in numbers:
            started_s = time.perf_counter()
            body = msgspec.json.encode({"credentials": credentials(number)})
            reply = await client.request(subject(number), body, timeout=10)
            if "ok" not in msgspec.json.decode(reply.data):
                raise SystemExit(f"refused: {reply.data!r}")
            latencies_s.append(time.perf_counter() - started_s)

    started_s = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return requests / (time.perf_counter() - started_s), latencies_s


def credentials(number: int) -> dict[str, Any]:
    """Return credentials of a usual size."""
    return {
        "credential_type": "oauth2",
        "expires_at": "2099-01-01T00:00:00Z",
        "secret": {
            "access_token": f"{number:0>120}",
            "refresh_token": f"{number:0>120}",
            "token_type": "Bearer",
        },
    }


async def run(context: NatsContext) -> None:
    """Measure in turn and print."""
    client = await nats.connect(context.url, user=context.user, password=context.password)
    ids = [str(connection_id) for connection_id, _ in zip(Uuid7Ids(), range(CONNECTIONS))]  # noqa: B905
    for connection_id in ids:
        body = {
            "user_id": ids[0],
            "provider_id": ids[0],
            "provider_slug": "bench",
            "connection_id": connection_id,
            "credentials": credentials(0),
        }
        await client.request("refreshd.v1.connect", msgspec.json.encode(body), timeout=10)

    def refresh(_number: int) -> str:
        return f"refreshd.v1.connection.{random.choice(ids)}.refresh"

    def echo(_number: int) -> str:
        return "echo"

    await measure(client, refresh, REQUESTS // 5)
    await measure(client, echo, REQUESTS // 5)
    ratios: list[float] = []
    for _ in range(ROUNDS):
        echoes, echo_latencies_s = await measure(client, echo, REQUESTS)
        refreshes, refresh_latencies_s = await measure(client, refresh, REQUESTS)
        ratios.append(refreshes / echoes)
        print(
            f"echo {echoes:7,.0f}/s ({_latency(echo_latencies_s)})   "
            f"refresh {refreshes:7,.0f}/s ({_latency(refresh_latencies_s)})   "
            f"ratio {ratios[-1]:.3f}"
        )
    print(f"refresh/echo ratio: median {statistics.median(ratios):.3f}, min {min(ratios):.3f}")
    await client.close()


def _latency(latencies_s: list[float]) -> str:
    quantiles = statistics.quantiles(latencies_s, n=100)
    return f"median {quantiles[49] * 1000:.1f} ms, p99 {quantiles[98] * 1000:.1f} ms"


def main() -> None:
    """Start the daemon and the echo, and measure."""
    with tempfile.TemporaryDirectory() as folder, running_daemon(Path(folder)) as daemon:
        echo = subprocess.Popen(
            [sys.executable, "-m", "bench.echo_responder", str(Path(folder) / CONTEXT_FILE)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            assert echo.stdout is not None
            echo.stdout.readline()
            uvloop.run(run(daemon.context))
        finally:
            echo.kill()
            echo.wait()


if __name__ == "__main__":
    main()
