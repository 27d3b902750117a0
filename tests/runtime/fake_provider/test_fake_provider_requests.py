"""The fake provider judges how a client asks and proves itself, and how often it comes."""

import base64
import time
from collections.abc import AsyncGenerator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote_plus

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from runtime.fake_provider.clients import ASSERTION_TYPE, Client
from runtime.fake_provider.quirks import Quirks
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.provider_scene import BASIC, provider_scene
from tests.fakes.provider_scene import ProviderScene as Scene

POST_SECRET = {"client_id": "fake-client", "client_secret": "fake-secret"}
POST_BODY = b"grant_type=refresh_token&refresh_token=x"
NOW_S = 1_800_000_000


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    async with provider_scene() as scene:
        yield scene


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def ask(
    scene: Scene, *, headers: dict[str, str] | None = None, **more: str
) -> httpx2.Response:
    token = scene.provider.create(client_id=more.get("client_id")).refresh_token
    assert token is not None
    body = {"grant_type": "refresh_token", "refresh_token": token} | more
    return await scene.http.post("/token", data=body, headers=headers)


@pytest.mark.parametrize(
    ("wanted", "sent", "status"),
    [
        ("any", "basic", 200),
        ("any", "post", 200),
        ("any", "none", 401),
        ("client_secret_basic", "basic", 200),
        ("client_secret_basic", "post", 401),
        ("client_secret_post", "post", 200),
        ("client_secret_post", "basic", 401),
        ("none", "none", 200),
        ("none", "basic", 401),
        ("private_key_jwt", "basic", 401),
    ],
)
async def test_only_the_method_asked_for_is_taken(
    scene: Scene, wanted: str, sent: str, status: int
):
    scene.provider.quirks.set({"client_auth": wanted})
    headers = basic("fake-client:fake-secret") if sent == "basic" else None
    more = {"post": POST_SECRET, "none": {"client_id": "fake-client"}}.get(sent, {})

    answer = await ask(scene, headers=headers, **more)

    assert answer.status_code == status
    if status == 401:
        assert answer.json()["error"] == "invalid_client"
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert scene.provider.stats.refusals == {"invalid_client": 1}


async def test_two_methods_at_once_are_refused(scene: Scene):
    answer = await ask(scene, headers=basic("fake-client:fake-secret"), **POST_SECRET)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "text", ["fake-client:wrong", "stranger:fake-secret", "fake-client:", "fake-client", ":"]
)
async def test_a_wrong_client_is_refused_and_spends_nothing(scene: Scene, text: str):
    answer = await ask(scene, headers=basic(text))

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert (await scene.show("/grants/g1"))["generation"] == 0


async def test_what_is_no_basic_header_is_refused(scene: Scene):
    answer = await ask(scene, headers={"authorization": "Basic ?"})

    assert answer.status_code == 401


@pytest.mark.parametrize(("encoding", "encodes"), [("rfc", True), ("raw", False)])
async def test_a_basic_header_is_read_in_one_encoding_only(
    scene: Scene, encoding: str, encodes: bool
):
    secret = "s+cr%t:/ü "
    scene.provider.clients.put(Client(client_id="fake-client", client_secrets=(secret,)))
    scene.provider.quirks.set({"basic_encoding": encoding})
    forms = {True: f"fake-client:{quote_plus(secret)}", False: f"fake-client:{secret}"}

    assert (await ask(scene, headers=basic(forms[encodes]))).status_code == 200
    assert (await ask(scene, headers=basic(forms[not encodes]))).status_code == 401


async def test_both_secrets_are_good_while_one_is_replaced(scene: Scene):
    client = {"client_id": "fake-client", "client_secrets": ["fake-secret", "next"]}
    assert (await scene.post("/clients", **client)).status_code == 200

    for secret, status in (("fake-secret", 200), ("next", 200), ("third", 401)):
        assert (await ask(scene, headers=basic(f"fake-client:{secret}"))).status_code == status
    assert "next" not in repr(scene.provider.client)


