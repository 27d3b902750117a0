"""What every peer does with a request besides storing it: read, refuse, seal, answer.

Reading, sealing and answering are the daemon's own functions, so that what differs is how the
refreshes of a connection are kept apart and stored. Checks, texts and events of a refusal are the
daemon's too.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from bench.peers.store import Pool
from domain.commands import Refresh
from domain.connection import UNKNOWN_SLUG, ConnectionStatus
from domain.credentials import Opaque, Unsealed
from domain.decision import Reply
from domain.refusals import NOT_ACTIVE, invalid_credentials, not_found
from domain.result import Failure, FailureCode
from runtime.gateway.replies import failure_body, reply_body
from runtime.gateway.wire import MalformedError, read_command, read_connection_id
from runtime.ledger.sealing import Keyring
from runtime.world import Uuid7Ids

_CREDENTIAL_BYTES_MAX = 64 * 1024
_TELL_FAILED = """
INSERT INTO event (id, connection_id, type, occurred_at, user_id, provider_id, provider_slug,
    reason, needs_user_action)
VALUES ($1, $3, 'ProviderTokenRefreshAttempted', $4, $5, $6, $7, NULL, NULL),
    ($2, $3, 'ProviderTokenRefreshFailed', $4, $5, $6, $7, $8, $9)
"""
_ids = Uuid7Ids()


class Peer(Protocol):
    """A way to keep the refreshes of one connection apart, and to store them."""

    async def refresh(self, command: Refresh) -> Reply:
        """Carry out one refresh: what it came to is durable when this returns."""
        ...


class Found(NamedTuple):
    """What is stored of a connection, as far as a refresh looks at it."""

    user_id: UUID
    provider_id: UUID
    provider_slug: str
    status: str
    generation: int


async def answer(peer: Peer, connection_id: str, body: bytes) -> bytes:
    """Return the answer to a request as the daemon would give it.

    Args:
        peer: Carries it out.
        connection_id: As it is in the subject.
        body: JSON.
    """
    try:
        command = read_command(
            "refresh",
            read_connection_id(connection_id),
            body,
            credential_bytes_max=_CREDENTIAL_BYTES_MAX,
        )
    except MalformedError as error:
        return failure_body(Failure(code=error.code, message=str(error)))
    assert isinstance(command, Refresh)
    return reply_body(await peer.refresh(command))


def refused(found: Found | None, command: Refresh) -> Failure | None:
    """Return why the command is refused, in the seed's order, or None."""
    if found is None:
        return not_found(needs_user_action=False)
    if command.credentials is None:
        return invalid_credentials(command)
    if found.status != ConnectionStatus.ACTIVE:
        return Failure(
            code=FailureCode.NOT_ACTIVE,
            message=NOT_ACTIVE,
            needs_user_action=True,
            detail=f"the connection is {found.status}",
        )
    return None


async def tell_failed(
    connection: Pool, found: Found | None, command: Refresh, failure: Failure
) -> None:
    """Record Attempted and Failed of a refused command."""
    one = command.connection_id
    user_id, provider_id, slug = found[:3] if found else (one, one, UNKNOWN_SLUG)
    await connection.execute(
        _TELL_FAILED,
        *(next(_ids), next(_ids), one, datetime.now(UTC), user_id, provider_id, slug),
        *(failure.message, bool(failure.needs_user_action)),
    )


def to_write(command: Refresh, keyring: Keyring, *, sealed_for: int) -> tuple[Any, ...]:
    """Return $1 to $10 of the statements in ``bench.peers.store``, with the credentials sealed.

    Args:
        command: It has credentials.
        keyring: Seals them.
        sealed_for: The number that the ciphertext is bound to, beside the connection.
    """
    credentials, one = command.credentials, command.connection_id
    assert credentials is not None
    if isinstance(credentials, Unsealed):
        sealed = keyring.seal(credentials.secret, connection_id=one, generation=sealed_for)
        payload = (sealed.key_id, sealed.nonce, sealed.ciphertext)
    else:
        assert isinstance(credentials.payload, Opaque)
        payload = ("", b"", credentials.payload.data)
    return (
        *(one, credentials.credential_type.value, credentials.expires_at, *payload),
        *(sealed_for, datetime.now(UTC), next(_ids), next(_ids)),
    )
