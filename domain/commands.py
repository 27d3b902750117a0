"""What may be asked of a connection, in the imperative."""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus
from domain.credentials import Credentials, Unsealed
from domain.profile import RefreshMode


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    """Create a connection, or give a stored one that is not ACTIVE new credentials."""

    connection_id: UUID
    user_id: UUID
    provider_id: UUID
    provider_slug: str
    credentials: Credentials | Unsealed | None
    """None when the caller gave none that can be used (null, empty, of an unknown type)."""
    unusable: str | None = None
    """Why there are none, where the caller gave something."""
    alias: str | None = None
    params: dict[str, str] | None = None
    refresh: RefreshMode | None = None
    """When its tokens are refreshed, in place of the profile's word; None keeps what is stored."""
    granted_at: datetime | None = None
    """When the user consented, aware UTC; None: now."""
    grant_expires_at: datetime | None = None
    """When refreshing ends, as the provider told its caller."""
    pending: bool = False
    """Create it PENDING, without credentials; for a new id only."""
    warnings: tuple[str, ...] = ()
    """What its caller is told beside the answer: sentences about what will not work later."""


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """Replace the credentials of an ACTIVE connection (seed: RefreshProviderTokens)."""

    connection_id: UUID
    credentials: Credentials | Unsealed | None
    unusable: str | None = None
    """As for ``Connect``."""


class ChangeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Set a connection EXPIRED, REVOKED or FAILED, for a reason."""

    connection_id: UUID
    to_status: ConnectionStatus
    reason: str | None = None


class MarkSynced(msgspec.Struct, frozen=True, kw_only=True):
    """Note that the provider's data were just read through an ACTIVE connection."""

    connection_id: UUID


class Disconnect(msgspec.Struct, frozen=True, kw_only=True):
    """End a connection for good, by its owner."""

    connection_id: UUID
    user_id: UUID


class Get(msgspec.Struct, frozen=True, kw_only=True):
    """Read a connection; credentials are never part of the answer."""

    connection_id: UUID


class GetToken(msgspec.Struct, frozen=True, kw_only=True):
    """Give an access token that lives; refresh it at the provider where needed.

    Not one of the state machine's commands: it never waits in line with them.
    """

    connection_id: UUID
    min_ttl_s: float = 60.0
    if_generation: int | None = None
    """This generation's token was rejected; refresh if it is still the current one."""
    force: bool = False


Command = Connect | Refresh | ChangeStatus | MarkSynced | Disconnect | Get
