"""One request goes out as the profile says, and its answer comes back as it was, once."""

import gzip
import logging
import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk, jwt

from domain.credentials import Secret
from domain.exchange import NOWHERE, Answered, ExchangeRequest, Misconfigured, Place
from domain.profile import BodyFormat, ClientAuth, Method, ProviderProfile
from runtime.provider.client_auth import ProviderSecrets
from runtime.provider.token_endpoint import HttpTokenEndpoint
from tests.fakes.raw_http import Behaviour, Received, answer, raw_http

NOW = datetime(2026, 3, 4, 5, 6, 7, 500_000, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)
TOKENS = b'{"access_token":"new-access","refresh_token":"new-refresh"}'
SECRETS = ProviderSecrets(
    client_secrets=(Secret(b"first"), Secret(b"second")), private_key=Secret(KEY)
)
PRESENTED = "old+refresh/=& \u00fc"


@pytest.fixture
async def endpoint() -> AsyncGenerator[HttpTokenEndpoint]:
    async with HttpTokenEndpoint(
        lambda one: {"acme": SECRETS}[one.slug], now=lambda: NOW
    ) as opened:
        yield opened


def profile_of(url: str | None, **fields: Any) -> ProviderProfile:
    return ProviderProfile(slug="acme", client_id="us", token_endpoint=url, **fields)


def asking(profile: ProviderProfile, **fields: Any) -> ExchangeRequest:
    return ExchangeRequest(profile=profile, presented=Secret(PRESENTED.encode()), **fields)


async def received(
    endpoint: HttpTokenEndpoint, *, path: str = "", request: dict[str, Any] | None = None, **f: Any
) -> Received:
    """Return what the provider was sent."""
    async with raw_http(answer(TOKENS)) as server:
        profile = profile_of(server.url + path, **f)
        exchange = await endpoint.exchange(asking(profile, **(request or {})))
    assert isinstance(exchange, Answered), exchange
    assert len(server.requests) == 1
    return server.requests[0]


async def answered(endpoint: HttpTokenEndpoint, behaviour: Behaviour, **fields: Any) -> Answered:
    async with raw_http(behaviour) as server:
        exchange = await endpoint.exchange(asking(profile_of(server.url, **fields)))
    assert isinstance(exchange, Answered), exchange
    assert server.connections == 1
    return exchange


async def test_a_refresh_is_a_form_with_the_client_in_the_header(endpoint: HttpTokenEndpoint):
    request = await received(endpoint)

    assert (request.method, request.target) == ("POST", "/token")
    assert request.form == {"grant_type": "refresh_token", "refresh_token": PRESENTED}
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert request.headers["authorization"] == "Basic dXM6Zmlyc3Q="
    assert re.fullmatch(r"refreshd/\d+\.\d+\.\d+", request.headers["user-agent"])
    assert "cookie" not in request.headers


async def test_the_client_may_be_in_the_body(endpoint: HttpTokenEndpoint):
    request = await received(
        endpoint, client_auth=ClientAuth.CLIENT_SECRET_POST, request={"secret_index": 1}
    )

    assert request.form["client_id"] == "us"
    assert request.form["client_secret"] == "second"
    assert "authorization" not in request.headers


async def test_json_goes_as_json(endpoint: HttpTokenEndpoint):
    request = await received(endpoint, body_format=BodyFormat.JSON)

    assert msgspec.json.decode(request.body) == {
        "grant_type": "refresh_token",
        "refresh_token": PRESENTED,
    }
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "body_format"),
    [
        (Method.POST, BodyFormat.QUERY),
        (Method.GET, BodyFormat.QUERY),
        (Method.GET, BodyFormat.FORM),
    ],
)
@pytest.mark.parametrize("path", ["", "?tenant=a"])
async def test_a_query_goes_beside_what_the_url_has(
    endpoint: HttpTokenEndpoint, method: Method, body_format: BodyFormat, path: str
):
    request = await received(endpoint, path=path, method=method, body_format=body_format)

    expected = {"grant_type": "refresh_token", "refresh_token": PRESENTED}
    assert request.query == ({"tenant": "a", **expected} if path else expected)
    assert request.method == method.value
    assert request.body == b""


async def test_what_a_profile_renames_omits_and_adds_is_done(endpoint: HttpTokenEndpoint):
    request = await received(
        endpoint,
        grant_type=None,
        token_parameter="token",
        scope="a b",
        params={"host": "default", "kind": "refresh"},
        extra_parameters={"type": "{kind}", "resource": "https://{host}/"},
        extra_headers={
            "Accept": "*/*",
            "X-Version": "7",
            "X-Host": "{host}",
            "X-Id": "{request_id}",
        },
        request={"params": {"host": "own"}},
    )

    assert request.form == {
        "token": PRESENTED,
        "scope": "a b",
        "type": "refresh",
        "resource": "https://own/",
    }
    assert request.headers["accept"] == "*/*"
    assert (request.headers["x-version"], request.headers["x-host"]) == ("7", "own")
    assert UUID(request.headers["x-id"]).version == 4


