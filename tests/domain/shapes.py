"""Connections, credentials and events in every shape, for the tests of the pure parts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from domain.commands import GetToken
from domain.connection import (
    ConnectionStatus,
    Ended,
    ProviderConnection,
    RefreshIntent,
    Trouble,
)
from domain.credentials import Credentials, CredentialType, Opaque, Sealed
from domain.grant_life import WARNING_LEADS_S
from domain.profile import (
    NO_REUSE,
    NON_ROTATING,
    UNKNOWN_REUSE,
    FailureClass,
    ProviderProfile,
    RefreshMode,
    ReusePolicy,
)
from domain.result import Failure
from domain.token_read import Reading, Serve

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


ATTEMPT_ID = UUID("01890000-0000-7000-8000-00000000a77e")
BEGUN_AT = NOW - timedelta(seconds=20)
GRANTED_AT = CREATED_AT + timedelta(minutes=5)
ABOUT: dict[str, Any] = {
    "user_id": USER_ID,
    "connection_id": CONNECTION_ID,
    "provider_id": PROVIDER_ID,
    "provider_slug": SLUG,
}
INTENT = RefreshIntent(
    attempt_id=ATTEMPT_ID,
    generation=1,
    owner="me",
    started_at=BEGUN_AT,
    deadline_at=BEGUN_AT + timedelta(seconds=35),
)
IDLE = msgspec.structs.replace(
    stored(ConnectionStatus.ACTIVE),
    granted_at=GRANTED_AT,
    grant_expires_at=NOW + timedelta(days=7),
    endpoint_base="https://eu.example.com",
)
FLYING = msgspec.structs.replace(IDLE, intent=INTENT, updated_at=BEGUN_AT)
"""IDLE with the refresh that ``INTENT`` announces under way."""


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
    issued_at=st.none() | times,
    redated_at=st.none() | times,
    client_id=st.none() | st.text(max_size=20),
    notes=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


def troubles(retry_at: st.SearchStrategy[datetime | None]) -> st.SearchStrategy[Trouble]:
    """Draw any trouble, with the times that ``retry_at`` draws."""
    return st.builds(
        Trouble,
        failure_class=st.sampled_from(FailureClass),
        code=st.text(max_size=20),
        provider_code=st.none() | st.text(max_size=20),
        reason=st.text(max_size=20),
        at=times,
        failures=st.integers(0, 2**53),
        ambiguous=st.integers(0, 2**53),
        retry_at=retry_at,
    )


def intents(generation: int) -> st.SearchStrategy[RefreshIntent]:
    """Draw any intent to present the credentials of ``generation``."""
    return st.builds(
        RefreshIntent,
        attempt_id=st.uuids(),
        generation=st.just(generation),
        owner=st.text(max_size=20),
        started_at=times,
        deadline_at=times,
    )


endings = st.builds(Ended, at=times, reason=st.none() | st.text(max_size=20))
_ENDED = frozenset(ConnectionStatus) - {ConnectionStatus.ACTIVE, ConnectionStatus.PENDING}


@st.composite
def connections(draw: st.DrawFn, *, troubled: bool = False) -> ProviderConnection:
    """Draw any connection that breaks no law; only with ``troubled`` can a refresh have failed."""
    status = draw(st.sampled_from(ConnectionStatus))
    if status is ConnectionStatus.ACTIVE:
        held = draw(credentials)
    elif status is ConnectionStatus.DISCONNECTED:
        held = None
    else:
        held = draw(st.none() | credentials)
    created_at, updated_at = sorted((draw(times), draw(times)))
    generation = draw(st.integers(0 if held is None else 1, 2**53))
    is_active = status is ConnectionStatus.ACTIVE
    return ProviderConnection(
        id=draw(st.uuids()),
        user_id=draw(st.uuids()),
        provider_id=draw(st.uuids()),
        provider_slug=draw(st.from_regex(r"\A[a-z0-9_-]{1,50}\Z")),
        status=status,
        created_at=created_at,
        updated_at=updated_at,
        generation=generation,
        credentials=held,
        alias=draw(st.none() | st.text(max_size=100)),
        params=draw(st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=9))),
        connected_at=draw(st.none() | times),
        last_sync_at=draw(st.none() | times),
        intent=draw(st.none() | intents(generation)) if is_active else None,
        doubted_at=draw(st.none() | times),
        trouble=draw(st.none() | troubles(st.none() | times)) if troubled else None,
        granted_at=draw(st.none() | times),
        grant_expires_at=draw(st.none() | times),
        endpoint_base=draw(st.none() | st.text(max_size=20)),
        grant_slides=draw(st.none() | st.booleans()),
        warned_lead_s=draw(st.none() | st.sampled_from([0, *WARNING_LEADS_S])),
        refresh=draw(st.none() | st.sampled_from(RefreshMode)),
        ended=draw(st.none() | endings) if status in _ENDED else None,
    )


_YEAR_S = 365 * 86_400.0
spans_s = st.sampled_from([0.0, 0.5, 29.0, 30.0, 31.0, 300.0]) | st.floats(0, _YEAR_S)
near_times = st.none() | st.builds(
    lambda span_s, sign: NOW + timedelta(seconds=sign * span_s), spans_s, st.sampled_from([-1, 1])
)
"""None, or a time within a year of NOW."""
reuse_policies = st.sampled_from(
    [NO_REUSE, UNKNOWN_REUSE, NON_ROTATING, ReusePolicy("grace", 120.0)]
)
profiles = st.builds(
    ProviderProfile,
    slug=st.just(SLUG),
    reuse_policy=reuse_policies,
    grant_lifetime_s=st.none() | spans_s,
    grant_trial_interval_s=st.just(3600.0) | spans_s,
    max_lead_s=st.none() | spans_s,
    interval_s_min=st.just(1.0) | spans_s,
    settling_s=st.just(0.0) | spans_s,
    grant_idle_s=st.none() | spans_s,
    presents=st.sampled_from(["refresh_token", "refresh_token", "access_token"]),
    refresh=st.sampled_from(RefreshMode),
    margin_s=st.just(300.0) | spans_s,
    margin_fraction=st.just(0.2) | st.floats(0, 0.5),
)


def in_short(reading: Reading) -> Reading:
    """Return a reading without the words that explain it."""
    match reading:
        case Serve():
            return reading._replace(why=None)
        case Failure():
            return msgspec.structs.replace(reading, detail=None)
        case _:
            return reading


def asks(generation: int) -> st.SearchStrategy[GetToken]:
    """Draw any wish for the token of a connection at ``generation``."""
    return st.builds(
        GetToken,
        connection_id=st.just(CONNECTION_ID),
        min_ttl_s=spans_s,
        if_generation=st.none() | st.integers(generation - 1, generation + 1),
        force=st.booleans(),
    )
