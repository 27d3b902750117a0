"""Each oddity of an answer, of its timing and of its connection is played as it is described."""

import contextlib
from collections.abc import AsyncGenerator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx2
import msgspec
import pytest

from runtime.fake_provider.canned import Canned
from runtime.fake_provider.quirks import Quirks
from tests.fakes.eventually import eventually
from tests.fakes.provider_scene import ProviderScene as Scene
from tests.fakes.provider_scene import provider_scene

ISSUED_AT_S = 1_800_000_000


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    async with provider_scene() as scene:
        yield scene


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ("seconds", 3600),
        ("string", "3600"),
        ("float", 3600.0),
        ("milliseconds", 3_600_000),
        ("epoch_s", ISSUED_AT_S + 3600),
        ("epoch_ms", (ISSUED_AT_S + 3600) * 1000),
        ("iso8601", "2027-01-15T09:00:00+00:00"),
        ("duration", "01:00:00"),
        ("null", None),
        ("missing", "nothing"),
    ],
)
async def test_the_expiry_has_the_shape_asked_for(scene: Scene, shape: str, shown: object):
    grant = scene.grant(expiry_shape=shape)

    answer = (await scene.refresh(grant.refresh_token)).json()

    found = answer.get("expires_in", "nothing")
    assert (found, type(found)) == (shown, type(shown))


@pytest.mark.parametrize("value", [0, -5, 10**30, 1.5, "soon", "", None, True])
async def test_any_value_may_stand_as_the_expiry(scene: Scene, value: object):
    grant = scene.grant(expires_in=value)

    answer = (await scene.refresh(grant.refresh_token)).json()

    assert answer["expires_in"] == value
    assert await scene.opens(answer["access_token"])


async def test_a_long_duration_has_more_than_two_digits_of_hours(scene: Scene):
    grant = scene.grant(expiry_shape="duration", lifetime_s=177 * 3600 + 5 * 60 + 38)

    answer = (await scene.refresh(grant.refresh_token)).json()

    assert answer["expires_in"] == "177:05:38"


async def test_a_success_may_be_form_encoded(scene: Scene):
    grant = scene.grant(answer_format="form")

    answer = await scene.refresh(grant.refresh_token)

    assert answer.headers["content-type"] == "application/x-www-form-urlencoded"
    fields = parse_qs(answer.text)
    assert fields["expires_in"] == ["3600"]
    assert await scene.opens(fields["access_token"][0])


async def test_json_may_be_called_something_else(scene: Scene):
    grant = scene.grant(content_type="text/html")

    answer = await scene.refresh(grant.refresh_token)

    assert answer.headers["content-type"] == "text/html"
    assert answer.json()["token_type"] == "Bearer"


async def test_fields_may_be_renamed_nested_wrapped_and_added(scene: Scene):
    grant = scene.grant(
        envelope="data",
        fields={"access_token": "authed_user.access_token", "refresh_token": "refreshToken"},
        extra_fields={"ok": True, "refresh_token_expires_in": 604800},
        padding_bytes=5000,
    )

    data = (await scene.refresh(grant.refresh_token)).json()["data"]

    assert await scene.opens(data["authed_user"]["access_token"])
    assert (await scene.refresh(data["refreshToken"])).status_code == 200
    assert (data["ok"], data["refresh_token_expires_in"]) == (True, 604800)
    assert len(data["padding"]) == 5000
    assert "access_token" not in data


@pytest.mark.parametrize(
    ("style", "status", "shown"),
    [
        ("rfc", 400, {"error": "invalid_grant"}),
        ("github", 200, {"error": "invalid_grant"}),
        ("slack", 200, {"ok": False, "error": "invalid_grant"}),
        ("nested", 400, {"error": "unsupported_token_type"}),
    ],
)
async def test_a_refusal_has_the_style_asked_for(
    scene: Scene, style: str, status: int, shown: dict[str, Any]
):
    scene.provider.quirks.set({"error_style": style})

    answer = await scene.refresh("unknown")

    assert answer.status_code == status
    assert answer.json() | shown == answer.json()
    assert "invalid_grant" in answer.text


async def test_a_dead_token_is_refused_in_the_providers_own_words(scene: Scene):
    text = "Old refresh token used."
    quirks = {"dead_code": "unauthorized_client", "dead_status": 401, "dead_description": text}
    scene.provider.quirks.set(quirks)

    answer = await scene.refresh("unknown")

    assert answer.status_code == 401
    assert answer.json() == {"error": "unauthorized_client", "error_description": text}


async def test_an_error_may_hold_the_tokens_of_a_refresh_that_was_done(scene: Scene):
    grant = scene.grant(tokens_in_error=True, error_status=429)

    answer = await scene.refresh(grant.refresh_token)

    assert (answer.status_code, answer.json()["error"]) == (429, "rate_limited")
    assert (await scene.refresh(answer.json()["refresh_token"])).json()["access_token"]
    assert scene.provider.stats.successes == 2


