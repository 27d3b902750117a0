"""How many refreshes per second, next to what is possible here and to what people use instead?

``python -m bench`` (``make bench``) measures every row in turn, round after round, each with
servers of its own on loopback that it starts with durable settings and ends. The medians are in
``bench/results/latest.json``, in a picture next to it, and on the terminal.
"""

import argparse
import contextlib
import fnmatch
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from bench.activation import ActivationRow
from bench.board import Board
from bench.ceilings import AppendRow, EchoRow, PublishRow, running_echo
from bench.facts import measured_facts
from bench.herd import opened_herd
from bench.load_process import Pick
from bench.peer_rows import Peers
from bench.picture import draw
from bench.results import (
    ALONE,
    DISTINCT,
    ECHO,
    HALF_LOAD,
    HOT,
    STORED,
    TOKEN,
    TWO_DAEMONS,
    Results,
    machine,
    write_results,
)
from bench.results import Row as Recorded
from bench.rows import CALLERS, CONNECTIONS, DrivenRow, HalfLoadRow, Row, reads, refreshes
from bench.startup import fill
from bench.system import System, new_ids, opened_system
from runtime.ledger.streams import PARTITIONS_DEFAULT

ROUNDS = 5
MANY = 20_000
_WARMING = 5
"""The first time is a fifth as long and counts for nothing."""
_PARTITIONS = "refresh, {} partition(s), 256 callers"
_HERD = "token, herd on expired ones, 100 ms provider"
_COLD = "refresh, first one after a start, 256 callers"


