"""How many concurrent refreshes per second, next to a bare echo on the same server?

500 connections, 256 callers in one process on plain nats-py, the same code for both: it encodes
a JSON body with credentials, makes the request, and decodes the reply. The echo is a nats-py
responder on uvloop that answers the same ``{"ok":null}`` and stores nothing. Both are measured
in turn, and the ratio is taken pair by pair, in two shapes:

- each caller has a NATS connection of its own, as workers have;
- all callers share one connection, which then carries many requests in each packet.

Next to them: bare acknowledged writes of the same body into the daemon's own kind of bucket,
256 at once: what the server's fsync allows to a refresh that did nothing else.
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
from runtime.nats.embedded import CONTEXT_FILE, NatsContext
from runtime.world import Uuid7Ids

CONNECTIONS = 500
CALLERS = 256
REQUESTS = 15_000
ROUNDS = 5
BUCKETS = 8


async def measure(
    clients: list[Client],
    subject: Callable[[int], str],
    requests: int = REQUESTS,
    *,
    body: bytes | None = None,
) -> tuple[float, list[float]]:
    """Return requests per second and the latencies in seconds.

    Args:
        clients: One per caller; the same one may be there several times.
        subject: Where request number n goes.
        requests: How many, together.
        body: None encodes credentials anew for each request.
    """
    numbers = iter(range(requests))
    latencies_s: list[float] = []

    async def caller(client: Client) -> None:
        for number in numbers:
            started_s = time.perf_counter()
            data = body or msgspec.json.encode({"credentials": credentials(number)})
            reply = await client.request(subject(number), data, timeout=10)
            if b"error" in reply.data or not msgspec.json.decode(reply.data):
                raise SystemExit(f"refused: {reply.data!r}")
            latencies_s.append(time.perf_counter() - started_s)

    started_s = time.perf_counter()
    await asyncio.gather(*(caller(client) for client in clients))
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
    own = [await connected(context) for _ in range(CALLERS)]
    ids = [str(connection_id) for connection_id, _ in zip(Uuid7Ids(), range(CONNECTIONS))]  # noqa: B905
    for connection_id in ids:
        body = {
            "user_id": ids[0],
            "provider_id": ids[0],
            "provider_slug": "bench",
            "connection_id": connection_id,
            "credentials": credentials(0),
        }
        await own[0].request("refreshd.v1.connect", msgspec.json.encode(body), timeout=10)

    def refresh(_number: int) -> str:
        return f"refreshd.v1.connection.{random.choice(ids)}.refresh"

    def echo(_number: int) -> str:
        return "echo"

    def write(number: int) -> str:
        return f"$KV.bench_{number % BUCKETS:02d}.{number % CONNECTIONS}"

    for bucket in range(BUCKETS):
        await create_bucket(own[0], f"bench_{bucket:02d}")
    for shape, clients in (("own connections", own), ("one connection", own[:1] * CALLERS)):
        for subject in (refresh, echo, write):
            await measure(clients, subject, REQUESTS // 5)
        rounds = [
            [await measure(clients, subject) for subject in (echo, refresh, write)]
            for _ in range(ROUNDS)
        ]
        print(f"{shape}:")
        for name, results in zip(
            ("echo", "refresh", "write"), zip(*rounds, strict=True), strict=True
        ):
            rate = statistics.median(rate for rate, _ in results)
            latencies_s = [latency for _, latencies in results for latency in latencies]
            print(f"  {name:<8}{rate:8,.0f}/s  {_latency(latencies_s)}")
        ratios = [refreshes[0] / echoes[0] for echoes, refreshes, _ in rounds]
        writes = [written[0] / echoes[0] for echoes, _, written in rounds]
        print(
            f"  refresh/echo  median {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f});  write/echo  median "
            f"{statistics.median(writes):.3f}"
        )
    for client in own:
        await client.close()


async def connected(context: NatsContext) -> Client:
    """Return a plain connection to the daemon's server."""
    return await nats.connect(context.url, user=context.user, password=context.password)


async def create_bucket(client: Client, name: str) -> None:
    """Make a bucket like the daemon's."""
    config = {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "num_replicas": 1,
        "allow_direct": False,
    }
    body = msgspec.json.encode(config)
    await client.request(f"$JS.API.STREAM.CREATE.KV_{name}", body, timeout=10)


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