@pytest.mark.parametrize(
    ("name", "status", "has"),
    [
        (Canned.SERVER_ERROR_500, 500, "server_error"),
        (Canned.UNAVAILABLE_503, 503, "<html>"),
        (Canned.BAD_GATEWAY_502, 502, "<html>"),
        (Canned.INVALID_GRANT_503, 503, "invalid_grant"),
        (Canned.TOO_MANY_429_SECONDS, 429, "slow_down"),
        (Canned.TOO_MANY_429_DATE, 429, "slow_down"),
        (Canned.RATE_LIMITED_403, 403, "rate limit"),
        (Canned.WAF_403, 403, "<html>"),
        (Canned.EMPTY_401, 401, ""),
        (Canned.REDIRECT_302, 302, ""),
        (Canned.REDIRECT_307, 307, ""),
        (Canned.GITHUB_ERROR_200, 200, "bad_refresh_token"),
        (Canned.SLACK_ERROR_200, 200, '"ok":false'),
        (Canned.NESTED_ERROR_400, 400, "refresh_token_authentication_error"),
        (Canned.EXACT_REUSED_401, 401, "Old refresh token used."),
        (Canned.ATLASSIAN_REUSED_403, 403, "Unknown or invalid refresh token."),
        (Canned.EMPTY_200, 200, ""),
        (Canned.TOKENLESS_200, 200, "accepted"),
        (Canned.BROKEN_JSON_200, 200, "at-cut"),
        (Canned.NOT_FOUND_404, 404, "<html>"),
    ],
)
async def test_a_known_oddity_is_played_by_name_and_spends_nothing(
    scene: Scene, name: Canned, status: int, has: str
):
    grant = scene.grant()
    scene.provider.quirks.set({"canned": name}, next_requests=1)

    odd = await scene.refresh(grant.refresh_token)

    assert (odd.status_code, has in odd.text) == (status, True)
    assert bool(odd.text) is bool(has)
    assert odd.headers.get("content-type", "").startswith("text/html") is ("<html>" in odd.text)
    assert (await scene.refresh(grant.refresh_token)).status_code == 200
    assert (scene.provider.stats.overridden, scene.provider.stats.successes) == (1, 1)


def test_every_known_oddity_is_under_test():
    marks: Any = test_a_known_oddity_is_played_by_name_and_spends_nothing
    assert {case[0] for case in marks.pytestmark[0].args[1]} == set(Canned)


async def test_retry_after_comes_in_both_forms(scene: Scene):
    scene.provider.quirks.set({"canned": Canned.TOO_MANY_429_SECONDS}, next_requests=1)
    scene.provider.quirks.set({"canned": Canned.TOO_MANY_429_DATE}, next_requests=1)

    first, second = [(await scene.refresh("x")).headers["retry-after"] for _ in range(2)]

    assert first == "7"
    assert parsedate_to_datetime(second).timestamp() == ISSUED_AT_S + 7


async def test_status_body_and_headers_may_be_anything(scene: Scene):
    quirks = {"status": 418, "body": "teapot", "headers": {"Content-Type": "x/y", "X-A": "b"}}
    scene.provider.quirks.set(quirks)

    answer = await scene.refresh("x")

    assert (answer.status_code, answer.text) == (418, "teapot")
    assert (answer.headers["content-type"], answer.headers["x-a"]) == ("x/y", "b")


async def test_another_answer_may_hide_a_refresh_that_was_done(scene: Scene):
    grant = scene.grant(canned="bad_gateway_502", override_processes=True)

    assert (await scene.refresh(grant.refresh_token)).status_code == 502

    assert (await scene.show(f"/grants/{grant.grant_id}"))["generation"] == 1


async def test_who_follows_a_redirect_is_counted(scene: Scene):
    grant = scene.grant(canned="redirect_302")
    redirected = await scene.refresh(grant.refresh_token)

    await scene.http.get(redirected.headers["location"])

    assert (await scene.show("/stats"))["redirects_followed"] == 1


@pytest.mark.parametrize("way", ["fin", "reset"])
async def test_a_dropped_request_was_not_processed(scene: Scene, way: str):
    grant = scene.grant(drop_request=True, close_with=way)

    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)) as lost:
        await scene.refresh(grant.refresh_token)

    assert isinstance(lost.value, httpx2.ReadError) is (way == "reset")
    state = await scene.show(f"/grants/{grant.grant_id}")
    seen = next(iter(state["presentations"].values()))
    assert (state["generation"], seen["last"][0]["outcome"]) == (0, "dropped")


async def test_a_lost_answer_was_processed(scene: Scene):
    grant = scene.grant(lose_answer=True)

    with pytest.raises(httpx2.RemoteProtocolError):
        await scene.refresh(grant.refresh_token)

    assert (await scene.show(f"/grants/{grant.grant_id}"))["generation"] == 1
    assert (await scene.show("/stats"))["lost_answers"] == 1


