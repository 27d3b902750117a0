"""A ledger that tells what it has stored, and which refreshes have failed."""

from collections.abc import Callable, Sequence
from uuid import UUID

from actors.entry import Entry
from actors.ports import Ledger, Stored
from domain.connection import ProviderConnection
from domain.events import Event, ProviderTokenRefreshFailed

Tell = Callable[[ProviderTokenRefreshFailed], None]
"""Must neither block nor raise."""
StoredGroup = Sequence[tuple[ProviderConnection | None, Sequence[Event]]]
"""Each entry's connection, None where it did not change, and its events."""


class ToldLedger:
    """Implements ``actors.ports.Ledger`` around another."""

    def __init__(
        self, ledger: Ledger, *, tell: Tell, stored: Callable[[StoredGroup], None] = lambda _: None
    ) -> None:
        """Tell of each failure at a provider, and of each group, that ``ledger`` has stored, once.

        Args:
            ledger: Stores them.
            tell: Told of a failure.
            stored: Told of a group; must neither block nor raise.
        """
        self._ledger = ledger
        self._tell = tell
        self._stored = stored
        self._adding: list[tuple[ProviderConnection | None, Sequence[Event]]] = []

    @property
    def has_room(self) -> bool:
        """See ``Ledger``."""
        return self._ledger.has_room

    def add(self, entry: Entry) -> bool:
        """See ``Ledger``."""
        is_added = self._ledger.add(entry)
        if is_added:
            self._adding.append((entry.connection, entry.events))
        return is_added

    async def append(self) -> None:
        """See ``Ledger``."""
        group, self._adding = self._adding, []
        await self._ledger.append()
        self._stored(group)
        for _, events in group:
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
