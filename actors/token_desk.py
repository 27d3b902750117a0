"""How a caller of ``token`` is answered, and who of them waits for a flight.

Callers of ``token`` do not stand in line with commands that change state: whoever the present
token satisfies is answered at once, the others share one flight. How many may wait is bounded
per daemon, by the service, and per provider.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from actors.client_gate import no_sooner
from actors.envelope import Envelope
from actors.partition import UNCLEAR
from actors.ports import CannotUnsealError
from actors.wish import Hold, Wish, opens_s
from actors.world import MAILBOX_FULL, World, database_error, overloaded
from domain.commands import Get, GetToken
from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.decision import AccessToken, Reply
from domain.oauth_secret import OAuthSecret
from domain.result import Failure, FailureCode, Success
from domain.token_read import Reading, Serve, misconfigured, read_token, token_left_s, unreadable

IN_PROGRESS = Failure(
    code=FailureCode.REFRESH_IN_PROGRESS,
    message="The refresh goes on; ask again",
    needs_user_action=False,
    retry_after_s=1.0,
)
TOO_MANY_WAIT = overloaded("too many callers wait for tokens")


class Asked(NamedTuple):
    """How one caller's wish reads, and the opened secret to answer it from."""

    reading: Reading
    secret: OAuthSecret | None
    own: Failure | None = None
    """The reading by the connection alone, where its client makes the wait longer."""

    def is_waited_out_by(self, envelope: Envelope) -> bool:
        """Whether the provider is not to be asked just now, but may be in this caller's time."""
        failure = self.reading
        return (
            isinstance(failure, Failure)
            and envelope.can_wait
            and self.secret is not None
            and opens_s(failure) < envelope.due_s
        )

    def wish(self, ask: GetToken, connection: ProviderConnection, envelope: Envelope) -> Wish:
        """Return what a flight is for that is begun for a caller."""
        assert self.secret is not None
        generation, failure = connection.generation, self.own or self.reading
        return Wish(
            self.secret,
            generation,
            was_rejected=ask.if_generation == generation,
            due_s=envelope.due_s,
            hold=Hold(opens_s(failure), failure) if isinstance(failure, Failure) else None,
            trace=envelope.trace,
        )


def read_ask(connection: ProviderConnection | None, ask: GetToken, world: World) -> Asked:
    """Return how ``ask`` reads on a connection."""
    failure = unreadable(connection)
    if failure is not None:
        return Asked(failure, None)
    assert connection is not None
    secret = _opened(connection, world)
    if secret is None:
        world.journal.cannot_unseal(connection.id)
        return Asked(misconfigured("The stored credentials cannot be unsealed", None), None)
    if secret.access_token is None:
        message = "Cannot be refreshed: the credentials hold no access token"
        return Asked(Failure(code=FailureCode.NOT_REFRESHABLE, message=message), None)
    profile = world.providers.profile(connection.provider_slug)
    reading = read_token(
        connection,
        ask,
        profile,
        presented=profile is not None and secret.text(profile.presents) is not None,
        now=world.clock.now(),
    )
    if profile is not None and isinstance(reading, Failure) and reading.retry_after_s is not None:
        place = world.providers.endpoint.place(profile, connection.params, connection.endpoint_base)
        gate = world.providers.gates.of(profile, place)
        return Asked(no_sooner(reading, gate.closed(connection.id)), secret, reading)
    return Asked(reading, secret)


def served(
    connection: ProviderConnection | None, asked: Asked, world: World, *, stale: bool
) -> Reply:
    """Return the answer that holds the present access token."""
    assert connection is not None
    assert connection.credentials is not None
    left_s = token_left_s(connection.credentials, world.clock.now())
    assert asked.secret is not None
    access_token = asked.secret.access_token
    assert access_token is not None
    return Success(
        AccessToken(
            access_token=access_token,
            token_type=asked.secret.token_type,
            expires_at=connection.credentials.expires_at,
            generation=connection.generation,
            stale=stale,
            expires_in_s=None if left_s == math.inf else max(int(left_s), 0),
            endpoint_base=connection.endpoint_base,
            detail=_why(asked.reading) if stale else None,
        )
    )


