"""Providers in memory, for the tests of the actors: a rotating one that keeps the rules."""

from collections.abc import Callable
from datetime import datetime, timedelta

import anyio
import msgspec

from actors.client_gate import ClientGates
from actors.ports import Clock, TokenEndpoint
from actors.world import Providers
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, Place
from domain.profile import ProviderProfile
from tests.fakes.world import EPOCH


class StaticPlace:
    """Where everybody is asked for at one place."""

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """See ``TokenEndpoint``."""
        del params, endpoint_base
        return Place(f"{profile.slug}.test", f"https://{profile.slug}.test/token")


class NoEndpoint(StaticPlace):
    """A token endpoint that must not be asked."""

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        raise AssertionError(f"{request.profile.slug} was asked")


def no_providers() -> Providers:
    """Return a world in which no slug has a profile."""
    return providers(NoEndpoint())


def providers(endpoint: TokenEndpoint, *profiles: ProviderProfile, owner: str = "d-1") -> Providers:
    """Return the given profiles behind one endpoint."""
    by_slug = {profile.slug: profile for profile in profiles}
    return Providers(by_slug.get, endpoint, ClientGates(), lambda: 0.5, owner)


class RotatingProvider(StaticPlace):
    """A strict provider: each refresh token works once, and a spent one ends its whole grant."""

    def __init__(self, clock: Clock, *, lifetime_s: int = 3600, takes_s: float = 0.1) -> None:
        """Start with the grant whose first refresh token is ``r1``."""
        self.clock = clock
        self.lifetime_s = lifetime_s
        self.takes_s = takes_s
        self.live: str | None = "r1"
        self.is_revoked = False
        self.presented: list[str] = []
        self.requests: list[ExchangeRequest] = []
        self.before: Callable[[str], Exchange | None] | None = None
        """Called with each presented token before it is looked at; may answer in its place."""
        self.after: Callable[[Exchange], Exchange] | None = None
        """Called with each answer; may replace it, as a network does that loses it."""
        self._issued = 1

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        token = request.presented.reveal().decode()
        self.presented.append(token)
        self.requests.append(request)
        await anyio.sleep(self.takes_s / 2)
        instead = self.before(token) if self.before is not None else None
        answer = instead if instead is not None else self._answer(token)
        await anyio.sleep(self.takes_s / 2)
        return answer if self.after is None else self.after(answer)

    def _answer(self, token: str) -> Exchange:
        """Rotate, or revoke the family (RFC 9700 section 4.14.2)."""
        if self.is_revoked or token != self.live:
            self.is_revoked = True
            return self.answered(400, {"error": "invalid_grant"})
        self._issued += 1
        self.live = f"r{self._issued}"
        return self.answered(
            200,
            {
                "access_token": f"a{self._issued}",
                "refresh_token": self.live,
                "token_type": "Bearer",
                "expires_in": self.lifetime_s,
            },
        )

    def answered(self, status: int, body: object, **headers: str) -> Answered:
        """Return an answer with a JSON body."""
        return Answered(
            status=status,
            body=Secret(msgspec.json.encode(body)),
            content_type="application/json",
            sent_at=self.clock.now() - timedelta(seconds=self.takes_s),
            retry_after=headers.get("retry_after"),
        )


class VirtualClock:
    """Wall-clock time that goes with the event loop's."""

    ahead_s = 0.0
    """By how much somebody has set it."""

    def now(self) -> datetime:
        """See ``Clock.now``."""
        return EPOCH + timedelta(seconds=anyio.current_time() + self.ahead_s)
