"""A provider of rotating refresh tokens, and the book that it keeps of who presented what.

With the strict one a refresh token that was spent revokes its grant when it comes again; the other
answers it with the same successor for a while (a grace). Requests and answers are lost, late, or met
by an error; a request that has left a process takes its course whatever becomes of that.
"""

from datetime import timedelta
from enum import StrEnum

import anyio
import msgspec

from actors.ports import Clock
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, Lost, NotSent, Place
from domain.profile import ProviderProfile, ReusePolicy, reuse_policy
from tests.simulation.hosts import Life
from tests.simulation.world import World

GRACE_S = 20.0
TIMEOUT_S = 3.0
_RETRY_AFTER_S = 2


class Fate(StrEnum):
    """What the provider made of a token that was presented."""

    ROTATED = "rotated"
    GRACED = "graced"
    """It was spent, and its successor came again."""
    REVOKED = "revoked"
    """It was spent, or its grant was revoked before: invalid_grant."""
    NOT_LOOKED_AT = "not looked at"
    """Refused before: a 5xx, or a rate limit."""


class Presented:
    """One line of the book."""

    def __init__(self, at_s: float, token: str, by: str, sent_s: float) -> None:
        """A token arrives."""
        self.at_s = at_s
        self.sent_s = sent_s
        self.token = token
        self.by = by
        self.fate: Fate | None = None
        self.issued = ""
        """The refresh token that it was answered with."""
        self.is_heard = False
        """Whether the whole answer came to the process that asked."""
        self.heard_s = -1.0
        self.left_s = -1.0
        """When the provider was done with it."""

    @property
    def family(self) -> str:
        """Which grant it belongs to."""
        return family_of(self.token)


class _Grant:
    """A family of tokens."""

    def __init__(self) -> None:
        self.number = 1
        """Of the refresh token that works."""
        self.rotated_s = -1.0
        self.is_revoked = False


class Provider:
    """All providers and their books."""

    def __init__(self, world: World, *, lifetime_s: int, max_concurrency: int) -> None:
        """Know no grant."""
        self.world = world
        self.lifetime_s = lifetime_s
        self.max_concurrency = max_concurrency
        self.book: list[Presented] = []
        self.inside: dict[str, int] = {}
        """How many requests are under way, by family."""
        self.crowds: list[tuple[float, str, int]] = []
        """When more requests than the limit were at a provider at once, and how many."""
        self.grants: dict[str, _Grant] = {}
        self.down_until_s = -1.0
        self.profiles = {
            slug: ProviderProfile(
                slug=slug,
                client_id="me",
                reuse_policy=policy,
                timeout_s=TIMEOUT_S,
                connect_timeout_s=1.0,
                ambiguous_max=1_000,
                lifetime_default_s=lifetime_s,
                probe_interval_s=5.0,
                outage_probe_interval_s=2.0,
                max_concurrency=max_concurrency,
                margin_s=20.0,
            )
            for slug, policy in _POLICIES.items()
        }

    def grant(self, slug: str, name: str) -> tuple[str, str]:
        """Give a user's consent: return the first access and refresh token."""
        family = f"{slug}.{name}"
        self.grants[family] = _Grant()
        return f"a.{family}.1", f"r.{family}.1"

    def present(self, token: str, by: str, sent_s: float) -> "tuple[Presented, int, object]":
        """Take one request; return its line, the status and the body of the answer."""
        one = Presented(self.world.now_s(), token, by, sent_s)
        self.book.append(one)
        family, number = family_of(token), token.rpartition(".")[2]
        grant, weather = self.grants[family], self.world.weather
        if self.world.now_s() < self.down_until_s or self.world.chance(
            "provider", weather.provider_fails / 2
        ):
            one.fate = Fate.NOT_LOOKED_AT
            return one, 503, {}
        if self.world.chance("provider", weather.provider_limits):
            one.fate = Fate.NOT_LOOKED_AT
            return one, 429, {}
        if grant.is_revoked:
            one.fate = Fate.REVOKED
        elif int(number) == grant.number:
            grant.number += 1
            grant.rotated_s, one.fate = self.world.now_s(), Fate.ROTATED
        elif self._is_graced(family, int(number)):
            one.fate = Fate.GRACED
        else:
            grant.is_revoked, one.fate = True, Fate.REVOKED
        if one.fate is Fate.REVOKED:
            return one, 400, {"error": "invalid_grant"}
        one.issued = f"r.{family}.{grant.number}"
        if self.world.chance("provider", weather.provider_fails / 2):
            return one, 500, {}
        return one, 200, self._tokens(family, grant.number)

    def note_inside(self, slug: str) -> None:
        """Remember how many requests are under way at one provider."""
        now = sum(one for family, one in self.inside.items() if family.startswith(f"{slug}."))
        if now > self.max_concurrency:
            self.crowds.append((self.world.now_s(), slug, now))

    def _is_graced(self, family: str, number: int) -> bool:
        grant, policy = self.grants[family], _POLICIES[family.partition(".")[0]]
        is_last = number == grant.number - 1
        return is_last and self.world.now_s() < grant.rotated_s + policy.grace_s

    def _tokens(self, family: str, number: int) -> dict[str, object]:
        return {
            "access_token": f"a.{family}.{number}",
            "refresh_token": f"r.{family}.{number}",
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
        }