@pytest.mark.parametrize(
    ("quirks", "begins", "ends"),
    [
        ({}, b'{"access_token":"at-', b""),
        ({"cut_after": "access_token"}, b'{"access_token":"at-', b'",'),
        ({"cut_after": "expires_in"}, b'{"access_token":"at-', b'"expires_in":3600,'),
        ({"cut_after": "token_type", "answer_format": "form"}, b"access_token=at-", b"=Bearer&"),
        ({"cut_after": "nothing"}, b'{"access_token":"at-', b""),
        ({"status": 524, "override_processes": True, "body": "abcd"}, b"ab", b"ab"),
    ],
)
async def test_half_an_answer_ends_before_its_length(
    scene: Scene, quirks: dict[str, Any], begins: bytes, ends: bytes
):
    grant = scene.grant(half_answer=True, **quirks)
    body = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
    part = b""

    async with scene.http.stream(
        "POST", "/token", data=body, auth=("fake-client", "fake-secret")
    ) as answer:
        with pytest.raises(httpx2.RemoteProtocolError):  # noqa: PT012 -- the parts are wanted
            async for chunk in answer.aiter_raw():
                part += chunk

    assert answer.status_code == quirks.get("status", 200)
    assert part.startswith(begins)
    assert part.endswith(ends)
    assert 0 < len(part) < int(answer.headers["content-length"])
    assert (await scene.show("/stats"))["half_answers"] == 1


async def test_faults_strike_by_chance_in_a_row_that_the_seed_fixes(scene: Scene):
    async def row(seed: int) -> list[bool]:
        scene.grant(seed=-1)
        scene.provider.draw(Quirks(seed=-1))
        scene.provider.quirks.set({"lose_answer": True, "fault_chance": 0.5, "seed": seed})
        arrived: list[bool] = []
        for _ in range(12):
            before = scene.provider.stats.lost_answers
            with contextlib.suppress(httpx2.RemoteProtocolError):
                await scene.refresh("x")
            arrived.append(scene.provider.stats.lost_answers == before)
        return arrived

    first = await row(7)

    assert len(set(first)) == 2
    assert await row(7) == first
    assert await row(8) != first


async def test_delays_stand_before_and_after_processing(scene: Scene):
    grant = scene.grant(delay_before_s=3, delay_after_s=4, jitter_s=0.5, seed=1)

    answer = await scene.refresh(grant.refresh_token)

    before, after = scene.slept
    assert 3 < before < 3.5
    assert after == 4
    state = await scene.show(f"/grants/{grant.grant_id}")
    assert state["refreshed_at"] == pytest.approx(ISSUED_AT_S + before)
    assert answer.json()["expires_in"] == 3600


@pytest.mark.parametrize(("when", "generation"), [("before", 0), ("after", 1)])
async def test_a_request_hangs_until_it_is_released(scene: Scene, when: str, generation: int):
    grant = scene.grant(hang=when)
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await scene.refresh(grant.refresh_token))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await eventually(lambda: scene.provider.stats.hanging == 1)
        assert (await scene.show(f"/grants/{grant.grant_id}"))["generation"] == generation
        assert answers == []
        assert (await scene.post("/release")).json() == {"released": 1}

    assert answers[0].status_code == 200
    assert scene.provider.stats.hanging == 0


async def test_who_leaves_while_hanging_is_not_processed(scene: Scene):
    grant = scene.grant(hang="before")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.refresh, grant.refresh_token)
        await eventually(lambda: scene.provider.stats.hanging == 1)
        tasks.cancel_scope.cancel()

    await eventually(lambda: scene.provider.stats.in_flight == 0)

    assert (await scene.show(f"/grants/{grant.grant_id}"))["generation"] == 0


async def test_the_servers_clock_may_be_wrong(scene: Scene):
    grant = scene.grant(clock_skew_s=300, expiry_shape="epoch_s")

    answer = await scene.refresh(grant.refresh_token)

    date = parsedate_to_datetime(answer.headers["date"])
    assert date.timestamp() == ISSUED_AT_S + 300
    assert answer.headers.get_list("date") == [answer.headers["date"]]
    assert answer.json()["expires_in"] == ISSUED_AT_S + 300 + 3600


async def test_metadata_names_the_endpoints_and_may_name_a_wrong_issuer(scene: Scene):
    url = scene.provider.url
    for path in ("openid-configuration", "oauth-authorization-server"):
        found = await scene.show(f"/.well-known/{path}")
        assert (found["issuer"], found["token_endpoint"]) == (url, f"{url}/token")
        assert found["revocation_endpoint"] == f"{url}/revoke"

    scene.provider.quirks.set({"discovery_issuer": "https://elsewhere.example"})

    found = await scene.show("/.well-known/oauth-authorization-server")
    assert found["issuer"] == "https://elsewhere.example"


def test_the_papers_name_every_quirk_and_every_known_oddity():
    text = (Path(__file__).parents[3] / "docs" / "fake-provider.md").read_text()

    names = [field.name for field in msgspec.structs.fields(Quirks)] + [
        str(name) for name in Canned
    ]

    assert [name for name in names if f"`{name}`" not in text] == []
