"""A request without a free slot is not sent; an answer takes no more memory than was agreed."""

import asyncio
import gzip
import tracemalloc
from datetime import UTC, datetime

import httpx2
import pytest

from domain.exchange import Lost, NotSent
from runtime.provider.http_sender import Bounds, HttpSender
from tests.fakes.raw_http import answer, raw_http, silent

SOON_S = 0.25
SENDERS_NOW = datetime(2026, 3, 4, tzinfo=UTC)


def bounds(connect_timeout_s: float, for_s: float, *, answer_bytes_max: int = 1024) -> Bounds:
    return Bounds(
        pool="one",
        connections_max=1,
        connect_timeout_s=connect_timeout_s,
        deadline_s=asyncio.get_running_loop().time() + for_s,
        answer_bytes_max=answer_bytes_max,
    )


@pytest.mark.parametrize("spans_s", [(SOON_S, 30.0), (30.0, SOON_S)], ids=["connect", "total"])
async def test_without_a_free_slot_it_is_not_sent(spans_s: tuple[float, float]):
    sender = HttpSender(now=lambda: SENDERS_NOW)

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


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_small_answer_that_unpacks_to_a_huge_one_takes_no_more_memory_than_was_agreed(
    coding: str,
):
    sender = HttpSender(now=lambda: SENDERS_NOW)
    packed = gzip.compress(b" " * 50_000_000)
    behaviour = answer(packed, headers={"Content-Encoding": coding})

    async with raw_http(behaviour) as server:
        tracemalloc.start()
        try:
            outcome = await sender.send(
                httpx2.Request("GET", server.url), bounds(30.0, 30.0, answer_bytes_max=64 * 1024)
            )
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await sender.aclose()

    assert outcome == Lost(code="answer_too_large")
    assert peak_bytes < 5_000_000
