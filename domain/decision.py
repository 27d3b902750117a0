"""decide(): a connection and a command in; the new connection, the events and the reply out.

Pure: time and event ids are arguments, nothing is read or written. The actor around it
loads, decides, stores, publishes and answers; when the store refuses, ``store_failed`` says
what is published and answered in place of the decision.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, assert_never
from uuid import UUID

import msgspec

from domain.commands import (
    ChangeStatus,
    Command,
    Connect,
    Disconnect,
    Get,
    MarkSynced,
    Refresh,
)
from domain.connection import (
    CONNECTABLE,
    STATUS_CHANGES,
    UNKNOWN_SLUG,
    ConnectionStatus,
    ProviderConnection,
)
from domain.credentials import Credentials, Unsealed
from domain.events import (
    Event,
    ProviderConnectionAttempted,
    ProviderConnectionFailed,
    ProviderConnectionStatusChanged,
    ProviderConnectionSucceeded,
    ProviderDisconnectionAttempted,
    ProviderDisconnectionFailed,
    ProviderDisconnectionSucceeded,
    ProviderGrantRecovered,
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshFailed,
    ProviderTokenRefreshSucceeded,
)
from domain.refusals import (
    invalid_credentials,
    invalid_transition,
    not_active,
    not_found,
    not_owned,
)
from domain.result import Failure, FailureCode, Result, Success

EVENTS_PER_COMMAND_MAX = 3
"""How many event ids one decision may use."""

DATABASE_ERROR = "Database error occurred"
CANNOT_ACTIVATE = "Cannot transition to ACTIVE from current state"


class ConnectionRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reply value of a connect."""

    connection_id: UUID
    warnings: tuple[str, ...] = ()
    """What will not work later; absent where there is nothing to warn of."""