async def test_the_scope_is_left_out_when_asked_to(endpoint: HttpTokenEndpoint):
    request = await received(endpoint, scope="a b", request={"with_scope": False})

    assert "scope" not in request.form


async def test_an_extra_parameter_does_not_replace_token_or_client(endpoint: HttpTokenEndpoint):
    request = await received(
        endpoint,
        client_auth=ClientAuth.CLIENT_SECRET_POST,
        extra_parameters={"refresh_token": "x", "client_secret": "x"},
    )

    assert request.form["refresh_token"] == PRESENTED
    assert request.form["client_secret"] == "first"


async def test_a_refresh_endpoint_comes_before_the_token_endpoint(endpoint: HttpTokenEndpoint):
    async with raw_http(answer(TOKENS)) as server:
        profile = profile_of("https://never.invalid/", refresh_endpoint=server.url + "/refresh")

        await endpoint.exchange(asking(profile))

    assert server.requests[0].target == "/token/refresh"


@pytest.mark.parametrize(
    ("fields", "params", "expected"),
    [
        ({}, None, Place("provider.example:8443", "https://provider.example:8443/token")),
        (
            {"refresh_endpoint": "https://r.example/again"},
            None,
            Place("r.example", "https://r.example/again"),
        ),
        (
            {"token_endpoint": None, "issuer": "https://issuer.example/a"},
            None,
            Place("issuer.example", "https://issuer.example/a"),
        ),
        (
            {"token_endpoint": "https://{shop}.example/token", "allowed_hosts": ("*.example",)},
            {"shop": "Mine"},
            Place("mine.example", "https://mine.example/token"),
        ),
        (
            {"token_endpoint": "https://{shop}.example/token", "allowed_hosts": ("*.example",)},
            {"shop": "my_shop"},
            NOWHERE,
        ),
        ({"token_endpoint": None}, None, NOWHERE),
    ],
)
async def test_where_a_request_would_go_is_told_without_asking(
    endpoint: HttpTokenEndpoint,
    fields: dict[str, Any],
    params: dict[str, str] | None,
    expected: Place,
):
    profile = profile_of("https://provider.example:8443/token")

    assert endpoint.place(msgspec.structs.replace(profile, **fields), params, None) == expected


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"token_endpoint": None}, "endpoint_missing"),
        ({"token_endpoint": "https://{tenant}.example/"}, "template_value_missing"),
        ({"token_endpoint": "http://provider.example/"}, "endpoint_not_https"),
        ({"extra_parameters": {"a": "{b}"}}, "template_value_missing"),
        ({"extra_headers": {"X-A": "a\r\nX-B: b"}}, "header_not_allowed"),
        ({"extra_headers": {"X A": "a"}}, "header_not_allowed"),
        ({"extra_headers": {"X-A": "{missing}"}}, "template_value_missing"),
        ({"extra_headers": {"Host": "evil.example"}}, "header_not_allowed"),
        ({"extra_headers": {"Content-Length": "1"}}, "header_not_allowed"),
        ({"slug": "other"}, "client_secret_missing"),
    ],
)
async def test_what_cannot_be_asked_is_not(
    endpoint: HttpTokenEndpoint, fields: dict[str, Any], code: str
):
    async with raw_http(answer(TOKENS)) as server:
        profile = msgspec.structs.replace(profile_of(server.url), **fields)

        exchange = await endpoint.exchange(asking(profile))

    assert exchange == Misconfigured(code=code)
    assert server.connections == 0


async def test_a_token_too_long_for_a_query_is_not_sent(endpoint: HttpTokenEndpoint):
    profile = profile_of("https://provider.example/", body_format=BodyFormat.QUERY)

    exchange = await endpoint.exchange(
        ExchangeRequest(profile=profile, presented=Secret(b"x" * 70_000))
    )

    assert exchange == Misconfigured(code="request_too_long")


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized", "503 Down"])
async def test_an_answer_comes_back_as_it_was(endpoint: HttpTokenEndpoint, status: str):
    exchange = await answered(endpoint, answer(TOKENS, status=status))

    assert exchange.status == int(status[:3])
    assert exchange.body.reveal() == TOKENS
    assert exchange.content_type == "application/json"
    assert exchange.received_at == NOW
    assert NOW - timedelta(seconds=5) < exchange.sent_at < NOW
    assert exchange.date is None
    assert exchange.retry_after is None
    assert not exchange.is_rate_limited


async def test_a_redirect_is_an_answer_and_is_not_followed(endpoint: HttpTokenEndpoint):
    async with raw_http(answer(TOKENS)) as other:
        behaviour = answer(status="307 Temporary Redirect", headers={"Location": other.url})

        exchange = await answered(endpoint, behaviour)

    assert exchange.status == 307
    assert other.connections == 0


