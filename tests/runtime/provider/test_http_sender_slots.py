"""A request that finds no free slot is not sent."""

import asyncio
from datetime import UTC, datetime

import httpx2
import pytest

from domain.exchange import NotSent
from runtime.provider.http_sender import Bounds, HttpSender
from tests.fakes.raw_http import raw_http, silent

SOON_S = 0.15


@pytest.mark.parametrize("spans_s", [(SOON_S, 30.0), (30.0, SOON_S)], ids=["connect", "total"])
async def test_without_a_free_slot_it_is_not_sent(spans_s: tuple[float, float]):
    now_s = asyncio.get_running_loop().time()
    sender = HttpSender(now=lambda: datetime.now(UTC))

    def bounds(connect_timeout_s: float, for_s: float) -> Bounds:
        return Bounds(
            pool="one",
            connections_max=1,
            connect_timeout_s=connect_timeout_s,
            deadline_s=now_s + for_s,
            answer_bytes_max=1024,
        )

    async with raw_http(silent) as server:
        request = httpx2.Request("GET", server.url)
        first = asyncio.create_task(sender.send(request, bounds(30.0, 30.0)))
        await server.asked.wait()

        second = await sender.send(httpx2.Request("GET", server.url), bounds(*spans_s))

        assert second == NotSent(code="pool_timeout")
        assert server.connections == 1
        first.cancel()
        await asyncio.wait({first})
        await sender.aclose()
