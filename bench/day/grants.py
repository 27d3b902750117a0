"""All connections of a day, as the domain has them, and when each is due."""

from array import array
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, CredentialType, Sealed, Secret
from domain.due import next_due
from domain.exchange import Answered, Tokens, Verdict
from domain.profile import ProviderProfile
from domain.refreshing import begun, failed, succeeded
from domain.verdicts import judge

LIFETIME_S = 1800.0
START = datetime(2026, 1, 1, tzinfo=UTC)
_OWNER = "day"


class Request(NamedTuple):
    """A refresh token that was presented."""

    ends_s: float
    """When its answer comes; seconds since the day began, as are all times here."""
    sent_s: float
    number: int
    """Whose it is."""
    is_up: bool
    """Whether the provider answers with tokens, or with a 503."""


class Grants:
    """Connections by number."""

    def __init__(self, connections: int, profile: ProviderProfile, draws: Random) -> None:
        """Import all of them as the day begins, with tokens that were issued just then."""
        self.profile = profile
        self.connections = [_imported(UUID(int=draws.getrandbits(128))) for _ in range(connections)]
        self.due_s = array("d", map(self._due_s, self.connections))
        """When each was to be refreshed first since it last was."""
        self.ends_s = array("d", [LIFETIME_S]) * connections
        """When its access token ends."""
        self._draws = draws
        self._ids = ids()

    @property
    def lost(self) -> int:
        """How many only their users could bring back."""
        return sum(one.needs_reauth or not one.is_active for one in self.connections)

    def may_ask_s(self, number: int, now_s: float) -> float:
        """Return from when on the provider may be asked: ``now_s`` where that is now."""
        connection = self.connections[number]
        if connection.trouble is None:
            return now_s
        now = moment(now_s)
        due = next_due(connection, self.profile, now=now)
        assert due is not None
        return now_s if due.at <= now else (due.at - START).total_seconds()

    def refreshed(self, request: Request) -> float:
        """Take the tokens of an answer, and return when that connection is due again."""
        number, connection = request.number, self.connections[request.number]
        renew = renewed if connection.trouble is None else renewed_by_domain
        after = renew(connection, self.profile, request, self._ids)
        self.connections[number] = after
        self.ends_s[number] = request.sent_s + LIFETIME_S
        self.due_s[number] = due_s = self._due_s(after)
        return due_s

    def missed(self, request: Request) -> tuple[Verdict, float]:
        """Take a 503, and return what it means, and when that connection is due again."""
        connection, sent_at = self.connections[request.number], moment(request.sent_s)
        answer = Answered(status=503, body=Secret(b""), sent_at=sent_at)
        verdict = judge(self.profile, answer, sent_scope=False)
        assert isinstance(verdict, Verdict)
        after = failed(
            _flying(connection, self.profile, sent_at, self._ids),
            verdict,
            self.profile,
            draw=self._draws.random(),
            now=moment(request.ends_s),
            ids=self._ids,
        ).connection
        self.connections[request.number] = after
        return verdict, self._due_s(after)

    def _due_s(self, connection: ProviderConnection) -> float:
        due = next_due(connection, self.profile)
        assert due is not None
        return (due.at - START).total_seconds()


def renewed(
    connection: ProviderConnection,
    _profile: ProviderProfile,
    request: Request,
    _ids: Iterator[UUID],
) -> ProviderConnection:
    """Return what ``renewed_by_domain`` does of one without trouble, as far as its due times go.

    It takes a quarter of the time, which a million connections have not.
    """
    assert connection.credentials is not None
    sent_at, now = moment(request.sent_s), moment(request.ends_s)
    ends_at = sent_at + timedelta(seconds=LIFETIME_S)
    credentials = replace(connection.credentials, expires_at=ends_at, issued_at=now)
    return replace(connection, credentials=credentials, generation=connection.generation + 1)


def renewed_by_domain(
    connection: ProviderConnection, profile: ProviderProfile, request: Request, ids: Iterator[UUID]
) -> ProviderConnection:
    """Return the connection after a refresh that succeeded."""
    assert connection.credentials is not None
    sent_at, now = moment(request.sent_s), moment(request.ends_s)
    ends_at = sent_at + timedelta(seconds=LIFETIME_S)
    credentials = replace(connection.credentials, expires_at=ends_at, issued_at=now)
    tokens = Tokens(access_token="-", expires_at=ends_at)  # noqa: S106 -- none
    flying = _flying(connection, profile, sent_at, ids)
    return succeeded(flying, tokens, credentials, profile, now=now, ids=ids).connection


def moment(at_s: float) -> datetime:
    """Return a time of the day."""
    return START + timedelta(seconds=at_s)


def ids() -> Iterator[UUID]:
    """Yield ids that nobody looks at."""
    return (UUID(int=number) for number in count(1))


def _flying(
    connection: ProviderConnection, profile: ProviderProfile, now: datetime, ids: Iterator[UUID]
) -> ProviderConnection:
    step = begun(connection, profile, attempt_id=next(ids), owner=_OWNER, now=now)
    return step.connection


def _imported(connection_id: UUID) -> ProviderConnection:
    return ProviderConnection(
        id=connection_id,
        user_id=_NOBODY,
        provider_id=_NOBODY,
        provider_slug="day",
        status=ConnectionStatus.ACTIVE,
        created_at=START,
        updated_at=START,
        connected_at=START,
        granted_at=START,
        generation=1,
        credentials=_CREDENTIALS,
    )


_NOBODY = UUID(int=0)
_CREDENTIALS = Credentials(
    credential_type=CredentialType.OAUTH2,
    payload=Sealed(key_id="day", nonce=b"", ciphertext=b""),
    expires_at=moment(LIFETIME_S),
)