def _why(reading: Reading) -> str:
    """Return why the present token is served although another was wanted."""
    why = reading.why if isinstance(reading, Serve) else None
    return why or "The provider was not asked: nothing can be stored now"


def after_flight(
    connection: ProviderConnection | None, failure: Failure | None, world: World
) -> Callable[[GetToken], Reply]:
    """Return how to answer each caller of a flight that is over.

    Args:
        connection: As it is now; None where that is not known any more.
        failure: Why there is no new token; None: there is one.
        world: The ports.
    """
    if connection is None:
        return lambda _ask: failure or IN_PROGRESS
    secret = _opened(connection, world) if connection.is_active else None
    credentials = connection.credentials
    asked = Asked(Serve(stale=failure is not None, why=failure and failure.message), secret)
    if credentials is None or secret is None or secret.access_token is None:
        return lambda _ask: failure or misconfigured("The credentials cannot be unsealed", None)
    lives = token_left_s(credentials, world.clock.now()) > 0

    def answer(ask: GetToken) -> Reply:
        if failure is None:
            return served(connection, asked, world, stale=False)
        if lives and ask.if_generation != connection.generation:
            return served(connection, asked, world, stale=True)
        return failure

    return answer


def refusal_behind(envelope: Envelope, *, is_unclear: bool, is_full: bool) -> Failure | None:
    """Return why an answer cannot go out with an entry, or None."""
    is_token = isinstance(envelope.command, GetToken)
    if is_unclear and (is_token or isinstance(envelope.command, Get)):
        return database_error(UNCLEAR)
    if is_token:
        return None if envelope.can_wait else TOO_MANY_WAIT
    return MAILBOX_FULL if is_full else None


class TokenDesk:
    """The callers who share one connection's flight."""

    __slots__ = ("_arrivals", "_counts", "_slug", "_waiting")

    def __init__(self, slug: str, counts: Counter[str]) -> None:
        """Open with nobody there.

        Args:
            slug: The provider's; empty where it is not known yet.
            counts: How many wait at all desks, by provider.
        """
        self._waiting: list[tuple[float, int, Envelope]] = []
        """A heap by when they must be answered."""
        self._arrivals = 0
        self._slug = slug
        self._counts = counts

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def wait(self, envelope: Envelope, *, provider_max: int) -> None:
        """Let a caller share the flight, unless so many wait for the provider already."""
        if not envelope.can_wait or (self._slug and self._counts[self._slug] >= provider_max):
            envelope.answer(TOO_MANY_WAIT)
            return
        self._arrivals += 1
        self._counts[self._slug] += 1
        heapq.heappush(self._waiting, (envelope.due_s, self._arrivals, envelope))

    def answer_due(self, now_s: float, failure: Failure) -> None:
        """Answer those whose time is up."""
        for envelope in self.leave_until(now_s):
            envelope.answer(failure)

    def leave_until(self, due_s: float) -> list[Envelope]:
        """Let those go who must be answered by then, and return them."""
        leaving: list[Envelope] = []
        while self._waiting and self._waiting[0][0] <= due_s:
            leaving.append(heapq.heappop(self._waiting)[2])
        self._count_out(len(leaving))
        return leaving

    def leave(self) -> list[Envelope]:
        """Let everyone go, and return them in the order in which they came."""
        waiting, self._waiting = self._waiting, []
        self._count_out(len(waiting))
        return [envelope for _, _, envelope in sorted(waiting, key=lambda one: one[1])]

    def _count_out(self, callers: int) -> None:
        self._counts[self._slug] -= callers
        if not self._counts[self._slug]:
            del self._counts[self._slug]


def _opened(connection: ProviderConnection, world: World) -> OAuthSecret | None:
    """Return the opened secret, or None where it does not open."""
    credentials = connection.credentials
    if credentials is None or not isinstance(credentials.payload, Sealed):
        return None
    try:
        return OAuthSecret(
            world.sealer.unseal(
                credentials.payload,
                connection_id=connection.id,
                generation=connection.generation,
            )
        )
    except CannotUnsealError:
        return None
