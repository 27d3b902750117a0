"""The load, in a process of its own: ``python -m bench.load_process CLIENTS CONTEXT``.

It reads a *stretch* a line from stdin, puts it on, and writes what came of it as a line on
stdout. It asks of every answer that it is the expected one: a refusal ends the stretch.
"""

import asyncio
import itertools
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import msgspec
import uvloop

from bench.bodies import refresh_body
from bench.daemon import ROOT
from bench.load import LoadError, Request, open_load
from runtime.nats.embedded import read_context

_ZIPF_EXPONENT = 1.1
Pick = Literal["uniform", "zipf", "each"]


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A load to be put on."""

    subjects: tuple[str, ...]
    pick: Pick = "uniform"
    """Which of them the next request goes to; ``each``: one after another."""
    body: str | None = None
    """None: fresh credentials for each request."""
    expected: str | None = '{"ok":null}'
    """The answer; None takes all but an error."""
    callers: int
    requests: int
    rate_per_s: float | None = None
    """None: each caller goes on when it is answered."""


class Driven(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a stretch."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the load, per request."""
    answered: dict[str, int]
    """How many of each subject's requests."""
    failure: str = ""


class LoadProcess:
    """The runner's end of it. Use: ``with LoadProcess(context) as load``."""

    def __init__(self, context_file: Path, *, clients: int = 8) -> None:
        """Start the process, which opens so many client connections."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load_process", str(clients), str(context_file)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        """Return the load."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        with self._process:
            pass

    async def drive(self, stretch: Stretch) -> Driven:
        """Put a load on, and return what came of it.

        Raises:
            LoadError: A request was refused, or had another answer, or the process has ended.
        """
        return await asyncio.to_thread(self._drive, stretch)

    def _drive(self, stretch: Stretch) -> Driven:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(stretch) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load has ended")
        driven = msgspec.json.decode(line, type=Driven)
        if driven.failure:
            raise LoadError(driven.failure)
        return driven


def picker(subjects: tuple[str, ...], pick: str) -> Callable[[], str]:
    """Return what names the next request's subject."""
    if len(subjects) == 1:
        return lambda: subjects[0]
    if pick == "each":
        return itertools.cycle(subjects).__next__
    if pick == "uniform":
        return lambda: random.choice(subjects)
    weights = [1 / rank**_ZIPF_EXPONENT for rank in range(1, len(subjects) + 1)]
    cumulative = [*itertools.accumulate(weights)]

    def zipf() -> str:
        return random.choices(subjects, cum_weights=cumulative)[0]

    return zipf


async def main() -> None:
    """Put on stretch after stretch until stdin ends."""
    context = read_context(Path(sys.argv[2]))
    assert context is not None
    load = await open_load(context, clients=int(sys.argv[1]))
    number = 0
    # In a thread: the server's pings are answered meanwhile.
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        stretch = msgspec.json.decode(line, type=Stretch)
        pick, asked = picker(stretch.subjects, stretch.pick), Counter[str]()
        body = None if stretch.body is None else stretch.body.encode()

        def make(_: int, pick: Callable[[], str] = pick, body: bytes | None = body) -> Request:
            nonlocal number
            subject = pick()
            asked[subject] += 1  # noqa: B023 -- used within its round alone
            number += 1
            return subject, body or refresh_body(number)

        began_s, cpu_before_s = time.perf_counter(), time.process_time()
        failure, latencies_s = "", [0.0, 0.0]
        try:
            latencies_s = await load.run(
                make,
                callers=stretch.callers,
                requests=stretch.requests,
                expected=None if stretch.expected is None else stretch.expected.encode(),
                rate_per_s=stretch.rate_per_s,
            )
        except (LoadError, TimeoutError) as error:
            failure = str(error) or "no answer in time"
        took_s = time.perf_counter() - began_s
        cpu_s = time.process_time() - cpu_before_s
        quantiles = statistics.quantiles(latencies_s, n=100)
        driven = Driven(
            rate=stretch.requests / took_s,
            p50_ms=quantiles[49] * 1e3,
            p99_ms=quantiles[98] * 1e3,
            cpu_us=cpu_s / stretch.requests * 1e6,
            answered=dict(asked),
            failure=failure,
        )
        sys.stdout.buffer.write(msgspec.json.encode(driven) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
