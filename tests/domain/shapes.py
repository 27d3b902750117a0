"""Connections, credentials and events in every shape, for the tests of the pure parts."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, CredentialType, Opaque, Sealed

CONNECTION_ID = UUID("01890000-0000-7000-8000-00000000c0de")
USER_ID = UUID("01890000-0000-7000-8000-0000000000a1")
OTHER_USER_ID = UUID("01890000-0000-7000-8000-0000000000a2")
PROVIDER_ID = UUID("01890000-0000-7000-8000-0000000000b1")
OTHER_PROVIDER_ID = UUID("01890000-0000-7000-8000-0000000000b2")
SLUG = "schwab"
CREATED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW = CREATED_AT + timedelta(hours=1)


def sealed(text: str = "old", *, expires_at: datetime | None = None) -> Credentials:
    """Return oauth2 credentials that differ whenever ``text`` does."""
    payload = Sealed(key_id="k-1", nonce=b"nonce", ciphertext=text.encode())
    return Credentials(
        credential_type=CredentialType.OAUTH2, payload=payload, expires_at=expires_at
    )


def stored(status: ConnectionStatus) -> ProviderConnection:
    """Return a connection as it stands after the shortest way to ``status``."""
    pending = status in (ConnectionStatus.PENDING, ConnectionStatus.FAILED)
    ended = status is ConnectionStatus.DISCONNECTED
    return ProviderConnection(
        id=CONNECTION_ID,
        user_id=USER_ID,
        provider_id=PROVIDER_ID,
        provider_slug=SLUG,
        status=status,
        created_at=CREATED_AT,
        updated_at=CREATED_AT,
        generation=0 if pending else 1,
        credentials=None if pending or ended else sealed(),
        alias="mine",
        params={"subdomain": "acme"},
        connected_at=None if pending else CREATED_AT,
    )


times = st.datetimes(timezones=st.just(UTC))
sealed_payloads = st.builds(
    Sealed, key_id=st.text(max_size=20), nonce=st.binary(max_size=16), ciphertext=st.binary()
)
opaque_payloads = st.builds(Opaque, data=st.binary())
credentials = st.builds(
    Credentials,
    credential_type=st.sampled_from(CredentialType),
    payload=sealed_payloads | opaque_payloads,
    expires_at=st.none() | times,
)


@st.composite
def connections(draw: st.DrawFn) -> ProviderConnection:
    """Draw any connection that breaks no law."""
    status = draw(st.sampled_from(ConnectionStatus))
    if status is ConnectionStatus.ACTIVE:
        held = draw(credentials)
    elif status is ConnectionStatus.DISCONNECTED:
        held = None
    else:
        held = draw(st.none() | credentials)
    created_at, updated_at = sorted((draw(times), draw(times)))
    return ProviderConnection(
        id=draw(st.uuids()),
        user_id=draw(st.uuids()),
        provider_id=draw(st.uuids()),
        provider_slug=draw(st.from_regex(r"\A[a-z0-9_-]{1,50}\Z")),
        status=status,
        created_at=created_at,
        updated_at=updated_at,
        generation=draw(st.integers(0 if held is None else 1, 2**53)),
        credentials=held,
        alias=draw(st.none() | st.text(max_size=100)),
        params=draw(st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=9))),
        connected_at=draw(st.none() | times),
        last_sync_at=draw(st.none() | times),
    )