async def test_a_public_client_needs_no_secret(scene: Scene):
    scene.provider.clients.put(Client(client_id="public"))

    assert (await ask(scene, client_id="public")).status_code == 200


def key_pair(algorithm: str) -> tuple[RSAKey | ECKey, str]:
    key: RSAKey | ECKey = (
        RSAKey.generate_key(2048) if algorithm == "RS256" else ECKey.generate_key("P-256")
    )
    return key, key.as_pem(private=False).decode()


def claims(scene: Scene, **changed: Any) -> dict[str, Any]:
    return {
        "iss": "signer",
        "sub": "signer",
        "aud": scene.provider.token_endpoint,
        "exp": NOW_S + 60,
        "jti": "1",
    } | changed


async def ask_signed(
    scene: Scene, key: RSAKey | ECKey, algorithm: str, body: dict[str, Any], **more: str
) -> httpx2.Response:
    fields = {
        "client_id": "signer",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jwt.encode({"alg": algorithm}, body, key),
    } | more
    return await ask(scene, headers=None, **fields)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_signed_assertion_is_taken_once(scene: Scene, algorithm: str):
    key, pem = key_pair(algorithm)
    scene.provider.clients.put(Client(client_id="signer", public_key=pem))
    scene.provider.quirks.set({"client_auth": "private_key_jwt"})

    first = await ask_signed(scene, key, algorithm, claims(scene))
    again = await ask_signed(scene, key, algorithm, claims(scene))

    assert (first.status_code, again.status_code) == (200, 401)
    assert "before" in again.json()["error_description"]


async def test_an_assertion_must_be_right_in_all_its_parts(scene: Scene):
    key, pem = key_pair("ES256")
    scene.provider.clients.put(Client(client_id="signer", public_key=pem))
    stranger, _ = key_pair("ES256")
    wrong: list[dict[str, Any]] = [
        {"iss": "other"},
        {"sub": "other"},
        {"aud": "https://elsewhere.example/token"},
        {"exp": NOW_S},
        {"exp": NOW_S + 3601},
        {"exp": "later"},
        {"nbf": NOW_S + 1},
        {"jti": ""},
    ]

    for number, changed in enumerate(wrong):
        body = claims(scene, jti=f"w{number}") | changed
        assert (await ask_signed(scene, key, "ES256", body)).status_code == 401, changed
    forged = await ask_signed(scene, stranger, "ES256", claims(scene, jti="f"))
    untyped = await ask_signed(scene, key, "ES256", claims(scene), client_assertion_type="x")
    garbage = await ask_signed(scene, key, "ES256", claims(scene), client_assertion="a.b.c")
    listed = claims(scene, aud=["x", scene.provider.url])

    assert [each.status_code for each in (forged, untyped, garbage)] == [401, 401, 401]
    assert (await ask_signed(scene, key, "ES256", listed)).status_code == 200


async def test_an_assertion_is_judged_by_the_servers_own_clock(scene: Scene):
    key, pem = key_pair("ES256")
    scene.provider.clients.put(Client(client_id="signer", public_key=pem))
    scene.provider.quirks.set({"clock_skew_s": 60})

    assert (await ask_signed(scene, key, "ES256", claims(scene))).status_code == 401


async def test_a_key_that_cannot_be_read_is_refused(scene: Scene):
    answer = await scene.post("/clients", client_id="x", public_key="no key")

    assert answer.status_code == 400
    assert "public_key" in answer.json()["error_description"]


@pytest.mark.parametrize("wanted", ["form", "json", "query"])
async def test_parameters_are_taken_from_one_place_only(scene: Scene, wanted: str):
    scene.provider.quirks.set({"body_format": wanted})

    for place in ("form", "json", "query"):
        token = scene.provider.create().refresh_token or ""
        body = {"grant_type": "refresh_token", "refresh_token": token}
        where: dict[str, Any] = {{"form": "data", "json": "json", "query": "params"}[place]: body}
        answer = await scene.http.post("/token", auth=BASIC, **where)
        assert (answer.status_code == 200) is (place == wanted), place


