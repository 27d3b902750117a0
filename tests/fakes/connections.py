"""Connections and events as a store and an event log meet them."""

from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, CredentialType, Opaque
from domain.events import Event, ProviderTokenRefreshAttempted, ProviderTokenRefreshSucceeded
from runtime.ledger.subjects import NO_TAG, partition_of, record_key_subject
from runtime.world import Uuid7Ids
from tests.fakes.commands import PROVIDER, SLUG, USER
from tests.fakes.world import EPOCH

ids = Uuid7Ids()


def active(
    connection_id: UUID, *, generation: int = 1, secret_bytes: int = 6
) -> ProviderConnection:
    """Return an ACTIVE connection; its credentials are different in each generation."""
    data = f"{generation:06}".encode().ljust(secret_bytes, b".")
    return ProviderConnection(
        id=connection_id,
        user_id=USER,
        provider_id=PROVIDER,
        provider_slug=SLUG,
        status=ConnectionStatus.ACTIVE,
        created_at=EPOCH,
        updated_at=EPOCH,
        connected_at=EPOCH,
        last_sync_at=EPOCH,
        generation=generation,
        alias="the joint account",
        params={"subdomain": "acme"},
        credentials=Credentials(
            credential_type=CredentialType.OAUTH2, payload=Opaque(data=data), expires_at=EPOCH
        ),
    )


def pending(connection_id: UUID) -> ProviderConnection:
    """Return a connection with nothing in it that may be left out."""
    return msgspec.structs.replace(
        active(connection_id),
        status=ConnectionStatus.PENDING,
        generation=0,
        credentials=None,
        alias=None,
        params=None,
        connected_at=None,
        last_sync_at=None,
    )


def refresh_events(connection_id: UUID, refreshes: int) -> list[Event]:
    """Return Attempted and Succeeded, so many times, with ids in ascending order."""
    events: list[Event] = []
    for _ in range(refreshes):
        events.extend(
            kind(
                id=next(ids),
                occurred_at=EPOCH,
                user_id=USER,
                connection_id=connection_id,
                provider_id=PROVIDER,
                provider_slug=SLUG,
            )
            for kind in (ProviderTokenRefreshAttempted, ProviderTokenRefreshSucceeded)
        )
    return events


def record_subject(connection_id: UUID, partitions: int) -> str:
    """Return the subject that a connection's record is stored under."""
    return record_key_subject(partition_of(connection_id, partitions), str(connection_id), NO_TAG)
