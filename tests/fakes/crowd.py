"""Connections of one client whose access tokens have ended, at a provider that counts."""

from collections.abc import Iterable
from typing import Any

import anyio

from actors.token_desk import read_ask
from actors.wish import Wish
from domain.commands import GetToken
from domain.exchange import Exchange, ExchangeRequest
from tests.fakes.commands import connection_number
from tests.fakes.providers import VirtualClock, providers
from tests.fakes.stage import Sent, Stage
from tests.fakes.tenants import Fault, TenantProvider, by_shop, connect, shared


class CountingProvider(TenantProvider):
    """Notes when it was asked, by host."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock, lifetime_s=3600)
        self.at_s: dict[str, list[float]] = {}
        self.order: list[str] = []
        """Who was asked for, by refresh token."""
        self.bad_secret: int | None = None
        """Which of the client's secrets it refuses."""

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        host = self.place(request.profile, request.params, None).host
        self.at_s.setdefault(host, []).append(anyio.current_time())
        self.order.append(request.presented.reveal().decode())
        if request.secret_index == self.bad_secret:
            await anyio.sleep(self.takes_s)
            return self._failed(Fault.BAD_SECRET)
        return await super().exchange(request)


class Crowd:
    """Connections of one client whose access tokens have ended."""

    def __init__(self, *, is_templated: bool = False, **profile: Any) -> None:
        self.clock = VirtualClock()
        self.provider = CountingProvider(self.clock)
        kind = by_shop if is_templated else shared
        self.profile = kind("acme", **profile)
        self.stage = Stage(clock=self.clock, providers=providers(self.provider, self.profile))

    async def connect(self, number: int, shop: str = "") -> None:
        one = connection_number(number)
        await self.stage.ask(connect(one, "acme", f"r{number}", shop=shop, clock=self.clock))

    def fly(self, number: int, *, due_s: float) -> None:
        """Let a proactive flight take off, as what is due does."""
        actor = self.stage.directory._actors[connection_number(number).int]
        connection = actor.connection
        assert connection is not None
        ask = GetToken(connection_id=connection.id)
        secret = read_ask(connection, ask, self.stage.directory.world).secret
        assert secret is not None
        actor.take_off(Wish(secret, connection.generation, False, is_proactive=True, due_s=due_s))

    def ask(self, number: int, **fields: Any) -> Sent:
        return self.stage.send(GetToken(connection_id=connection_number(number)), **fields)

    def not_refreshed(self, numbers: Iterable[int]) -> list[int]:
        """Return who of them still has the credentials that it was connected with."""
        return [one for one in numbers if self.stage.stored(connection_number(one)).generation == 1]
