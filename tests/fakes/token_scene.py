"""One connection at a strictly rotating provider, on virtual time."""

from datetime import timedelta
from typing import Any

import anyio
import msgspec

from actors.world import Limits
from domain.commands import Connect, GetToken
from domain.credentials import CredentialType, Secret, Unsealed
from domain.decision import AccessToken
from domain.profile import NO_REUSE, ProviderProfile
from domain.result import Failure, Success
from tests.fakes.commands import PROVIDER, SLUG, USER, connection_number
from tests.fakes.providers import RotatingProvider, VirtualClock, providers
from tests.fakes.stage import Stage
from tests.fakes.world import CountingIds, MemoryLedger

ID = connection_number(1)
LIVES_S = 3600
HASTY_S = 0.6
"""Time enough for one attempt, and for no back-off."""


class Scene:
    """A stage with a rotating provider, on virtual time."""

    def __init__(self, limits: Limits | None = None, **profile: Any) -> None:
        self.clock = VirtualClock()
        self.provider = RotatingProvider(self.clock, lifetime_s=LIVES_S)
        settings: dict[str, Any] = {"reuse_policy": NO_REUSE} | profile
        self.profile = ProviderProfile(slug=SLUG, client_id="me", **settings)
        self.stage = Stage(
            limits=limits,
            clock=self.clock,
            providers=providers(self.provider, self.profile),
        )

    def connect(self, *, lives_s: float | None = -1.0, presented: str | None = "r1") -> Connect:
        """Return a connect with ``a1`` and, unless None, ``r1``."""
        secret: dict[str, str] = {"access_token": "a1"}
        if presented is not None:
            secret["refresh_token"] = presented
        return Connect(
            connection_id=ID,
            user_id=USER,
            provider_id=PROVIDER,
            provider_slug=SLUG,
            credentials=Unsealed(
                credential_type=CredentialType.OAUTH2,
                secret=Secret(msgspec.json.encode(secret)),
                expires_at=None
                if lives_s is None
                else self.clock.now() + timedelta(seconds=lives_s),
            ),
        )

    def restarted(self, ledger: MemoryLedger | None = None) -> Stage:
        """Return another daemon's stage, on the same ledger or on what a crash left of it."""
        return Stage(
            ledger=ledger or self.stage.ledger,
            clock=self.clock,
            providers=self.stage.providers,
            ids=CountingIds(1_000_000),
        )

    async def cut_amid_a_flight(self) -> Stage:
        """Return another daemon's stage, on what a crash left of a first refresh's flight."""
        async with self.stage.opened():
            await self.stage.ask(self.connect())
            self.provider.takes_s = 20.0
            self.stage.send(GetToken(connection_id=ID))
            await anyio.sleep(5.0)
            left = MemoryLedger()
            left.records |= self.stage.ledger.records
        return self.restarted(left)

    async def token(self, patience_s: float = 60.0, **ask: Any) -> AccessToken | Failure:
        """Ask, and return the token or the failure."""
        reply = await self.stage.ask(GetToken(connection_id=ID, **ask), patience_s=patience_s)
        if isinstance(reply, Success):
            assert isinstance(reply.value, AccessToken)
            return reply.value
        return reply

    async def fresh(self, **ask: Any) -> str:
        """Ask, and return the access token, which must be no stale one."""
        got = await self.token(**ask)
        assert isinstance(got, AccessToken), got
        assert not got.stale
        return got.access_token

    async def refused(self, patience_s: float = HASTY_S, **ask: Any) -> Failure:
        """Ask without the time to wait for another attempt, and return the failure."""
        got = await self.token(patience_s, **ask)
        assert isinstance(got, Failure), got
        return got

    @property
    def story(self) -> list[str]:
        """The outcomes of the token_refresh workflow, in order."""
        return [
            line.removeprefix("token_refresh.")
            for line in self.stage.story_of(ID)
            if line.startswith("token_refresh.")
        ]
