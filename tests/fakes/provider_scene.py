"""A fake provider on a clock that only the test moves, with a client of it."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx2

from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider

BASIC = ("fake-client", "fake-secret")


class ProviderScene:
    """What a test of the fake provider holds; make one with ``provider_scene``."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.slept: list[float] = []
        self.provider: FakeProvider
        self.http: httpx2.AsyncClient

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.now_s += delay_s

    def grant(self, **quirks: Any) -> Issued:
        self.provider.quirks.set(quirks, replace=True)
        return self.provider.create()

    async def refresh(self, refresh_token: str | None, **more: str) -> httpx2.Response:
        assert refresh_token is not None
        body = {"grant_type": "refresh_token", "refresh_token": refresh_token} | more
        return await self.http.post("/token", data=body, auth=BASIC)

    async def opens(self, access_token: str) -> bool:
        headers = {"authorization": f"Bearer {access_token}"}
        return (await self.http.get("/resource", headers=headers)).status_code == 200

    async def show(self, path: str) -> dict[str, Any]:
        return (await self.http.get(path)).json()

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.http.post(path, json=body)


@contextlib.asynccontextmanager
async def provider_scene() -> AsyncGenerator[ProviderScene]:
    """Yield a scene whose provider listens."""
    scene = ProviderScene()
    async with running_fake_provider(clock=scene.clock, sleep=scene.sleep) as scene.provider:
        base_url = scene.provider.url
        async with httpx2.AsyncClient(base_url=base_url) as scene.http:
            yield scene
