"""Who asked one connection for a token, and who of them waits for a flight.

Callers of ``token`` do not stand in line with commands that change state: whoever the present
token satisfies is answered at once, the others share one flight. How many may wait at all is
bounded per daemon, by the service.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import anyio

from actors.landing import Wish
from actors.mailbox import Envelope
from actors.ports import CannotUnsealError
from actors.world import Limits, World
from domain.commands import GetToken
from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.decision import AccessToken, Reply
from domain.oauth_secret import OAuthSecret
from domain.result import Failure, FailureCode, Success
from domain.token_read import (
    Ask,
    Dead,
    Reading,
    Serve,
    misconfigured,
    read_token,
    unreadable,
)

IN_PROGRESS = Failure(
    code=FailureCode.REFRESH_IN_PROGRESS,
    message="The refresh goes on; ask again",
    needs_user_action=False,
    retry_after_s=1.0,
)
_MARGIN_FRACTION = 0.2


class Asked(NamedTuple):
    """How one caller's wish reads, and the opened secret to answer it from."""

    reading: Reading
    secret: OAuthSecret | None


class TokenDesk:
    """The callers of ``token`` at one connection."""

    __slots__ = ("_arrivals", "_limits", "_waiting", "_world", "asking")

    def __init__(self, *, world: World, limits: Limits) -> None:
        """Open with nobody there."""
        self._world = world
        self._limits = limits
        self.asking: deque[Envelope] = deque()
        """Those nobody has looked at yet."""
        self._waiting: list[tuple[float, int, Envelope]] = []
        """Those who share the flight; a heap by when they must be answered."""
        self._arrivals = 0

    def __len__(self) -> int:
        """Return how many callers are unanswered."""
        return len(self.asking) + len(self._waiting)

    def read(self, connection: ProviderConnection | None, ask: GetToken) -> Asked:
        """Return how ``ask`` reads on what is stored."""
        failure = unreadable(connection)
        if failure is not None:
            return Asked(failure, None)
        assert connection is not None
        secret = self._opened(connection)
        if secret is None:
            self._world.journal.cannot_unseal(connection.id)
            return Asked(misconfigured("The stored credentials cannot be unsealed", None), None)
        if secret.access_token is None:
            message = "Cannot be refreshed: the credentials hold no access token"
            return Asked(Failure(code=FailureCode.NOT_REFRESHABLE, message=message), None)
        profile = self._world.providers.profile(connection.provider_slug)
        presents = "refresh_token" if profile is None else profile.presents
        reading = read_token(
            connection,
            ask,
            profile,
            presented=secret.text(presents) is not None,
            now=self._world.clock.now(),
        )
        return Asked(reading, secret)

    def sort(self, connection: ProviderConnection | None) -> tuple[list[Envelope], Wish | None]:
        """Answer those whom the present token satisfies, and let the others share a flight.

        Returns:
            Those whose time was up, unanswered; and what to fly for, if anyone waits.
        """
        now_s = anyio.current_time()
        late: list[Envelope] = []
        wish: Wish | None = None
        while self.asking:
            # It stays in the list until it is read: a crash finds it there and answers it.
            envelope = self.asking[0]
            assert isinstance(envelope.command, GetToken)
            if envelope.deadline_s <= now_s:
                late.append(self.asking.popleft())
                continue
            asked = self.read(connection, envelope.command)
            self.asking.popleft()
            match asked.reading:
                case Serve(stale):
                    envelope.reply(served(connection, asked, stale=stale))
                case Failure() as failure:
                    envelope.reply(failure)
                case Ask():
                    self.wait(envelope)
                    was_rejected = connection is not None and (
                        envelope.command.if_generation == connection.generation
                    )
                    wish = Wish(
                        asked.secret, None, was_rejected or bool(wish and wish.was_rejected)
                    )
                case Dead(verdict):
                    self.wait(envelope)
                    wish = wish or Wish(None, verdict)
        return late, wish

    def answer_at_once(self, connection: ProviderConnection | None, envelope: Envelope) -> bool:
        """Answer a caller whom the present token satisfies; False: it must be looked at."""
        assert isinstance(envelope.command, GetToken)
        asked = self.read(connection, envelope.command)
        if not isinstance(asked.reading, Serve):
            return False
        envelope.reply(served(connection, asked, stale=asked.reading.stale))
        return True

    def wait(self, envelope: Envelope) -> None:
        """Let a caller share the flight."""
        now_s = anyio.current_time()
        left_s = envelope.deadline_s - now_s
        margin_s = min(self._limits.answer_margin_s, left_s * _MARGIN_FRACTION)
        due_s = envelope.deadline_s if math.isinf(left_s) else envelope.deadline_s - margin_s
        self._arrivals += 1
        heapq.heappush(self._waiting, (due_s, self._arrivals, envelope))

    @property
    def due_s(self) -> float:
        """When the next waiting caller must be answered; infinite when none waits."""
        return self._waiting[0][0] if self._waiting else math.inf

    def answer_due(self, failure: Failure) -> None:
        """Answer those whose time is up."""
        now_s = anyio.current_time()
        while self._waiting and self._waiting[0][0] <= now_s:
            heapq.heappop(self._waiting)[2].reply(failure)

    def answer_waiting(self, answer: Callable[[GetToken], Reply]) -> None:
        """Answer everyone who shared the flight, in the order in which they came."""
        waiting, self._waiting = self._waiting, []
        for _, _, envelope in sorted(waiting, key=lambda one: one[1]):
            assert isinstance(envelope.command, GetToken)
            envelope.reply(answer(envelope.command))

    def look_again(self) -> None:
        """Let everyone who shared the flight be looked at anew."""
        waiting, self._waiting = self._waiting, []
        again = [envelope for _, _, envelope in sorted(waiting, key=lambda one: one[1])]
        self.asking.extendleft(reversed(again))

    def refuse_all(self, failure: Failure) -> None:
        """Answer everyone with ``failure``."""
        everyone = [*(envelope for _, _, envelope in self._waiting), *self.asking]
        self._waiting.clear()
        self.asking.clear()
        for envelope in everyone:
            envelope.reply(failure)

    def after_flight(
        self, connection: ProviderConnection, failure: Failure | None
    ) -> Callable[[GetToken], Reply]:
        """Return how to answer each caller of a flight that is over.

        Args:
            connection: As it is stored now.
            failure: Why there is no new token; None: there is one.
        """
        secret = self._opened(connection) if connection.is_active else None
        credentials = connection.credentials
        asked = Asked(Serve(stale=failure is not None), secret)
        if credentials is None or secret is None or secret.access_token is None:
            return lambda _ask: failure or misconfigured("The credentials cannot be unsealed", None)
        lives = credentials.expires_at is None or credentials.expires_at > self._world.clock.now()

        def answer(ask: GetToken) -> Reply:
            if failure is None:
                return served(connection, asked, stale=False)
            if lives and ask.if_generation != connection.generation:
                return served(connection, asked, stale=True)
            return failure

        return answer

    def _opened(self, connection: ProviderConnection) -> OAuthSecret | None:
        """Return the opened secret, or None where it does not open."""
        credentials = connection.credentials
        if credentials is None or not isinstance(credentials.payload, Sealed):
            return None
        try:
            return OAuthSecret(
                self._world.sealer.unseal(
                    credentials.payload,
                    connection_id=connection.id,
                    generation=connection.generation,
                )
            )
        except CannotUnsealError:
            return None


def answer_from_memory(
    connection: ProviderConnection | None, envelope: Envelope, world: World, limits: Limits
) -> bool:
    """Answer a caller at a connection that nothing is under way at; see ``answer_at_once``."""
    return TokenDesk(world=world, limits=limits).answer_at_once(connection, envelope)


def served(connection: ProviderConnection | None, asked: Asked, *, stale: bool) -> Reply:
    """Return the answer that holds the present access token."""
    assert connection is not None
    assert connection.credentials is not None
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
        )
    )
