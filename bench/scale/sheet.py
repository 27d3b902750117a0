"""The figures of a run: printed as they come, and kept in a file from the first on."""

from pathlib import Path

import msgspec

from bench.results import FOLDER

FILE = FOLDER / "scale.json"
_NAME_WIDTH = 72


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line."""

    value: float
    unit: str = ""
    beside: float | None = None
    """The same with next to nothing stored."""


class Sheet(msgspec.Struct, kw_only=True):
    """One run."""

    machine: dict[str, str]
    connections: int
    """How many the import stores; what falls due is stored besides."""
    minutes: float
    figures: dict[str, Figure] = {}
    faults: list[str] = []
    """Promises that were not kept."""


class Notebook:
    """Writes a sheet, line by line."""

    def __init__(self, sheet: Sheet, file: Path | None) -> None:
        """Begin; ``file``: None keeps nothing."""
        self.sheet = sheet
        self._file = file

    def say(self, doing: str) -> None:
        """Tell what is being done."""
        print(f"... {doing}", flush=True)

    def note(self, name: str, value: float, unit: str = "", *, beside: float | None = None) -> None:
        """Print a figure, and keep it; each has a name of its own."""
        assert name not in self.sheet.figures, name
        self.sheet.figures[name] = Figure(value=value, unit=unit, beside=beside)
        other = "" if beside is None else f"   (next to nothing stored: {_shown(beside)})"
        print(f"{name:<{_NAME_WIDTH}} {_shown(value):>12} {unit}{other}", flush=True)
        self._keep()

    def hold(self, promise: str, *, is_kept: bool) -> None:
        """Print a promise that was not kept, and keep that."""
        if not is_kept:
            self.sheet.faults.append(promise)
            print(f"NOT KEPT: {promise}", flush=True)
            self._keep()

    def _keep(self) -> None:
        if self._file is not None:
            self._file.write_bytes(
                msgspec.json.format(msgspec.json.encode(self.sheet), indent=1) + b"\n"
            )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"
