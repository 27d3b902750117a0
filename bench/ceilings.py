"""What nothing of ours can pass on this machine: an echo, JetStream's fsync, the disk's."""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import msgspec

from bench.daemon import ROOT
from bench.load_process import Stretch
from bench.measured import Measured
from bench.processes import Processes, children
from bench.rows import CALLERS, Row
from bench.system import System
from runtime.nats.embedded import CONTEXT_FILE

ECHO_SUBJECT = "echo"
_STREAM_BYTES_MAX = 256 * 1024 * 1024
_APPEND_BYTES = 4096


@contextlib.contextmanager
def running_echo(data_dir: Path) -> Generator[int]:
    """Run a nats-py responder on a daemon's server, as a process; yield its id."""
    echo = subprocess.Popen(
        [sys.executable, "-m", "bench.echo_responder", str(data_dir / CONTEXT_FILE)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        yield echo.pid
    finally:
        echo.kill()
        echo.wait()


class EchoRow(Row):
    """A bare nats-py responder that answers the same and does nothing else."""

    unit = "echoes"

    def __init__(self, name: str, system: System, echo_pid: int, *, requests: int) -> None:
        """Ask an echo on the daemon's own server."""
        super().__init__(name, requests=requests)
        self._system = system
        self._echo_pid = echo_pid

    async def measure(self, requests: int) -> Measured:
        """See ``Row``."""
        pid = self._system.daemon.process.pid
        echo, server = Processes(lambda: [self._echo_pid]), Processes(lambda: children(pid))
        driven = await self._system.load.drive(
            Stretch(subjects=(ECHO_SUBJECT,), callers=CALLERS, requests=requests)
        )
        return Measured(
            rate=driven.rate,
            p50_ms=driven.p50_ms,
            p99_ms=driven.p99_ms,
            load_us=driven.cpu_us,
            daemon_us=echo.used_us(requests),
            server_us=server.used_us(requests),
            peak_mib=echo.highest_mb() + server.highest_mb(),
        )


class PublishRow(Row):
    """Publishes of the same body into streams, each acknowledged when it is on the disk."""

    unit = "publishes"

    def __init__(self, name: str, system: System, *, streams: int, requests: int) -> None:
        """Publish into so many streams of the daemon's own server."""
        super().__init__(name, requests=requests)
        self._system = system
        self._subjects = tuple(f"bench_{streams}.{number}" for number in range(streams))

    async def prepare(self) -> None:
        """Make the streams."""
        for subject in self._subjects:
            name = subject.replace(".", "_")
            config = {
                "name": name,
                "subjects": [subject],
                "storage": "file",
                "max_bytes": _STREAM_BYTES_MAX,
                "num_replicas": 1,
            }
            await self._system.link.request(
                f"$JS.API.STREAM.CREATE.{name}", msgspec.json.encode(config), timeout_s=10
            )

    async def measure(self, requests: int) -> Measured:
        """See ``Row``."""
        pid = self._system.daemon.process.pid
        server = Processes(lambda: children(pid))
        driven = await self._system.load.drive(
            Stretch(
                subjects=self._subjects,
                pick="each",
                expected=None,
                callers=CALLERS,
                requests=requests,
            )
        )
        return Measured(
            rate=driven.rate,
            p50_ms=driven.p50_ms,
            p99_ms=driven.p99_ms,
            load_us=driven.cpu_us,
            server_us=server.used_us(requests),
            peak_mib=server.highest_mb(),
        )


class AppendRow(Row):
    """4 KB appended to a file and made durable, one after another."""

    unit = "appends"

    def __init__(self, name: str, folder: Path, *, requests: int) -> None:
        """Append to a file in ``folder``."""
        super().__init__(name, requests=requests)
        self._file = folder / "appended"

    async def measure(self, requests: int) -> Measured:
        """See ``Row``."""
        return await asyncio.to_thread(self._measure, requests)

    def _measure(self, requests: int) -> Measured:
        took_s: list[float] = []
        with self._file.open("wb", buffering=0) as file:
            for _ in range(requests):
                began_s = time.perf_counter()
                file.write(bytes(_APPEND_BYTES))
                os.fdatasync(file.fileno())
                took_s.append(time.perf_counter() - began_s)
        quantiles = statistics.quantiles(took_s, n=100)
        return Measured(
            rate=requests / sum(took_s), p50_ms=quantiles[49] * 1e3, p99_ms=quantiles[98] * 1e3
        )