async def test_a_packed_answer_is_unpacked(endpoint: HttpTokenEndpoint):
    behaviour = answer(gzip.compress(TOKENS), headers={"Content-Encoding": "gzip"})

    assert (await answered(endpoint, behaviour)).body.reveal() == TOKENS


@pytest.mark.parametrize("date", [NOW, NOW + timedelta(hours=1)])
async def test_the_providers_clock_is_read(endpoint: HttpTokenEndpoint, date: datetime):
    behaviour = answer(headers={"Date": format_datetime(date, usegmt=True)})

    assert (await answered(endpoint, behaviour)).date == date.replace(microsecond=0)


@pytest.mark.parametrize("text", ["", "soon", "Wed, 99 Xyz 2026 05:06:07 GMT", "1" * 400])
async def test_a_date_that_is_none_is_ignored(endpoint: HttpTokenEndpoint, text: str):
    exchange = await answered(endpoint, answer(TOKENS, headers={"Date": text}))

    assert exchange.date is None


@pytest.mark.parametrize("text", ["7", "Wed, 04 Mar 2026 05:06:07 GMT"])
async def test_retry_after_comes_as_it_is(endpoint: HttpTokenEndpoint, text: str):
    behaviour = answer(status="429 Too Many", headers={"Retry-After": text})

    assert (await answered(endpoint, behaviour)).retry_after == text


@pytest.mark.parametrize("text", ["x" * 65, "7\u00e9"])
async def test_a_retry_after_that_is_no_time_is_ignored(endpoint: HttpTokenEndpoint, text: str):
    exchange = await answered(endpoint, answer(headers={"Retry-After": text}))

    assert exchange.retry_after is None


@pytest.mark.parametrize(
    ("status", "headers", "is_limited"),
    [
        ("403 Forbidden", {"X-RateLimit-Remaining": "0"}, True),
        ("429 Too Many", {"RateLimit-Remaining": "0"}, True),
        ("400 Bad Request", {"x-rate-limit-remaining": "0"}, True),
        ("403 Forbidden", {"X-RateLimit-Remaining": "10"}, False),
        ("200 OK", {"X-RateLimit-Remaining": "0"}, False),
        ("401 Unauthorized", {"X-RateLimit-Remaining": "0"}, False),
    ],
)
async def test_a_used_up_rate_limit_is_read_from_the_headers(
    endpoint: HttpTokenEndpoint, status: str, headers: dict[str, str], is_limited: bool
):
    exchange = await answered(endpoint, answer(status=status, headers=headers))

    assert exchange.is_rate_limited is is_limited


async def test_every_request_has_a_connection_of_its_own(endpoint: HttpTokenEndpoint):
    async with raw_http(answer(TOKENS, headers={"Set-Cookie": "session=1"})) as server:
        for _ in range(3):
            await endpoint.exchange(asking(profile_of(server.url)))

    assert server.connections == len(server.requests) == 3
    assert not any("cookie" in request.headers for request in server.requests)


async def test_the_environment_names_no_proxy(
    endpoint: HttpTokenEndpoint, monkeypatch: pytest.MonkeyPatch
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert (await answered(endpoint, answer(TOKENS))).status == 200


async def test_no_log_line_and_no_repr_shows_a_secret(
    endpoint: HttpTokenEndpoint, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx2")
    profile_fields = {
        "body_format": BodyFormat.QUERY,
        "client_auth": ClientAuth.CLIENT_SECRET_POST,
    }

    exchange = await answered(
        endpoint, answer(TOKENS, headers={"Set-Cookie": "new-access"}), **profile_fields
    )

    seen = f"{caplog.text} {exchange!r} {exchange} {endpoint!r}"
    assert not re.search("old|first|new-", seen)


@pytest.mark.parametrize(
    ("ahead", "skew_s"),
    [
        (timedelta(), 0.0),
        (timedelta(hours=-1), -3599.5),
        (timedelta(hours=1), 3599.5),
        (timedelta(seconds=0.5), 0.5),
    ],
)
async def test_an_assertion_is_timed_by_the_clock_last_seen(
    endpoint: HttpTokenEndpoint, ahead: timedelta, skew_s: float
):
    date = format_datetime(NOW + ahead, usegmt=True)
    async with raw_http(answer(headers={"Date": date})) as server:
        profile = profile_of(
            server.url, client_auth=ClientAuth.PRIVATE_KEY_JWT, assertion_algorithm="ES256"
        )
        for _ in range(2):
            await endpoint.exchange(asking(profile))

    public = jwk.ECKey.import_key(KEY)
    issued = [
        jwt.decode(request.form["client_assertion"], public, ["ES256"]).claims
        for request in server.requests
    ]
    assert [claims["iat"] for claims in issued] == [
        int(NOW.timestamp()),
        int((NOW + timedelta(seconds=skew_s)).timestamp()),
    ]
    assert issued[0]["aud"] == server.url
