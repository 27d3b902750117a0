"""What does a token cost that is answered from memory, next to a bare echo on the same server?

Callers in one process on plain nats-py, the same code for both. The echo is a nats-py responder
on uvloop that answers a fixed body of the same size. Both are measured in turn, and the ratio
is taken pair by pair: with all callers at once, and with one caller alone (latency).
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop
from nats.aio.client import Client

from bench.daemon import ROOT, running_daemon
from bench.refreshes import CALLERS, connected, credentials, measure
from runtime.nats.embedded import CONTEXT_FILE, NatsContext
from runtime.world import Uuid7Ids

CONNECTIONS = 500
REQUESTS = 20_000
REQUESTS_ALONE = 3_000
ROUNDS = 5


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

    def token(number: int) -> str:
        return f"refreshd.v1.connection.{ids[number % CONNECTIONS]}.token"

    def echo(_number: int) -> str:
        return "echo"

    shapes: list[tuple[str, list[Client], int]] = [
        (f"{CALLERS} callers, own connections", own, REQUESTS),
        (f"{CALLERS} callers, one connection", own[:1] * CALLERS, REQUESTS),
        ("one caller alone", own[:1], REQUESTS_ALONE),
    ]
    for shape, clients, requests in shapes:
        await _shape(shape, clients, requests, echo, token)
    for client in own:
        await client.close()


async def _shape(
    shape: str,
    clients: list[Client],
    requests: int,
    echo: Callable[[int], str],
    token: Callable[[int], str],
) -> None:
    for subject in (token, echo):
        await measure(clients, subject, requests // 5, body=b"{}")
    rounds = [
        [await measure(clients, subject, requests, body=b"{}") for subject in (echo, token)]
        for _ in range(ROUNDS)
    ]
    rates = [statistics.median(rate for rate, _ in results) for results in zip(*rounds)]  # noqa: B905
    ratios = [tokens[0] / echoes[0] for echoes, tokens in rounds]
    medians_ms = [
        1000 * statistics.median(latency for _, latencies in results for latency in latencies)
        for results in zip(*rounds)  # noqa: B905
    ]
    print(
        f"{shape}: echo {rates[0]:,.0f}/s ({medians_ms[0]:.2f} ms), "
        f"token {rates[1]:,.0f}/s ({medians_ms[1]:.2f} ms), token/echo "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    )


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
