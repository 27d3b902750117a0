"""What the gateway needs to know of where commands are decided."""

from typing import Protocol
from uuid import UUID

from actors.bus import Bus
from actors.router import Router


class Sited(Protocol):
    """Where partitions are."""

    me: str
    """This daemon's id."""
    router: Router
    bus: Bus

    @property
    def are_all_here(self) -> bool:
        """Whether every partition is served here."""
        ...

    def partition_of(self, connection_id: UUID) -> int:
        """Return a connection's partition."""
        ...

    def owner_subject(self, partition: int, verb: str, key: str) -> str:
        """Return where a command goes to whoever owns its partition."""
        ...
