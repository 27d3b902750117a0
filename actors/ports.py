"""What the actors need of the world, in the domain's words.

Adapters live in ``runtime``; fakes for tests in ``tests/fakes``. One contract suite runs on
both (``tests/contracts``).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from domain.connection import ProviderConnection
from domain.credentials import Sealed, Secret
from domain.events import Event
from domain.exchange import Exchange, ExchangeRequest


class StoreUnavailableError(Exception):
    """The store could not be read, or a write was certainly not applied.

    The text is a short cause in words of ours ("no JetStream response"): it reaches callers.
    """


class OutcomeUnknownError(Exception):
    """A write may or may not have been applied, now or later. The text is as above."""


class WriteConflictError(Exception):
    """Somebody else wrote the connection since it was read; this write was not applied."""


class EventLogUnavailableError(Exception):
    """Not every event is known to be stored; append the same ones again."""


class Stored(NamedTuple):
    """What the store holds for one id."""

    connection: ProviderConnection | None
    revision: int
    """The sequence of the last write of this key; 0 where nothing was ever written."""


class Write(NamedTuple):
    """One write, named by its op_id, so that it can be sent again and recognised."""

    connection: ProviderConnection
    expected_revision: int
    op_id: bytes


class ConnectionStore(Protocol):
    """One record per connection, written by compare-and-set."""

    async def load(self, connection_id: UUID) -> Stored:
        """Return what is stored, read where the last acknowledged write is visible.

        Raises:
            StoreUnavailableError: It could not be read, or the record cannot be trusted.
        """
        ...

    async def write(self, write: Write) -> int:
        """Store the connection if its key is still at the expected revision; return the new one.

        The same ``Write`` may be sent any number of times: it is applied at most once, and
        each call that learns the outcome tells the same one.

        Raises:
            WriteConflictError: Another write is on top. This one was not applied and never will
                be, unless an earlier call's outcome was unknown: then it may lie beneath.
            StoreUnavailableError: This call applied nothing. An earlier call with the same
                ``Write`` whose outcome was unknown stays unknown.
            OutcomeUnknownError: Time ran out before an answer came.
        """
        ...


class EventLog(Protocol):
    """The event stream."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return when all of ``events`` are durable, stored once each and in this order.

        Raises:
            EventLogUnavailableError: Some may be stored. Append the same ones again before any
                later event of the same connection; those that are stored are not stored twice.
        """
        ...


class CannotUnsealError(Exception):
    """A sealed secret cannot be opened: its key is gone, or it is another connection's."""


class Sealer(Protocol):
    """Encrypts secrets before they are stored, and opens them again."""

    def seal(self, secret: Secret, *, connection_id: UUID, generation: int) -> Sealed:
        """Return ``secret`` sealed for exactly this connection and generation."""
        ...

    def unseal(self, sealed: Sealed, *, connection_id: UUID, generation: int) -> Secret:
        """Return what was sealed for this connection and generation.

        Raises:
            CannotUnsealError: The key is not in the ring, or the secret is another's.
        """
        ...


class TokenEndpoint(Protocol):
    """The token endpoints of all providers."""

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """Make one request to a token endpoint and return what came of it. Never raises.

        Once a part of the request may have been sent, it takes its course until the answer
        or the profile's time-out; the actors shield it from cancellation. It is never repeated.
        """
        ...


class Clock(Protocol):
    """Wall-clock time."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        ...


class Ids(Protocol):
    """A source of UUIDv7, for events and writes."""

    def __iter__(self) -> "Ids":
        """Return itself."""
        ...

    def __next__(self) -> UUID:
        """Return an id that was never given before."""
        ...


class Journal(Protocol):
    """Where actors tell what an operator should know. Never given a secret."""

    def crashed(self, connection_id: UUID, error: Exception) -> None:
        """An actor failed by a bug; its commands were answered and it starts anew."""
        ...

    def quarantined(self, connection_id: UUID, quarantine_s: float) -> None:
        """An actor crashed too often; its commands are refused for ``quarantine_s``."""
        ...

    def store_failed(self, connection_id: UUID, cause: str) -> None:
        """The store could not be read or written for this connection."""
        ...

    def dropped(self, connection_id: UUID, commands: int) -> None:
        """So many commands were not executed because their callers' time was up."""
        ...

    def outcome_held(self, connection_id: UUID, cause: str) -> None:
        """What a provider answered cannot be stored; it is held in memory and tried again."""
        ...

    def outcome_lost(self, connection_id: UUID) -> None:
        """The daemon stopped while what a provider answered could not be stored."""
        ...

    def outcome_superseded(self, connection_id: UUID) -> None:
        """Somebody else wrote the connection while the provider was asked; its answer is void."""
        ...

    def client_paused(self, provider_slug: str, code: str, reason: str) -> None:
        """A provider refuses our configuration: its client is paused. Told once."""
        ...

    def cannot_unseal(self, connection_id: UUID) -> None:
        """A stored secret cannot be opened, so the provider is not asked."""
        ...

    def write_settled(self, connection_id: UUID, *, applied: bool) -> None:
        """A write whose outcome was unknown turned out applied, or not."""
        ...