class AccessToken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reply value of ``token``. Never shows."""

    access_token: str
    token_type: str
    expires_at: datetime | None
    generation: int
    stale: bool
    expires_in_s: int | None = None
    """How long it still lives, whole seconds, for who cannot compare ``expires_at`` with a clock
    that is right. Absent where it never ends."""
    endpoint_base: str | None = None
    """Where the provider wants to be asked, where it has told (quirk 32)."""
    detail: str | None = None
    """Why it is stale, and whether the provider was asked. Absent where it is not."""

    def __repr__(self) -> str:
        """Show the generation alone."""
        return f"AccessToken(generation={self.generation})"


ReplyValue = ConnectionRef | ProviderConnection | AccessToken | None
Reply = Result[ReplyValue]


class Decision(NamedTuple):
    """What a command comes to: the connection after it, what to publish, what to answer."""

    connection: ProviderConnection | None
    events: tuple[Event, ...]
    reply: Reply


def decide(
    connection: ProviderConnection | None,
    command: Command,
    *,
    now: datetime,
    ids: Iterator[UUID],
) -> Decision:
    """Return what ``command`` makes of ``connection`` (None: nothing is stored).

    Args:
        connection: The stored connection whose id the command names, or None.
        command: Its credentials, if any, are sealed already.
        now: Aware UTC.
        ids: Gives at least ``EVENTS_PER_COMMAND_MAX`` fresh UUIDv7.

    Source:
        seed/ for refresh (order of the checks, reasons, needs_user_action);
        DESIGN.md section 2 for the rest.
    """
    assert connection is None or connection.id == command.connection_id
    match command:
        case Connect():
            after, failure = _connect(connection, command, now)
        case Refresh():
            after, failure = _refresh(connection, command, now)
        case Disconnect():
            after, failure = _disconnect(connection, command, now)
        case ChangeStatus():
            after, failure = _change_status(connection, command, now)
        case MarkSynced():
            after, failure = _mark_synced(connection, now)
        case Get():
            after, failure = connection, None if connection else not_found()
        case _:
            assert_never(command)
    if failure is not None:
        return Decision(connection, _failed_events(connection, command, failure, now, ids), failure)
    return Decision(
        after, _succeeded_events(connection, command, now, ids), _success(after, command)
    )


def store_failed(
    connection: ProviderConnection | None,
    command: Command,
    *,
    cause: str,
    now: datetime,
    ids: Iterator[UUID],
) -> Decision:
    """Return the decision for a command whose connection could not be read or written.

    Args:
        connection: What is stored as far as is known; None gives the placeholders.
        command: The command that met the failure.
        cause: Goes into the reason and the message; words of ours, never an exception's text.
        now: Aware UTC.
        ids: As for ``decide``.
    """
    failure = Failure(
        code=FailureCode.DATABASE_ERROR,
        message=f"{DATABASE_ERROR}: {cause}",
        needs_user_action=False,
        retry_after_s=1.0,
    )
    return Decision(connection, _failed_events(connection, command, failure, now, ids), failure)


_Outcome = tuple[ProviderConnection | None, Failure | None]
"""The connection after a success and None, or anything and the failure."""


def _connect(connection: ProviderConnection | None, command: Connect, now: datetime) -> _Outcome:
    """Create the connection, or bring a stored one back to ACTIVE."""
    if connection is not None:
        return _reconnect(connection, command, now)
    if command.credentials is None and not command.pending:
        return None, invalid_credentials(command)
    credentials = _sealed(command.credentials)
    return ProviderConnection(
        id=command.connection_id,
        user_id=command.user_id,
        provider_id=command.provider_id,
        provider_slug=command.provider_slug,
        status=ConnectionStatus.PENDING if credentials is None else ConnectionStatus.ACTIVE,
        credentials=credentials,
        generation=0 if credentials is None else 1,
        alias=command.alias,
        params=command.params,
        refresh=command.refresh,
        connected_at=None if credentials is None else now,
        granted_at=None if credentials is None else min(command.granted_at or now, now),
        grant_expires_at=None if credentials is None else command.grant_expires_at,
        created_at=now,
        updated_at=now,
    ), None


def _reconnect(connection: ProviderConnection, command: Connect, now: datetime) -> _Outcome:
    """Give a stored connection new credentials.

    Another user's or another provider's credentials are refused: accepting them would hand
    one user's grant to another.
    """
    credentials = _sealed(command.credentials)
    if credentials is None:
        return connection, invalid_credentials(command)
    if connection.status not in CONNECTABLE:
        return connection, invalid_transition(CANNOT_ACTIVATE, connection)
    if command.user_id != connection.user_id:
        return connection, not_owned()
    for field in ("provider_id", "provider_slug"):
        if getattr(command, field) != getattr(connection, field):
            return connection, Failure(
                code=FailureCode.INVALID_COMMAND,
                message=f"{field} is not the one that the connection is stored with",
            )
    return connection.connected(
        credentials,
        alias=command.alias,
        params=command.params,
        refresh=command.refresh,
        granted_at=command.granted_at,
        grant_expires_at=command.grant_expires_at,
        now=now,
    ), None


def _refresh(connection: ProviderConnection | None, command: Refresh, now: datetime) -> _Outcome:
    """Replace the credentials; the checks come in the seed's order."""
    if connection is None:
        return None, not_found(needs_user_action=False)
    credentials = _sealed(command.credentials)
    if credentials is None:
        return connection, invalid_credentials(command)
    if not connection.is_active:
        return connection, not_active(connection, needs_user_action=True)
    return connection.refreshed(credentials, now=now), None


def _disconnect(
    connection: ProviderConnection | None, command: Disconnect, now: datetime
) -> _Outcome:
    """End the connection; repeating it by the owner succeeds and changes nothing."""
    if connection is None:
        return None, not_found()
    if command.user_id != connection.user_id:
        return connection, not_owned()
    return connection.disconnected(now=now), None


def _change_status(
    connection: ProviderConnection | None, command: ChangeStatus, now: datetime
) -> _Outcome:
    """Set EXPIRED, REVOKED or FAILED from the one state that allows it."""
    if connection is None:
        return None, not_found()
    required = STATUS_CHANGES[command.to_status]
    if connection.status is not required:
        target = command.to_status.upper()
        return connection, invalid_transition(
            f"Cannot transition to {target}, must be {required.upper()}", connection
        )
    return connection.moved_to(command.to_status, reason=command.reason, now=now), None