async def test_get_is_taken_only_where_it_is_asked_for(scene: Scene):
    token = scene.grant().refresh_token or ""
    query = {"grant_type": "refresh_token", "refresh_token": token}

    assert (await scene.http.get("/token", params=query, auth=BASIC)).status_code == 405
    scene.provider.quirks.set({"method_get": True})
    posted = await scene.refresh(token)
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET")
    assert (await scene.http.get("/token", params=query, auth=BASIC)).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=password&refresh_token=x", "unsupported_grant_type"),
        ("refresh_token=x", "unsupported_grant_type"),
        ("grant_type=refresh_token&refresh_token=x&refresh_token=y", "invalid_request"),
        ("grant_type=refresh_token&refresh_token=rt-g1-1-%C3%BC", "invalid_grant"),
        ("grant_type=refresh_token&refresh_token=rt-g1-x-y", "invalid_grant"),
    ],
)
async def test_a_request_that_is_no_refresh_is_refused(scene: Scene, body: str, code: str):
    scene.provider.create()
    headers = {"content-type": "application/x-www-form-urlencoded"}

    answer = await scene.http.post("/token", content=body, headers=headers, auth=BASIC)

    assert (answer.status_code, answer.json()["error"]) == (400, code)


async def test_bodies_that_cannot_be_read_are_refused(scene: Scene):
    for content, kind in (
        (b"[" * 100_000, "application/json"),
        (b"[1]", "application/json"),
        (b"\xff=\xff&" * 10, "application/x-www-form-urlencoded"),
        (POST_BODY + b"&x=" + b"a" * 70_000, "application/x-www-form-urlencoded"),
    ):
        headers = {"content-type": kind}
        answer = await scene.http.post("/token", content=content, headers=headers, auth=BASIC)
        assert answer.status_code == 400
        assert answer.json()["error"] in ("invalid_request", "unsupported_grant_type")


@pytest.mark.parametrize(
    ("policy", "sends", "status"),
    [
        ("rejected", True, 400),
        ("rejected", False, 200),
        ("required", True, 200),
        ("required", False, 400),
        ("ignored", True, 200),
    ],
)
async def test_scope_is_judged_as_asked(scene: Scene, policy: str, sends: bool, status: int):
    grant = scene.grant(scope_policy=policy)

    answer = await scene.refresh(grant.refresh_token, **({"scope": "a"} if sends else {}))

    assert answer.status_code == status
    assert answer.json().get("error") == (None if status == 200 else "invalid_scope")


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
async def test_a_client_that_comes_too_often_must_wait(scene: Scene, form: str):
    token = scene.grant(rate_limit=2, rate_period_s=10, retry_after_form=form).refresh_token
    for _ in range(2):
        token = (await scene.refresh(token)).json()["refresh_token"]
    scene.now_s += 4

    limited = await scene.refresh(token)

    assert (limited.status_code, limited.json()["error"]) == (429, "rate_limited")
    assert limited.headers["x-ratelimit-remaining"] == "0"
    told = limited.headers.get("retry-after")
    if form == "date":
        assert parsedate_to_datetime(told or "").timestamp() == NOW_S + 11
    else:
        assert told == {"seconds": "7", "none": None}[form]
    scene.now_s += 6
    assert (await scene.refresh(token)).status_code == 200


async def test_a_rate_limit_may_have_another_status(scene: Scene):
    grant = scene.grant(rate_limit=0, rate_limit_status=403)

    assert (await scene.refresh(grant.refresh_token)).status_code == 403


async def test_it_starts_with_the_quirks_and_clients_it_is_given():
    quirks = Quirks(lifetime_s=60, client_auth="client_secret_post")
    clients = (Client(client_id="mine", client_secrets=("one", "two")),)
    async with running_fake_provider(quirks=quirks, clients=clients) as provider:
        grant = provider.book.create(client_id="mine", quirks=quirks)
        body = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
        body |= {"client_id": "mine", "client_secret": "two"}
        async with httpx2.AsyncClient() as http:
            answer = await http.post(provider.token_endpoint, data=body)

    assert 0 < grant.expires_at - time.time() <= 60
    assert answer.json()["expires_in"] in (59, 60)