def family_of(token: str) -> str:
    """Return the grant that a token belongs to."""
    return token.partition(".")[2].rpartition(".")[0]


_POLICIES: dict[str, ReusePolicy] = {
    "strict": reuse_policy("none"),
    "grace": reuse_policy(f"grace:{GRACE_S:g}"),
}


class SimulatedEndpoint:
    """Implements ``actors.ports.TokenEndpoint`` for one process."""

    def __init__(self, provider: Provider, life: Life, clock: Clock) -> None:
        """Reach for all providers."""
        self._provider = provider
        self._world = provider.world
        self._life = life
        self._clock = clock

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """See ``TokenEndpoint``: each provider has one host."""
        del params, endpoint_base
        return Place(f"{profile.slug}.test", f"https://{profile.slug}.test/token")

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        world, weather, provider = self._world, self._world.weather, self._provider
        if not self._life.is_alive:
            await anyio.sleep_forever()
        if world.chance("provider", weather.provider_unreached):
            await anyio.sleep(0.05)
            return NotSent(code="connect_failed")
        token, by = request.presented.reveal().decode(), self._life.name
        answered, answers = anyio.Event(), list[Exchange]()
        began_s = world.now_s()
        world.note(by, f"presents {token}")
        family = family_of(token)
        before_s = self._takes_s()
        if world.chance("provider", weather.provider_lost_before):
            before_s = TIMEOUT_S * 2

        def arrive() -> None:
            if before_s > TIMEOUT_S:
                return
            provider.inside[family] = provider.inside.get(family, 0) + 1
            if provider.inside[family] > 1:
                world.breaks(f"two requests for {family} are inside at once, one by {by}")
            provider.note_inside(family.partition(".")[0])
            one, status, body = provider.present(token, by, began_s)
            takes_s = min(self._takes_s(), began_s + TIMEOUT_S - world.now_s() - 0.01)
            is_lost = world.chance("provider", weather.provider_lost_after)
            world.note("provider", f"{token} by {by}: {status}, {one.fate}{' LOST' * is_lost}")

            def leave() -> None:
                provider.inside[family] -= 1
                one.left_s = world.now_s()
                if is_lost:
                    return
                one.is_heard = status == 200 and self._life.is_alive
                one.heard_s = world.now_s()
                answers.append(self._answered(status, body, world.now_s() - began_s))
                answered.set()

            world.after(takes_s, leave)

        world.after(min(before_s, TIMEOUT_S * 2), arrive)
        with anyio.move_on_after(TIMEOUT_S):
            await answered.wait()
        return answers[0] if answers else Lost(code="timeout")

    def _takes_s(self) -> float:
        draws = self._world.draws("provider")
        if draws.random() < self._world.weather.provider_slow:
            return draws.uniform(0.2, TIMEOUT_S * 0.6)
        return draws.uniform(0.02, 0.15)

    def _answered(self, status: int, body: object, took_s: float) -> Answered:
        now = self._clock.now()
        return Answered(
            status=status,
            body=Secret(msgspec.json.encode(body)),
            content_type="application/json",
            retry_after=str(_RETRY_AFTER_S) if status == 429 else None,
            sent_at=now - timedelta(seconds=took_s),
            received_at=now,
        )
