"""``python -m tests.simulation``: run many seeds on both cores, or one and print its history.

python -m tests.simulation --seeds 10000 --from 0
python -m tests.simulation --seed 4711
python -m tests.simulation --bugs
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial

from tests.simulation.bugs import BUGS, Found, found
from tests.simulation.run import Run, run

_SHOWN_MAX = 20


def main() -> int:
    """Return 1 where a law was broken."""
    arguments = argparse.ArgumentParser(prog="python -m tests.simulation")
    arguments.add_argument("--seeds", type=int, default=1000, help="how many")
    arguments.add_argument("--from", type=int, default=0, dest="first", help="the first")
    arguments.add_argument("--seed", type=int, help="run one, and print its history")
    arguments.add_argument("--bugs", action="store_true", help="find the planted bugs")
    arguments.add_argument("--hosts", type=int, default=3, help="at most so many daemons")
    asked = arguments.parse_args()
    if asked.seed is not None:
        one = run(asked.seed, hosts_max=asked.hosts)
        _say(str(one))
        return bool(one.broken)
    with multiprocessing.Pool(os.cpu_count()) as pool:
        if asked.bugs:
            finding = partial(_found, seeds_max=asked.seeds, first=asked.first)
            told = [_told(*one) for one in pool.imap(finding, BUGS)]
            return not all(told)
        seeds = range(asked.first, asked.first + asked.seeds)
        running = pool.imap_unordered(partial(_run, hosts_max=asked.hosts), seeds, chunksize=4)
        return _summed_up(running, asked.seeds)


def _run(seed: int, *, hosts_max: int) -> Run:
    return run(seed, hosts_max=hosts_max)._replace(history=[])


def _found(bug: str, *, seeds_max: int, first: int) -> tuple[str, Found | None]:
    return bug, found(bug, seeds_max=seeds_max, first=first)


def _told(bug: str, one: Found | None) -> bool:
    _say(f"| {bug} | " + ("not found" if one is None else f"{one.seeds} | {one.law}") + " |")
    return one is not None


def _summed_up(running: Iterable[Run], seeds: int) -> int:
    counts, broken, began_s = Counter[str](), 0, time.monotonic()
    for one in running:
        counts.update(one.counts)
        if one.broken:
            broken += 1
            if broken <= _SHOWN_MAX:
                _say(f"seed {one.seed}: {'; '.join(one.broken[:3])}")
    took_s = time.monotonic() - began_s
    for name, count in sorted(counts.items()):
        _say(f"{count:10,}  {name}")
    _say(f"{seeds} seeds in {took_s:.0f} s; {broken} of them broke a law")
    return bool(broken)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
