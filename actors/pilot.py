"""What a flight needs of the actor that it flies for."""

from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from actors.entry import Entry
from actors.partition import Partition
from domain.connection import ProviderConnection
from domain.refreshing import Step
from domain.result import Failure

if TYPE_CHECKING:
    from actors.flight import Flight


class Pilot(Protocol):
    """The actor whose flight it is."""

    connection_id: UUID
    partition: Partition

    @property
    def connection(self) -> ProviderConnection | None:
        """The newest state."""
        ...

    def commit(self, step: Step) -> Entry:
        """Decide a step."""
        ...

    def callers_wait(self, until_s: float, failure: Failure) -> bool:
        """Answer the callers whose time ends before; return whether there are others."""
        ...

    def landed(self, flight: "Flight") -> None:
        """The flight is over."""
        ...
