"""What a process and its children have used, as Linux tells it."""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Processes:
    """CPU and memory of some processes between two moments."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        """Begin to count; ``pids`` names them whenever it is asked."""
        self._pids = pids
        for pid in pids():
            _forget_highest(pid)
        self._before_s = self._cpu_s()

    def used_us(self, operations: int) -> float:
        """Return the CPU since the beginning, in microseconds per operation."""
        return (self._cpu_s() - self._before_s) * 1e6 / operations

    def highest_mb(self) -> float:
        """Return the most memory that each has had in use since the beginning, together."""
        return sum(map(highest_mb, self._pids()))

    def _cpu_s(self) -> float:
        return sum(map(cpu_s, self._pids()))


def children(pid: int) -> list[int]:
    """Return the processes that a process's main thread has started and that live."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    return [pid, *children(pid)]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 where it has ended."""
    return sum(_ticks(pid)[:2]) / _TICKS_PER_S


def family_cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used, those that ended too."""
    return sum(map(cpu_s, family(pid))) + sum(_ticks(pid)[2:]) / _TICKS_PER_S


def highest_mb(pid: int) -> float:
    """Return the most memory that a process has had in use."""
    return _mb(pid, "status", "VmHWM:")


def resident_mb(pid: int) -> float:
    """Return the memory of a process now; unlike ``present_mb`` also of one that hides itself."""
    return _mb(pid, "status", "VmRSS:")


def present_mb(pid: int) -> float:
    """Return the memory of a process now, with its share of what several use (PSS)."""
    return _mb(pid, "smaps_rollup", "Pss:")


def _ticks(pid: int) -> list[int]:
    """Return user and system time, and those of the children that were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return [0, 0, 0, 0]
    return [int(field) for field in fields[11:15]]


def _mb(pid: int, file: str, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def _forget_highest(pid: int) -> None:
    """Let the most memory in use be today's again (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
