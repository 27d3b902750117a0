"""The first command on each of many connections that no actor knows: a read, then the rest."""

from collections import Counter
from pathlib import Path

from bench.measured import Measured
from bench.rows import CALLERS, Row, refreshes
from bench.system import new_ids, opened_system


class ActivationRow(Row):
    """Refreshes on a daemon that has just started, each of another connection."""

    def __init__(self, name: str, folder: Path, *, requests: int) -> None:
        """Keep the daemon's data in ``folder``."""
        super().__init__(name, requests=requests)
        self._folder = folder
        self._ids: list[str] = []
        self._generations = Counter[str]()

    async def prepare(self) -> None:
        """Store the connections."""
        async with opened_system(self._folder) as system:
            self._ids, self._generations = system.ids, system.generations
            await system.connect(new_ids(self.requests))

    async def measure(self, requests: int) -> Measured:
        """See ``Row``; the outcome is checked within, while the daemon is there."""
        async with opened_system(self._folder) as system:
            system.ids, system.generations = self._ids, self._generations
            await system.settle()
            measured = await system.measure(
                refreshes(
                    system, connections=requests, callers=CALLERS, requests=requests, pick="each"
                )
            )
            await system.check()
        return measured
