"""Operations of a ledger that last as long as a test wants."""

from collections.abc import Callable
from uuid import UUID

import anyio

from tests.fakes.world import MemoryLedger


class HeldAppends:
    """From now on no append is stored, until ``end``."""

    def __init__(self, ledger: MemoryLedger) -> None:
        """Hold a ledger's appends."""
        self._ended = anyio.Event()
        ledger.before = self._hook

    def end(self) -> None:
        """Let them be stored, and all later ones."""
        self._ended.set()

    def _hook(self, operation: str, _: UUID) -> object:
        return self._ended.wait() if operation == "append" else None


def for_ever(*operations: str, connection_id: UUID | None = None) -> Callable[[str, UUID], object]:
    """Return a hook with which these operations never end."""

    def hook(operation: str, of: UUID) -> object:
        if operation in operations and connection_id in (None, of):
            return anyio.sleep_forever()
        return None

    return hook
