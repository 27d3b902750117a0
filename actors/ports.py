"""What the actors need of the world, in the domain's words.

Adapters live in ``runtime``; fakes for tests in ``tests/fakes``. One contract suite runs on
both (``tests/contracts``).
"""

from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from actors.entry import Entry
from domain.connection import ProviderConnection
from domain.credentials import Sealed, Secret
from domain.events import Event
from domain.exchange import Exchange, ExchangeRequest, Place
from domain.profile import ProviderProfile
from domain.remembered import Answers


class StoreUnavailableError(Exception):
    """The record could not be read.

    The text is a short cause in words of ours ("no JetStream response"): it reaches callers.
    """


class RecordUnreadableError(StoreUnavailableError):
    """What is stored cannot be trusted: damaged, or of a later version. No other read helps."""


class PartitionLostError(Exception):
    """Another daemon writes the partition's ledger: nothing more can be stored by this one."""


class Stored(NamedTuple):
    """What is stored for one id."""

    connection: ProviderConnection | None
    answers: Answers = ()
    next_due: datetime | None = None
    """When it is to be looked at although nobody asks."""


class Ledger(Protocol):
    """One partition's log: what is in it is true, and everything else follows it."""

    @property
    def has_room(self) -> bool:
        """Whether new commands may be decided: what the views lack is bounded in memory."""
        ...

    def add(self, entry: Entry) -> bool:
        """Put an entry into the group that ``append`` stores next; False: that one is full.

        The first entry of a group always fits.
        """
        ...

    async def append(self) -> None:
        """Store the group that was added, whole and behind all before it; return when it is.

        However long that takes: an append whose outcome is not known is repeated, the same
        bytes, until it is. Only to be cancelled where the daemon ends.

        Raises:
            PartitionLostError: Another daemon has appended; this group is not stored.
        """
        ...

    def recall(self, connection_id: UUID) -> Stored | None:
        """Return what was stored last, where that is in memory; None: read it."""
        ...

    async def read(self, connection_id: UUID) -> Stored:
        """Return what was stored last; never an older state.

        Raises:
            StoreUnavailableError: It could not be read now.
            RecordUnreadableError: It was read, and cannot be trusted.
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


class Outcome(NamedTuple):
    """What became of one attempt to refresh, as it goes into the ledger."""

    attempt_id: UUID
    generation: int
    """The credentials that were presented."""
    connection: ProviderConnection
    """As it is after the attempt, its credentials sealed."""
    events: tuple[Event, ...]

    def is_awaited_by(self, now: ProviderConnection | None) -> bool:
        """Whether its attempt is still open: it can be stored."""
        intent = None if now is None else now.intent
        return intent is not None and (intent.attempt_id, intent.generation) == (
            self.attempt_id,
            self.generation,
        )

    def is_of_use_to(self, now: ProviderConnection | None) -> bool:
        """Whether it gave tokens for the present credentials, and nobody has stored them.

        Its attempt was taken for unknown meanwhile. A failure is of none: it may be of an attempt
        whose intent was never stored, and tell of credentials that nobody has ever had.
        """
        is_present = now is not None and now.is_active and now.generation == self.generation
        return is_present and self.connection.generation == self.generation + 1

    def is_needless_to(self, now: ProviderConnection | None) -> bool:
        """Whether nothing is lost without it.

        It gave no credentials, or they are stored, or the connection was ended for good. One of
        the generation that was presented is a failure, which can hold a new refresh token at
        most: of use to that generation alone.
        """
        given = self.connection
        if now is None or now.credentials is None or now.credentials == given.credentials:
            return True
        return given.generation == self.generation != now.generation


class Spill(Protocol):
    """Where outcomes are kept that the ledger does not take; the next start takes them in."""

    async def keep(self, outcome: Outcome) -> bool:
        """Write an outcome durably; False: it cannot be. Never raises but to be cancelled."""
        ...

    async def forget(self, outcome: Outcome) -> None:
        """Remove an outcome that the ledger has taken. Never raises but to be cancelled."""
        ...


class TokenEndpoint(Protocol):
    """The token endpoints of all providers."""

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """Return where such a request would go; ``NOWHERE`` where none can be made.

        It asks nobody: of an issuer whose endpoint is yet to be found it is the issuer itself.
        """
        ...

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
    """A source of UUIDv7, for events and attempts."""

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
        """The record of this connection could not be read."""
        ...

    def events_dropped(self, events: int) -> None:
        """Events of refused commands were not told: too many came while nothing can be stored."""
        ...

    def dropped(self, connection_id: UUID, commands: int) -> None:
        """So many commands were not executed because their callers' time was up."""
        ...

    def outcome_lost(self, connection_id: UUID) -> None:
        """The daemon stopped while what a provider answered could not be stored, nor spilled."""
        ...

    def outcome_unknown(self, provider_slug: str) -> None:
        """A refresh failed, and the provider may have spent the refresh token."""
        ...

    def cut_off(self, connection_id: UUID) -> None:
        """The daemon stopped before a provider answered: the intent is open in the ledger."""
        ...

    def client_paused(self, provider_slug: str, code: str, reason: str) -> None:
        """A provider refuses our configuration: its client is paused. Told once in a while."""
        ...

    def client_resumed(self, provider_slug: str) -> None:
        """A pause that was told of is over: the provider takes our configuration again."""
        ...

    def cannot_unseal(self, connection_id: UUID) -> None:
        """A stored secret cannot be opened, so the provider is not asked."""
        ...
