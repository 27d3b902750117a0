"""What a connection is counted as, by its record alone."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus, Ended, ProviderConnection, is_grant_dead
from domain.credentials import Credentials, CredentialType, Opaque, Sealed
from domain.ending import ending
from domain.grant_end import is_action_told
from domain.grant_life import NO_REFRESH_TOKEN_NOTE
from domain.profile import FailureClass
from domain.time_words import instant, span
from runtime.ledger.provider_names import ProviderNames


class Kind(NamedTuple):
    """What a connection is counted as."""

    provider: str
    """Its slug, or ``other``: see ``ProviderNames``."""
    status: ConnectionStatus
    needs_user: bool = False
    """Whether its grant is dead: only its user can mend it."""
    lacks_refresh_token: bool = False
    """Whether it is active, will end and cannot be refreshed."""
    is_refreshable: bool = False
    """Whether it is active and holds something to refresh it by."""
    failing: FailureClass | None = None
    """Of an active one: how its last refresh failed; None: it did not."""
    needs_action: bool = False
    """Whether somebody must act for it to go on, as ``list --needs-action`` has it."""


class CountedTrouble(msgspec.Struct):
    """The part of a ``Trouble`` that is counted."""

    failure_class: FailureClass
    code: str
    reason: str
    at: datetime


class CountedCredentials(msgspec.Struct):
    """The part of ``Credentials`` that is counted."""

    credential_type: CredentialType
    payload: Sealed | Opaque
    expires_at: datetime | None = None
    notes: tuple[str, ...] = ()


class CountedConnection(msgspec.Struct):
    """The part of a connection that is counted."""

    id: UUID
    provider_slug: str
    status: ConnectionStatus
    updated_at: datetime
    credentials: CountedCredentials | None = None
    trouble: CountedTrouble | None = None
    warned_lead_s: int | None = None
    ended: Ended | None = None


class CountedRecord(msgspec.Struct):
    """The part of a record that is counted."""

    connection: CountedConnection


Counted = ProviderConnection | CountedConnection


def kind_of(connection: Counted, names: ProviderNames) -> Kind:
    """Return what a connection is counted as."""
    status, trouble, credentials = connection.status, connection.trouble, connection.credentials
    failure_class = None if trouble is None else trouble.failure_class
    is_active = status is ConnectionStatus.ACTIVE
    lacks = is_active and credentials is not None and NO_REFRESH_TOKEN_NOTE in credentials.notes
    ends_at = credentials.expires_at if lacks and credentials is not None else None
    return Kind(
        names.of(connection.provider_slug),
        status,
        is_grant_dead(status, failure_class, connection.warned_lead_s),
        lacks,
        is_active and credentials is not None and not lacks and _can_refresh(credentials),
        failure_class if is_active else None,
        is_action_told(status, connection.warned_lead_s, ends_at),
    )


def are_alike(before: ProviderConnection, after: ProviderConnection) -> bool:
    """Whether two states of an active connection are certainly of one kind; most changes are."""
    one, other = before.credentials, after.credentials
    return (
        before.status is after.status is ConnectionStatus.ACTIVE
        and before.trouble is after.trouble is None
        and before.warned_lead_s == after.warned_lead_s
        and one is not None
        and other is not None
        and one.notes == other.notes
        and one.credential_type is other.credential_type
        and type(one.payload) is type(other.payload)
        and NO_REFRESH_TOKEN_NOTE not in other.notes
    )


def why_to_act(connection: Counted) -> tuple[datetime, str]:
    """Return since when and why somebody must act for a connection of such a kind, in few words."""
    if (ended := ending(connection)) is not None:
        why = f": {ended.reason}" if ended.reason else ""
        return ended.at, f"the connection is {connection.status}{why}"
    trouble = connection.trouble
    return connection.updated_at if trouble is None else trouble.at, _why_soon(connection)


def _why_soon(connection: Counted) -> str:
    credentials, warned_s = connection.credentials, connection.warned_lead_s
    ends_at = None if credentials is None else credentials.expires_at
    if credentials is not None and NO_REFRESH_TOKEN_NOTE in credentials.notes and ends_at:
        return f"it ends at {instant(ends_at)}, and there is no refresh token"
    if not warned_s:
        return "by the calendar its grant has ended"
    return f"by the calendar its grant ends within {span(warned_s)}"


def _can_refresh(credentials: Credentials | CountedCredentials) -> bool:
    """Whether what is held is ours to open and of a type that is refreshed."""
    return isinstance(credentials.payload, Sealed) and credentials.credential_type.is_refreshable
