"""The shapes of answers that no type of the daemon's has, since it makes them field by field."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus, Trouble
from domain.credentials import CredentialType
from domain.profile import RefreshMode


class CredentialsView(msgspec.Struct, kw_only=True):
    """What is shown of credentials."""

    credential_type: CredentialType
    expires_at: datetime | None


class ConnectionView(msgspec.Struct, kw_only=True):
    """A connection, without its credentials' bytes."""

    id: UUID
    user_id: UUID
    provider_id: UUID
    provider_slug: str
    status: ConnectionStatus
    created_at: datetime
    updated_at: datetime
    generation: int
    alias: str | None
    params: dict[str, str] | None
    connected_at: datetime | None
    last_sync_at: datetime | None
    credentials: CredentialsView | None
    trouble: Trouble | msgspec.UnsetType = msgspec.UNSET
    doubted_at: datetime | msgspec.UnsetType = msgspec.UNSET
    refreshed_at: datetime | msgspec.UnsetType = msgspec.UNSET
    endpoint_base: str | msgspec.UnsetType = msgspec.UNSET
    grant_expires_at: datetime | msgspec.UnsetType = msgspec.UNSET
    refresh: RefreshMode | msgspec.UnsetType = msgspec.UNSET
    scope: str | msgspec.UnsetType = msgspec.UNSET
    notes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    needs_action: str | msgspec.UnsetType = msgspec.UNSET


class ConnectionPage(msgspec.Struct, kw_only=True):
    """Some of the connections that match; go on until the cursor is null."""

    connections: list[ConnectionView]
    cursor: str | None


class HistoryEvent(msgspec.Struct, kw_only=True):
    """One event of a connection."""

    sequence: int
    """Where it is in the stream."""
    event: dict[str, Any]
    """The CloudEvent."""


class HistoryPage(msgspec.Struct, kw_only=True):
    """Some of a connection's events, the newest last; older ones are before the cursor."""

    events: list[HistoryEvent]
    cursor: int | None