def _mark_synced(connection: ProviderConnection | None, now: datetime) -> _Outcome:
    """Set ``last_sync_at``; only an ACTIVE connection can have been read through."""
    if connection is None:
        return None, not_found()
    if not connection.is_active:
        return connection, not_active(connection, needs_user_action=None)
    return connection.synced(now=now), None


def _sealed(credentials: Credentials | Unsealed | None) -> Credentials | None:
    """Return the command's credentials; plaintext never gets this far."""
    assert not isinstance(credentials, Unsealed)
    return credentials


def _success(connection: ProviderConnection | None, command: Command) -> Reply:
    """Return the reply value that the command table names."""
    match command:
        case Connect():
            return Success(ConnectionRef(command.connection_id, command.warnings))
        case Get():
            return Success(connection)
        case Refresh() | Disconnect() | ChangeStatus() | MarkSynced():
            return Success(None)
        case _:
            assert_never(command)


def _about(connection: ProviderConnection | None, command: Command) -> dict[str, Any]:
    """Return the fields that all events share; placeholders where nothing is stored (seed)."""
    connection_id = command.connection_id
    known = command if connection is None and isinstance(command, Connect) else connection
    return {
        "user_id": known.user_id if known else connection_id,
        "connection_id": connection_id,
        "provider_id": known.provider_id if known else connection_id,
        "provider_slug": known.provider_slug if known else UNKNOWN_SLUG,
    }


def _succeeded_events(
    connection: ProviderConnection | None,
    command: Command,
    now: datetime,
    ids: Iterator[UUID],
) -> tuple[Event, ...]:
    """Return Attempted and Succeeded, or the one StatusChanged, or nothing.

    New credentials bring back a grant that needed its user: then also Recovered.
    """
    about = _about(connection, command)
    match command:
        case Connect():
            attempted, succeeded = ProviderConnectionAttempted, ProviderConnectionSucceeded
        case Refresh():
            attempted, succeeded = ProviderTokenRefreshAttempted, ProviderTokenRefreshSucceeded
        case Disconnect():
            attempted, succeeded = ProviderDisconnectionAttempted, ProviderDisconnectionSucceeded
        case ChangeStatus():
            assert connection is not None
            changed = ProviderConnectionStatusChanged(
                id=next(ids),
                occurred_at=now,
                from_status=connection.status,
                to_status=command.to_status,
                reason=command.reason,
                **about,
            )
            return (changed,)
        case MarkSynced() | Get():
            return ()
        case _:
            assert_never(command)
    told = (
        attempted(id=next(ids), occurred_at=now, **about),
        succeeded(id=next(ids), occurred_at=now, **about),
    )
    if connection is None or not connection.needs_reauth or isinstance(command, Disconnect):
        return told
    return (*told, ProviderGrantRecovered(id=next(ids), occurred_at=now, **about))


def _failed_events(
    connection: ProviderConnection | None,
    command: Command,
    failure: Failure,
    now: datetime,
    ids: Iterator[UUID],
) -> tuple[Event, ...]:
    """Return Attempted and Failed for the three workflows; nothing for the others."""
    about = _about(connection, command)
    reason = failure.message
    match command:
        case Connect():
            return (
                ProviderConnectionAttempted(id=next(ids), occurred_at=now, **about),
                ProviderConnectionFailed(id=next(ids), occurred_at=now, reason=reason, **about),
            )
        case Refresh():
            return (
                ProviderTokenRefreshAttempted(id=next(ids), occurred_at=now, **about),
                ProviderTokenRefreshFailed(
                    id=next(ids),
                    occurred_at=now,
                    reason=reason,
                    needs_user_action=bool(failure.needs_user_action),
                    **about,
                ),
            )
        case Disconnect():
            return (
                ProviderDisconnectionAttempted(id=next(ids), occurred_at=now, **about),
                ProviderDisconnectionFailed(id=next(ids), occurred_at=now, reason=reason, **about),
            )
        case ChangeStatus() | MarkSynced() | Get():
            return ()
        case _:
            assert_never(command)
