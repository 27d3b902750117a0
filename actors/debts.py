"""What a connection still owes the world after a failure, in the order in which it arose.

- events that the event log has not acknowledged;
- a write whose outcome is unknown. It is sent again, the same bytes, until the store says
  what became of it; only then are its events known, and they tell the truth.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

import anyio

from actors.ports import (
    EventLogUnavailableError,
    OutcomeUnknownError,
    Stored,
    StoreUnavailableError,
    Write,
    WriteConflictError,
)
from actors.world import Limits, World
from domain.events import Event


class UnsettledWrite(NamedTuple):
    """A write whose outcome is unknown, and what is to be published either way."""

    write: Write
    events_if_applied: Sequence[Event]
    events_if_lost: Callable[[], Sequence[Event]]


class Debts:
    """One connection's debts; paid in order, with pauses that grow while the world fails."""

    __slots__ = ("_connection_id", "_limits", "_owed", "_pause_s", "_settled", "_world", "due_s")

    def __init__(
        self,
        connection_id: UUID,
        *,
        world: World,
        limits: Limits,
        settled: Callable[[Stored | None], None],
    ) -> None:
        """Owe nothing.

        Args:
            connection_id: Whose debts.
            world: The ports.
            limits: How long to pause.
            settled: Called with what is stored once a write is settled; None asks to read.
        """
        self._connection_id = connection_id
        self._world = world
        self._limits = limits
        self._settled = settled
        self._owed: list[Event | UnsettledWrite] = []
        self._pause_s = 0.0
        self.due_s = 0.0
        """When to try next, on the event loop's clock."""

    def __len__(self) -> int:
        """Return how many debts are owed."""
        return len(self._owed)

    @property
    def has_unsettled_write(self) -> bool:
        """Whether it is unknown what is stored."""
        return any(isinstance(debt, UnsettledWrite) for debt in self._owed)

    def owe(self, debts: Sequence[Event | UnsettledWrite]) -> None:
        """Add debts behind those already owed; the first are tried at once."""
        if not debts:
            return
        if not self._owed:
            self._pause_s = self._limits.debt_pause_s_min
            self.due_s = anyio.current_time()
        self._owed.extend(debts)
        self._world.owed.events += len(debts)

    def forget(self) -> None:
        """Give up what is owed."""
        self._world.owed.events -= len(self._owed)
        self._owed.clear()

    async def pay(self) -> None:
        """Try once to settle and publish what is owed, oldest first; stop at what fails."""
        while self._owed:
            head = self._owed[0]
            if isinstance(head, UnsettledWrite):
                paid = await self._settle(head)
            else:
                paid = await self._publish()
            if not paid:
                self.due_s = anyio.current_time() + self._pause_s
                self._pause_s = min(2 * self._pause_s, self._limits.debt_pause_s_max)
                return

    async def pay_all(self) -> None:
        """Return when nothing is owed. A bug in an adapter ends it: the rest stays owed."""
        with contextlib.suppress(Exception):
            while self._owed:
                await anyio.sleep(max(0.0, self.due_s - anyio.current_time()))
                await self.pay()

    async def _settle(self, unsettled: UnsettledWrite) -> bool:
        """Learn what became of a write, and put its true events in its place."""
        try:
            revision = await self._world.store.write(unsettled.write)
        except (StoreUnavailableError, OutcomeUnknownError):
            return False
        except WriteConflictError:
            self._settled(None)
            events, applied = unsettled.events_if_lost(), False
        else:
            self._settled(Stored(unsettled.write.connection, revision))
            events, applied = unsettled.events_if_applied, True
        self._owed[0:1] = events
        self._world.owed.events += len(events) - 1
        self._world.journal.write_settled(self._connection_id, applied=applied)
        return True

    async def _publish(self) -> bool:
        """Publish the owed events up to the first unsettled write."""
        events: list[Event] = []
        for debt in self._owed:
            if isinstance(debt, UnsettledWrite):
                break
            events.append(debt)
        try:
            await self._world.event_log.append(events)
        except EventLogUnavailableError:
            return False
        del self._owed[: len(events)]
        self._world.owed.events -= len(events)
        return True
