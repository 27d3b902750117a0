"""An issuer's endpoint is asked as one that is written down; a probe tells what is wrong."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from domain.credentials import Secret
from domain.exchange import Answered, ExchangeRequest, NotSent
from domain.profile import AnswerPaths, ProviderProfile
from runtime.provider.client_auth import ProviderSecrets
from runtime.provider.token_endpoint import HttpTokenEndpoint
from tests.fakes.raw_http import Behaviour, RawHttpServer, answer, raw_http, silent

NOW = datetime(2026, 3, 4, 5, 6, 7, 500_000, tzinfo=UTC)
TOKENS = b'{"access_token":"new-access","refresh_token":"new-refresh"}'


@pytest.fixture
async def endpoint() -> AsyncGenerator[HttpTokenEndpoint]:
    secrets = ProviderSecrets(client_secrets=(Secret(b"hush"),))
    async with HttpTokenEndpoint(lambda _: secrets, now=lambda: NOW) as opened:
        yield opened


def profile_of(url: str | None, **fields: Any) -> ProviderProfile:
    return ProviderProfile(slug="acme", client_id="us", token_endpoint=url, **fields)


def asking(profile: ProviderProfile, **fields: Any) -> ExchangeRequest:
    return ExchangeRequest(profile=profile, presented=Secret(b"old-refresh"), **fields)


def issuing(metadata: Callable[[RawHttpServer], bytes]) -> Behaviour:
    """Answer a GET with an issuer's metadata, and a POST with tokens."""

    async def behave(
        server: RawHttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = await server.request(reader)
        body = metadata(server) if request.method == "GET" else TOKENS
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(head + body)

    return behave


def metadata_of(server: RawHttpServer) -> bytes:
    issuer = f"http://127.0.0.1:{server.port}/t1"
    return msgspec.json.encode({"issuer": issuer, "token_endpoint": server.url})


async def test_an_issuer_is_asked_once_where_its_tokens_are(endpoint: HttpTokenEndpoint):
    async with raw_http(issuing(metadata_of)) as server:
        profile = profile_of(None, issuer=f"http://127.0.0.1:{server.port}/{{tenant}}")
        for _ in range(2):
            exchange = await endpoint.exchange(asking(profile, params={"tenant": "t1"}))
            assert isinstance(exchange, Answered)

    assert [request.method for request in server.requests] == ["GET", "POST", "POST"]
    assert server.requests[0].target == "/.well-known/oauth-authorization-server/t1"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "bounds",
    [{"connect_timeout_s": 0.1, "timeout_s": 30.0}, {"connect_timeout_s": 30.0, "timeout_s": 0.2}],
)
async def test_a_silent_issuer_means_that_nothing_was_sent(
    endpoint: HttpTokenEndpoint, bounds: dict[str, float]
):
    async with raw_http(silent) as server:
        profile = profile_of(None, issuer=f"http://127.0.0.1:{server.port}", **bounds)

        exchange = await endpoint.exchange(asking(profile))

        assert exchange == NotSent(code="discovery_failed")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":"invalid_grant","error_description":"no"}', "invalid_grant"),
        (b"error=bad_refresh_token&error_description=no", "bad_refresh_token"),
        (b'{"error":{"nested":1}}', None),
        (b'{"error":"not a plain word"}', None),
        (b'["error"]', None),
        (b"\xff<html>", None),
        (b"", None),
    ],
)
async def test_a_probe_tells_the_code_and_presents_no_real_token(
    endpoint: HttpTokenEndpoint, body: bytes, code: str | None
):
    date = format_datetime(NOW + timedelta(hours=1), usegmt=True)
    async with raw_http(answer(body, status="400 Bad Request", headers={"Date": date})) as server:
        report = await endpoint.probe(profile_of(server.url))

    assert (report.outcome, report.endpoint, report.status) == ("answered", server.url, 400)
    assert report.error_code == code
    assert report.clock_skew_s == 3599.5
    assert report.elapsed_s == round(report.elapsed_s, 3) > 0
    assert server.requests[0].form["refresh_token"] == "refreshd-probe-this-is-no-token"


async def test_a_probe_reads_the_code_where_the_profile_says(endpoint: HttpTokenEndpoint):
    async with raw_http(answer(b'{"data":{"code":"gone"}}')) as server:
        report = await endpoint.probe(profile_of(server.url, answer=AnswerPaths(error="data.code")))

    assert report.error_code == "gone"


async def test_a_probe_tells_what_could_not_be_done(endpoint: HttpTokenEndpoint):
    async with raw_http(silent) as server:
        lost = await endpoint.probe(profile_of(server.url, timeout_s=1.0))
    missing = await endpoint.probe(profile_of(None))
    templated = await endpoint.probe(profile_of("https://{a}.example"), params={"a": "b"})

    assert (lost.outcome, lost.endpoint, lost.status) == ("timeout", server.url, None)
    assert (missing.outcome, missing.endpoint) == ("endpoint_missing", None)
    assert templated.outcome == "host_not_allowed"
