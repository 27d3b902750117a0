"""A line of the benchmark's table, and those that are a stretch of load on one daemon."""

from abc import ABC, abstractmethod

from msgspec.structs import replace

from bench.load_process import Pick, Stretch
from bench.measured import Measured
from bench.system import PREFIX, System

CALLERS = 256
"""On 8 client connections: 32 callers share each, as the threads of a worker do."""
CONNECTIONS = 500
_RATE_AT_FIRST = 2_000.0


class Row(ABC):
    """``measure`` is called once to warm up, then once a round."""

    unit = "refreshes"

    def __init__(self, name: str, *, requests: int) -> None:
        """Name a row.

        Args:
            name: What it is called in the table and in the results.
            requests: How many operations a round has.
        """
        self.name = name
        self.requests = requests

    @abstractmethod
    async def measure(self, requests: int) -> Measured:
        """Do so many operations, and say what that took.

        Raises:
            LoadError: One of them failed.
        """

    async def check(self) -> None:  # noqa: B027 -- some store nothing
        """Hold what is stored against what was answered.

        Raises:
            WrongOutcomeError: They differ.
        """


class DrivenRow(Row):
    """A row whose load is a stretch on one daemon."""

    def __init__(
        self, name: str, system: System, stretch: Stretch, *, unit: str = "refreshes"
    ) -> None:
        """Use the stretch's number of requests."""
        super().__init__(name, requests=stretch.requests)
        self.unit = unit
        self.system = system
        self.stretch = stretch
        self.rate = _RATE_AT_FIRST
        """What it has had last."""

    async def measure(self, requests: int) -> Measured:
        """See ``Row``."""
        measured = await self.system.measure(replace(self.stretch, requests=requests))
        self.rate = measured.rate
        return measured

    async def check(self) -> None:
        """See ``Row``."""
        await self.system.check()


class HalfLoadRow(Row):
    """How long a request takes at half the rate that another row has just had."""

    def __init__(self, name: str, full: DrivenRow) -> None:
        """Follow ``full``, which must come before it."""
        super().__init__(name, requests=full.requests // 2)
        self.unit = full.unit
        self._full = full

    async def measure(self, requests: int) -> Measured:
        """See ``Row``."""
        stretch = replace(self._full.stretch, requests=requests, rate_per_s=self._full.rate / 2)
        return await self._full.system.measure(stretch)

    async def check(self) -> None:
        """See ``Row``."""
        await self._full.check()


def refreshes(
    system: System, *, connections: int, callers: int, requests: int, pick: Pick = "uniform"
) -> Stretch:
    """Return refreshes of the first so many connections of a daemon."""
    ids = system.ids[:connections]
    return Stretch(
        subjects=tuple(f"{PREFIX}.connection.{one}.refresh" for one in ids),
        pick=pick,
        callers=callers,
        requests=requests,
    )


def reads(system: System, verb: str, *, connections: int, callers: int, requests: int) -> Stretch:
    """Return ``token`` or ``get`` on the first so many connections of a daemon."""
    ids = system.ids[:connections]
    return Stretch(
        subjects=tuple(f"{PREFIX}.connection.{one}.{verb}" for one in ids),
        body="{}",
        expected=None,
        callers=callers,
        requests=requests,
    )
