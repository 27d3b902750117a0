"""An issuer's token endpoint is found once, kept for a while, and trusted only as far as named."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from domain.credentials import Secret
from domain.exchange import Answered, Exchange, Lost, Misconfigured, NotSent
from runtime.provider.discovery import Discovery, metadata_urls

ISSUER = "https://login.example/tenant"
ENDPOINT = "https://login.example/tenant/token"
RFC8414, OPENID = metadata_urls(ISSUER)
FAILED = NotSent(code="discovery_failed")


def document(body: bytes | None = None, *, status: int = 200, **fields: Any) -> Answered:
    metadata = {"issuer": ISSUER, "token_endpoint": ENDPOINT, **fields}
    return Answered(
        status=status,
        body=Secret(msgspec.json.encode(metadata) if body is None else body),
        sent_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


NOT_FOUND = document(b"<html>", status=404)


class Web:
    """Documents by address; a test may hold answers back and turn the clock."""

    def __init__(self) -> None:
        self.documents: dict[str, Exchange] = {}
        self.asked: list[str] = []
        self.now_s = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_asked = asyncio.Event()
        self.discovery = Discovery(self.fetch, monotonic=lambda: self.now_s)

    async def fetch(self, url: str) -> Exchange:
        self.asked.append(url)
        self.was_asked.set()
        await self.may_answer.wait()
        return self.documents.get(url, NOT_FOUND)

    async def found(self, *allowed_hosts: str) -> str | Misconfigured | NotSent:
        return await self.discovery.token_endpoint(ISSUER, allowed_hosts=allowed_hosts)


@pytest.fixture
async def web() -> AsyncGenerator[Web]:
    made = Web()
    yield made
    await made.discovery.aclose()


@pytest.mark.parametrize(
    ("issuer", "rfc8414", "openid"),
    [
        (
            "https://a.example",
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ),
        (
            "https://a.example/",
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ),
        (
            "http://[::1]:8080/t/v2.0",
            "http://[::1]:8080/.well-known/oauth-authorization-server/t/v2.0",
            "http://[::1]:8080/t/v2.0/.well-known/openid-configuration",
        ),
    ],
)
def test_metadata_is_where_the_two_standards_put_it(issuer: str, rfc8414: str, openid: str):
    assert metadata_urls(issuer) == (rfc8414, openid)


@pytest.mark.parametrize("place", [RFC8414, OPENID])
async def test_either_document_will_do(web: Web, place: str):
    web.documents[place] = document()

    assert await web.found() == ENDPOINT


async def test_the_oauth_document_comes_first(web: Web):
    web.documents[RFC8414] = document()

    await web.found()

    assert web.asked == [RFC8414]


async def test_a_document_that_fits_wins_over_one_that_does_not(web: Web):
    web.documents[RFC8414] = document(issuer="https://other.example")
    web.documents[OPENID] = document()

    assert await web.found() == ENDPOINT


@pytest.mark.parametrize("issuer", [ISSUER + "/", "https://login.example", "https://evil.example"])
async def test_another_issuers_metadata_is_not_believed(web: Web, issuer: str):
    web.documents[RFC8414] = document(issuer=issuer)

    assert await web.found() == Misconfigured(code="issuer_mismatch")


async def test_an_endpoint_elsewhere_must_be_on_the_list(web: Web):
    elsewhere = "https://oauth2.tokens.example/token"
    web.documents[OPENID] = document(token_endpoint=elsewhere)

    assert await web.found() == Misconfigured(code="host_not_allowed")
    assert await web.found("oauth2.tokens.example") == elsewhere


@pytest.mark.parametrize(
    "exchange",
    [
        NOT_FOUND,
        document(status=302),
        document(status=500),
        document(b"not json"),
        document(b"\xff"),
        document(b"[" * 100_000),
        document(b'{"issuer":"https://login.example/tenant"}'),
        document(token_endpoint=7),
        Lost(code="timeout"),
        NotSent(code="connect_failed"),
        Misconfigured(code="whatever"),
    ],
)
async def test_where_there_is_no_document_nothing_was_sent(web: Web, exchange: Exchange):
    web.documents = {RFC8414: exchange, OPENID: exchange}

    assert await web.found() == FAILED
    assert web.asked == [RFC8414, OPENID]


async def test_what_was_found_is_kept_for_an_hour(web: Web):
    web.documents[RFC8414] = document()
    await web.found()
    web.now_s = 3599.0
    await web.found()
    assert len(web.asked) == 1
    web.now_s = 3600.0

    await web.found()

    assert len(web.asked) == 2


async def test_a_failure_is_kept_for_seconds(web: Web):
    await web.found()
    web.documents[RFC8414] = document()
    web.now_s = 4.9
    assert await web.found() == FAILED
    assert len(web.asked) == 2
    web.now_s = 5.0

    assert await web.found() == ENDPOINT


async def test_simultaneous_callers_share_one_search(web: Web):
    web.documents[RFC8414] = document()
    web.may_answer.clear()
    callers = [asyncio.create_task(web.found()) for _ in range(5)]
    await web.was_asked.wait()

    web.may_answer.set()

    assert await asyncio.gather(*callers) == [ENDPOINT] * 5
    assert len(web.asked) == 1


async def test_a_caller_that_leaves_does_not_end_the_search(web: Web):
    web.documents[RFC8414] = document()
    web.may_answer.clear()
    leaver, stayer = (asyncio.create_task(web.found()) for _ in range(2))
    await web.was_asked.wait()

    leaver.cancel()
    await asyncio.wait({leaver})
    web.may_answer.set()

    assert leaver.cancelled()
    assert await stayer == ENDPOINT


async def test_closing_ends_the_searches(web: Web):
    web.may_answer.clear()
    caller = asyncio.create_task(web.found())
    await web.was_asked.wait()

    await web.discovery.aclose()

    await asyncio.wait({caller})
    assert caller.cancelled()


async def test_what_is_kept_is_bounded(web: Web):
    for tenant in range(1001):
        await web.discovery.token_endpoint(f"https://{tenant}.example", allowed_hosts=())

    assert len(web.discovery._kept) == 1000
