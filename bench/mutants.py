"""How many mutants do the tests of domain/ and actors/ find, module by module?

Reads what `make mutate` left in mutants/; `mutmut show NAME` shows what a mutant that lived has
changed. Found are the killed ones and those that ran out of time. A pattern narrows it down:
`python -m bench.mutants 'domain.verdicts*'`.
"""

import json
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mutmut.stats import status_by_exit_code

FOUND = ("killed", "timeout", "segfault")


def results(pattern: str) -> dict[str, str]:
    """Return the status of each mutant that ``pattern`` matches, by its name."""
    found: dict[str, str] = {}
    for path in sorted(Path("mutants").rglob("*.py.meta")):
        meta: dict[str, Any] = json.loads(path.read_bytes())
        for name, exit_code in meta["exit_code_by_key"].items():
            if fnmatch(name, pattern):
                found[name] = status_by_exit_code[exit_code]
    return found


def main(pattern: str = "*") -> None:
    """Print the scores, then the survivors."""
    status_of = results(pattern)
    modules: dict[str, Counter[str]] = {}
    for name, status in status_of.items():
        modules.setdefault(name.rpartition(".")[0], Counter())[status] += 1
    modules["all"] = Counter(status_of.values())
    print(
        f"{'module':28}{'mutants':>8}{'found':>8}{'timeout':>8}{'lived':>8}{'untested':>9}{'score':>8}"
    )
    for module, counts in modules.items():
        done = counts.total() - counts["not checked"]
        found = sum(counts[status] for status in FOUND)
        score = f"{found / done:.1%}" if done else "-"
        row = (done, found, counts["timeout"], counts["survived"], counts["no tests"])
        print(
            f"{module:28}"
            + "".join(f"{n:>{w}}" for n, w in zip(row, (8, 8, 8, 8, 9), strict=True))
            + f"{score:>8}"
        )
    for name, status in status_of.items():
        if status not in (*FOUND, "not checked"):
            print(f"{status}: {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
