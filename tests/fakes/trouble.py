"""A ledger with random waits and faults, drawn from one seed."""

from random import Random
from uuid import UUID

import anyio
import anyio.lowlevel
import msgspec

from actors.entry import Entry
from actors.ports import Stored, StoreUnavailableError
from domain.credentials import Sealed, Secret
from tests.fakes.world import MemoryLedger, PlainSealer


class BugError(RuntimeError):
    """What a bug in an adapter would raise: nothing that a port promises."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How often each fault strikes, from 0.0 (never) to 1.0 (always), and how slow all is."""

    wait_s_max: float = 0.0
    read_fails: float = 0.0
    append_is_unclear: float = 0.0
    """It takes seconds until it is known to be stored; half of the time it is stored at once."""
    is_in_memory: float = 0.0
    """A record is recalled, where it can be read."""
    adapter_has_bug: float = 0.0


class Trouble:
    """The dice, and the rates until ``ended``."""

    def __init__(self, seed: int, rates: Rates) -> None:
        """Throw the same dice for the same seed."""
        self._random = Random(seed)
        self.rates = rates

    def ended(self) -> None:
        """Let nothing fail from now on."""
        self.rates = Rates(wait_s_max=self.rates.wait_s_max)

    def strikes(self, rate: float) -> bool:
        """Whether a fault of this rate strikes now."""
        return rate > 0 and self._random.random() < rate

    def wait_s(self) -> float:
        """Return how long something takes this time."""
        return self._random.random() * self.rates.wait_s_max

    async def wait(self) -> None:
        """Let others run, and sometimes take a while."""
        for _ in range(self._random.randrange(3)):
            await anyio.lowlevel.checkpoint()
        if self.rates.wait_s_max and self._random.random() < 1 / 2:
            await anyio.sleep(self.wait_s())


class TroubledLedger(MemoryLedger):
    """The memory ledger behind a bad network."""

    def __init__(self, trouble: Trouble, *, group_entries_max: int = 1_000) -> None:
        """Take waits and faults from ``trouble``."""
        super().__init__(group_entries_max=group_entries_max)
        self._trouble = trouble
        self._appends = 0
        self.overlaps = 0
        """How often two appends were under way at once."""

    def add(self, entry: Entry) -> bool:
        """See ``Ledger.add``."""
        self._maybe_bug()
        return super().add(entry)

    async def append(self) -> None:
        """See ``Ledger.append``."""
        self._appends += 1
        self.overlaps += self._appends > 1
        try:
            await self._trouble.wait()
            is_unclear = self._trouble.strikes(self._trouble.rates.append_is_unclear)
            stored_first = self._trouble.strikes(1 / 2)
            if is_unclear and not stored_first:
                await anyio.sleep(self._trouble.wait_s() * 20)
            await super().append()
            if is_unclear and stored_first:
                await anyio.sleep(self._trouble.wait_s() * 20)
            await self._trouble.wait()
        finally:
            self._appends -= 1

    def recall(self, connection_id: UUID) -> Stored | None:
        """See ``Ledger.recall``."""
        if self._trouble.strikes(self._trouble.rates.is_in_memory):
            return self.records.get(connection_id)
        return None

    async def read(self, connection_id: UUID) -> Stored:
        """See ``Ledger.read``."""
        await self._trouble.wait()
        self._maybe_bug()
        if self._trouble.strikes(self._trouble.rates.read_fails):
            raise StoreUnavailableError("cannot be read")
        return await super().read(connection_id)

    def _maybe_bug(self) -> None:
        if self._trouble.strikes(self._trouble.rates.adapter_has_bug):
            raise BugError("ledger")


class BuggySealer(PlainSealer):
    """A sealer that raises now and then."""

    def __init__(self, trouble: Trouble) -> None:
        """Take the faults from ``trouble``."""
        self._trouble = trouble

    def seal(self, secret: Secret, *, connection_id: UUID, generation: int) -> Sealed:
        """See ``Sealer.seal``."""
        if self._trouble.strikes(self._trouble.rates.adapter_has_bug):
            raise BugError("sealer")
        return super().seal(secret, connection_id=connection_id, generation=generation)