class Rows:
    """The rows that are wanted, in their order; what nobody wants is not started."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, folder: Path, wanted: Sequence[str]
    ) -> None:
        """Have none yet."""
        self.rows: list[tuple[str, Row]] = []
        self.skipped: list[tuple[str, str, str]] = []
        """Groups, rows, and why they are left out."""
        self._stack = stack
        self._folder = folder
        self._wanted = wanted

    async def add_all(self, *, is_long: bool) -> None:
        """Start what each needs."""
        main = await self._opened("main", connections=MANY)
        await self._add_ceilings(main)
        self._add_refreshes(main)
        if self._is_wanted(_HERD):
            herd = opened_herd(self._new_folder("herd"), _HERD, requests=4_000)
            self._add("refreshd", await self._stack.enter_async_context(herd))
        if self._is_wanted(_COLD):
            activation = ActivationRow(_COLD, self._new_folder("cold"), requests=10_000)
            await activation.prepare()
            self._add("refreshd", activation)
        for partitions in (1, 16):
            if self._is_wanted(name := _PARTITIONS.format(partitions)):
                system = await self._opened(f"p{partitions}", partitions=partitions)
                self._add_refresh(name, system)
        if self._is_wanted(TWO_DAEMONS):
            self._add_refresh(TWO_DAEMONS, await self._opened("two", members=2))
        for stored in (1_000, 100_000, *((1_000_000,) if is_long else ())):
            if self._is_wanted(name := STORED.format(stored)):
                system = await self._opened(f"s{stored}")
                await fill(system.link, stored - len(system.ids))
                self._add_refresh(name, system)
        peers = Peers(self._stack, self._new_folder("peers"), self._is_wanted)
        await peers.open()
        self.rows += [("peers", row) for row in peers.rows]
        self.skipped += [("peers", name, why) for name, why in peers.skipped.items()]

    async def _add_ceilings(self, main: System) -> None:
        if self._is_wanted(ECHO):
            echo_pid = self._stack.enter_context(running_echo(self._folder / "main"))
            self._add("ceilings", EchoRow(ECHO, main, echo_pid, requests=60_000))
        for streams in (1, 8):
            name = f"JetStream publishes, {streams} stream{'s' * (streams > 1)}, 256 callers"
            row = PublishRow(name, main, streams=streams, requests=10_000)
            if self._is_wanted(name):
                await row.prepare()
                self._add("ceilings", row)
        self._add("ceilings", AppendRow("4 KB append + fdatasync", self._folder, requests=1_000))

    def _add_refreshes(self, main: System) -> None:
        self._add_refresh(ALONE, main, callers=1, requests=1_000)
        self._add_refresh("refresh, 500 connections, 16 callers", main, callers=16, requests=8_000)
        distinct = self._add_refresh(DISTINCT, main)
        self._add("refreshd", HalfLoadRow(HALF_LOAD, distinct))
        self._add_refresh("refresh, 500 connections, 1,024 callers", main, callers=1024)
        for callers, requests in ((1, 1_000), (16, 8_000), (256, 20_000), (1024, 20_000)):
            name = f"refresh, 20,000 connections, {callers:,} caller{'s' * (callers > 1)}"
            self._add_refresh(name, main, connections=MANY, callers=callers, requests=requests)
        self._add_refresh(HOT, main, connections=1)
        zipf = "refresh, 20,000 connections, Zipf, 256 callers"
        self._add_refresh(zipf, main, connections=MANY, pick="zipf")
        for verb, name in (("token", TOKEN), ("get", "get, 256 callers")):
            asked = reads(main, verb, connections=CONNECTIONS, callers=CALLERS, requests=40_000)
            self._add("refreshd", DrivenRow(name, main, asked, unit=f"{verb}s"))

    def _add_refresh(
        self,
        name: str,
        system: System,
        *,
        connections: int = CONNECTIONS,
        callers: int = CALLERS,
        requests: int = 20_000,
        pick: Pick = "uniform",
    ) -> DrivenRow:
        load = refreshes(
            system, connections=connections, callers=callers, requests=requests, pick=pick
        )
        row = DrivenRow(name, system, load)
        self._add("refreshd", row)
        return row

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _add(self, group: str, row: Row) -> None:
        if self._is_wanted(row.name):
            self.rows.append((group, row))

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self._wanted)

    async def _opened(
        self,
        name: str,
        *,
        partitions: int = PARTITIONS_DEFAULT,
        connections: int = CONNECTIONS,
        members: int = 1,
    ) -> System:
        system = await self._stack.enter_async_context(
            opened_system(self._new_folder(name), partitions=partitions, members=members)
        )
        await system.connect(new_ids(connections))
        return system


async def run(*, rounds: int, is_long: bool, wanted: Sequence[str]) -> None:
    """Measure and show; a whole run is recorded, too."""
    results = Results(machine=machine(), rows={})
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        board = stack.enter_context(Board(results))
        board.show("starting servers and storing connections")
        rows = Rows(stack, folder, wanted or ["*"])
        await rows.add_all(is_long=is_long)
        for group, row in rows.rows:
            results.rows[row.name] = Recorded(group=group, unit=row.unit)
        for group, name, why in rows.skipped:
            results.rows[name] = Recorded(group=group, unit="", skipped=why)
        for number in range(rounds + 1):
            await _round(number, [row for _, row in rows.rows], results, board)
    if not wanted:
        # First what took longest.
        write_results(results)
        results = msgspec.structs.replace(results, facts=await measured_facts())
        write_results(results)
        draw(results)


async def _round(number: int, rows: Sequence[Row], results: Results, board: Board) -> None:
    """Measure each row once; the first round warms up. Every other one goes backwards."""
    for row in rows if number % 2 else reversed(rows):
        requests = row.requests if number else row.requests // _WARMING
        board.show(f"round {number}: {row.name}" if number else f"warming up: {row.name}")
        measured = await row.measure(requests)
        await row.check()
        if number:
            results.rows[row.name].rounds.append(measured)


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--long", action="store_true", help="with 1,000,000 stored, too")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN")
    given = parser.parse_args()
    uvloop.run(run(rounds=given.rounds, is_long=given.long, wanted=given.only))


if __name__ == "__main__":
    main()
