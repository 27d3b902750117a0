"""Read the arguments, and run."""

import argparse
import tempfile
from pathlib import Path

import uvloop

from bench.results import machine
from bench.scale.run import Scale
from bench.scale.sheet import FILE, Notebook, Sheet
from bench.scale.sizes import Sizes


def main() -> None:
    """See the package."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="where to make, and remove, the data folders")
    parser.add_argument("--results", type=Path, default=FILE)
    given = parser.parse_args()
    sizes = Sizes(connections=given.connections, minutes=given.minutes)
    sheet = Sheet(machine=machine(), connections=sizes.connections, minutes=sizes.minutes)
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        uvloop.run(Scale(sizes, Path(folder), Notebook(sheet, given.results)).run())


if __name__ == "__main__":
    main()
