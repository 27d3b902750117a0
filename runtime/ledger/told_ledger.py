"""A ledger that tells which refreshes have failed, when that is stored."""

from collections.abc import Callable, Sequence
from uuid import UUID

from actors.entry import Entry
from actors.ports import Ledger, Stored
from domain.events import Event, ProviderTokenRefreshFailed

Tell = Callable[[ProviderTokenRefreshFailed], None]
"""Must neither block nor raise."""


class ToldLedger:
    """Implements ``actors.ports.Ledger`` around another."""

    def __init__(self, ledger: Ledger, *, tell: Tell) -> None:
        """Tell of each failure at a provider that ``ledger`` has stored, once."""
        self._ledger = ledger
        self._tell = tell
        self._adding: list[Sequence[Event]] = []

    @property
    def has_room(self) -> bool:
        """See ``Ledger``."""
        return self._ledger.has_room

    def add(self, entry: Entry) -> bool:
        """See ``Ledger``."""
        is_added = self._ledger.add(entry)
        if is_added:
            self._adding.append(entry.events)
        return is_added

    async def append(self) -> None:
        """See ``Ledger``."""
        group, self._adding = self._adding, []
        await self._ledger.append()
        for events in group:
            for event in events:
                # Without a class it is a command that was refused, and no provider was asked.
                if type(event) is ProviderTokenRefreshFailed and event.failure_class is not None:
                    self._tell(event)

    def recall(self, connection_id: UUID) -> Stored | None:
        """See ``Ledger``."""
        return self._ledger.recall(connection_id)

    async def read(self, connection_id: UUID) -> Stored:
        """See ``Ledger``."""
        return await self._ledger.read(connection_id)
