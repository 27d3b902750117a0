"""The fake provider keeps the rules of refresh tokens, and breaks exactly those it is told to."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator

import anyio
import httpx2
import pytest

from runtime.fake_provider.clients import Client
from runtime.fake_provider.grants import HISTORY_MAX, TIMES_MAX
from runtime.fake_provider.quirks import Quirks, merged
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.eventually import eventually
from tests.fakes.provider_scene import BASIC, provider_scene
from tests.fakes.provider_scene import ProviderScene as Scene


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    async with provider_scene() as scene:
        yield scene


async def test_a_refresh_spends_the_token_and_gives_a_new_pair(scene: Scene):
    first = scene.grant()

    answer = await scene.refresh(first.refresh_token)

    second = answer.json()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert second["token_type"] == "Bearer"
    assert second["expires_in"] == 3600
    assert second["refresh_token"] != first.refresh_token
    assert second["access_token"] != first.access_token
    assert await scene.opens(second["access_token"])
    assert (await scene.refresh(second["refresh_token"])).status_code == 200


async def test_a_spent_token_ends_the_whole_grant(scene: Scene):
    first = scene.grant()
    second = (await scene.refresh(first.refresh_token)).json()

    reused = await scene.refresh(first.refresh_token)

    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert (await scene.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert not await scene.opens(second["access_token"])
    state = await scene.show(f"/grants/{first.grant_id}")
    assert (state["revoked"], state["reason"]) == (True, "refresh_token_reuse")
    stats = await scene.show("/stats")
    assert (stats["reuses_detected"], stats["families_revoked"]) == (1, 1)
    assert stats["refusals"] == {"invalid_grant": 2}


async def test_a_spent_token_is_merely_refused_where_reuse_does_not_revoke(scene: Scene):
    first = scene.grant(reuse_revokes=False)
    second = (await scene.refresh(first.refresh_token)).json()

    assert (await scene.refresh(first.refresh_token)).status_code == 400

    assert (await scene.refresh(second["refresh_token"])).status_code == 200


async def test_a_spent_token_is_known_however_old_it_is(scene: Scene):
    first = scene.grant()
    token = first.refresh_token
    for _ in range(HISTORY_MAX + 2):
        token = (await scene.refresh(token)).json()["refresh_token"]

    await scene.refresh(first.refresh_token)

    assert scene.provider.stats.reuses_detected == 1
    assert (await scene.refresh(token)).json()["error"] == "invalid_grant"


async def test_within_its_grace_a_spent_token_gives_the_same_pair(scene: Scene):
    first = scene.grant(rotation="grace", grace_s=30)
    second = (await scene.refresh(first.refresh_token)).json()
    scene.now_s += 30

    again = (await scene.refresh(first.refresh_token)).json()

    assert again["refresh_token"] == second["refresh_token"]
    assert again["access_token"] == second["access_token"]
    assert again["expires_in"] == second["expires_in"] - 30
    assert scene.provider.stats.grace_answers == 1


async def test_within_its_grace_a_spent_token_may_give_one_more_pair(scene: Scene):
    first = scene.grant(rotation="grace", grace_answer="new")
    second = (await scene.refresh(first.refresh_token)).json()

    third = (await scene.refresh(first.refresh_token)).json()

    assert third["refresh_token"] != second["refresh_token"]
    for pair in (third, second):
        assert (await scene.refresh(pair["refresh_token"])).status_code == 200


async def test_after_its_grace_a_spent_token_ends_the_grant(scene: Scene):
    first = scene.grant(rotation="grace", grace_s=30)
    second = (await scene.refresh(first.refresh_token)).json()
    scene.now_s += 31

    await scene.refresh(first.refresh_token)

    assert (await scene.refresh(second["refresh_token"])).status_code == 400


async def test_the_grace_is_over_once_the_successor_was_presented(scene: Scene):
    first = scene.grant(rotation="grace")
    second = (await scene.refresh(first.refresh_token)).json()
    await scene.refresh(second["refresh_token"])

    assert (await scene.refresh(first.refresh_token)).status_code == 400

    assert scene.provider.stats.families_revoked == 1


async def test_the_grace_is_over_once_the_second_successor_was_presented(scene: Scene):
    first = scene.grant(rotation="grace", grace_answer="new")
    await scene.refresh(first.refresh_token)
    third = (await scene.refresh(first.refresh_token)).json()
    await scene.refresh(third["refresh_token"])

    assert (await scene.refresh(first.refresh_token)).status_code == 400


async def test_without_rotation_the_token_stays_good(scene: Scene):
    grant = scene.grant(rotation="non_rotating")

    answers = [(await scene.refresh(grant.refresh_token)).json() for _ in range(3)]

    assert all("refresh_token" not in answer for answer in answers)
    assert len({answer["access_token"] for answer in answers}) == 3
    assert scene.provider.stats.reuses_detected == 0


@pytest.mark.parametrize(("way", "shown"), [("null", None), ("empty", ""), ("same", "it")])
async def test_a_kept_refresh_token_shows_as_asked(scene: Scene, way: str, shown: str | None):
    grant = scene.grant(rotation="non_rotating", kept_refresh_token=way)

    answer = (await scene.refresh(grant.refresh_token)).json()

    assert answer["refresh_token"] == (grant.refresh_token if shown == "it" else shown)


async def test_a_token_may_rotate_only_now_and_then(scene: Scene):
    grant = scene.grant(rotate_every=3, kept_refresh_token="same")

    tokens = [(await scene.refresh(grant.refresh_token)).json()["refresh_token"] for _ in range(3)]

    assert tokens[:2] == [grant.refresh_token] * 2
    assert tokens[2] != grant.refresh_token
    assert (await scene.refresh(grant.refresh_token)).status_code == 400


async def test_a_grant_ends_after_its_life_however_often_it_is_refreshed(scene: Scene):
    token = scene.grant(grant_lifetime_s=100).refresh_token
    scene.now_s += 99
    token = (await scene.refresh(token)).json()["refresh_token"]
    scene.now_s += 1

    assert (await scene.refresh(token)).json()["error"] == "invalid_grant"


async def test_a_grant_ends_when_nobody_refreshes_it(scene: Scene):
    grant = scene.grant(grant_idle_s=100)
    scene.now_s += 99
    token = (await scene.refresh(grant.refresh_token)).json()["refresh_token"]
    scene.now_s += 100

    assert (await scene.refresh(token)).status_code == 400
    assert (await scene.show(f"/grants/{grant.grant_id}"))["reason"] == "grant_idle"


async def test_a_refresh_that_comes_too_early_is_refused_and_spends_nothing(scene: Scene):
    grant = scene.grant(refresh_window_s=30, lifetime_s=600)
    scene.now_s += 569

    early = await scene.refresh(grant.refresh_token)
    scene.now_s += 1
    later = await scene.refresh(grant.refresh_token)

    assert (early.status_code, early.json()["error"]) == (400, "access_denied")
    assert "access_token not expired" in early.json()["error_description"]
    assert later.status_code == 200


async def test_an_access_token_is_good_for_its_life_only(scene: Scene):
    grant = scene.grant(lifetime_s=60, expires_in=999_999)
    second = (await scene.refresh(grant.refresh_token)).json()

    assert await scene.opens(second["access_token"])
    assert await scene.opens(grant.access_token)
    scene.now_s += 60
    assert not await scene.opens(second["access_token"])
    assert not await scene.opens("at-g1-1-forged")
    assert (await scene.http.get("/resource")).headers["www-authenticate"] == "Bearer"


async def test_a_refresh_may_end_the_access_token_before_it(scene: Scene):
    grant = scene.grant(old_access_token_dies=True)

    second = (await scene.refresh(grant.refresh_token)).json()

    assert not await scene.opens(grant.access_token)
    assert await scene.opens(second["access_token"])


async def test_a_fresh_access_token_may_be_rejected_at_first(scene: Scene):
    grant = scene.grant(settling_s=2)

    assert not await scene.opens(grant.access_token)
    scene.now_s += 2
    assert await scene.opens(grant.access_token)


async def test_an_access_token_may_be_a_jwt_that_opens_the_resource(scene: Scene):
    grant = scene.grant(access_token_format="jwt")

    token = (await scene.refresh(grant.refresh_token)).json()["access_token"]

    assert token.count(".") == 2
    assert await scene.opens(token)
    assert not await scene.opens(token[:-4] + "AAAA")


async def test_a_client_revokes_by_rfc_7009(scene: Scene):
    grant = scene.grant()
    second = (await scene.refresh(grant.refresh_token)).json()

    unknown = await scene.http.post("/revoke", data={"token": "never"}, auth=BASIC)
    access = await scene.http.post("/revoke", data={"token": grant.access_token}, auth=BASIC)
    assert (unknown.status_code, access.status_code) == (200, 200)
    assert not await scene.opens(grant.access_token)
    assert await scene.opens(second["access_token"])
    stranger = await scene.http.post("/revoke", data={"token": "x"}, auth=("fake-client", "no"))
    assert stranger.status_code == 401

    await scene.http.post("/revoke", data={"token": second["refresh_token"]}, auth=BASIC)

    assert (await scene.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert not await scene.opens(second["access_token"])


async def test_a_grant_is_bound_to_its_client(scene: Scene):
    scene.provider.clients.put(Client(client_id="other", client_secrets=("s",)))
    grant = scene.provider.create(client_id="other")

    assert (await scene.refresh(grant.refresh_token)).json()["error"] == "invalid_grant"

    assert scene.provider.stats.reuses_detected == 0
    for token in (grant.refresh_token, grant.access_token):
        await scene.http.post("/revoke", data={"token": token}, auth=BASIC)
    assert await scene.opens(grant.access_token)


async def test_presentations_are_kept_by_fingerprint_and_never_by_token(scene: Scene):
    first = scene.grant(reuse_revokes=False)
    assert first.refresh_token is not None
    second = (await scene.refresh(first.refresh_token)).json()
    scene.now_s += 5
    await scene.refresh(first.refresh_token)

    shown = await scene.http.get(f"/grants/{first.grant_id}")

    name = hashlib.sha256(first.refresh_token.encode()).hexdigest()
    assert shown.json()["presentations"][name] == {
        "count": 2,
        "in_flight": 0,
        "last": [
            {"at": scene.now_s - 5, "outcome": "refreshed"},
            {"at": scene.now_s, "outcome": "invalid_grant"},
        ],
    }
    stats = await scene.http.get("/stats")
    assert stats.json()["double_presentations"] == 1
    for token in (first.refresh_token, first.access_token, *second.values()):
        assert len(str(token)) < 10 or str(token) not in shown.text + stats.text + repr(first)


async def test_what_is_remembered_of_a_grant_has_a_bound(scene: Scene):
    grant = scene.grant(rotation="non_rotating")
    for _ in range(TIMES_MAX + 2):
        await scene.refresh(grant.refresh_token)
    scene.provider.quirks.set({"rotation": "strict"})
    token = grant.refresh_token
    for _ in range(HISTORY_MAX):
        token = (await scene.refresh(token)).json()["refresh_token"]
    full = (await scene.show(f"/grants/{grant.grant_id}"))["presentations"]
    await scene.refresh(token)

    oldest = next(iter(full.values()))
    assert (len(full), oldest["count"]) == (HISTORY_MAX, TIMES_MAX + 3)
    assert len(oldest["last"]) == TIMES_MAX
    found = scene.provider.book.get(grant.grant_id)
    assert found is not None
    assert max(len(found.spent), len(found.access), len(found.presentations)) <= HISTORY_MAX


async def test_two_presentations_at_once_are_noticed(scene: Scene):
    grant = scene.grant(hang="before")
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(scene.refresh, grant.refresh_token)
        await eventually(lambda: scene.provider.stats.hanging == 2)
        assert scene.provider.stats.successes == 0
        await scene.post("/release")

    stats = await scene.show("/stats")
    assert (stats["concurrent_presentations"], stats["concurrency_max"]) == (1, 2)
    assert (stats["successes"], stats["reuses_detected"], stats["in_flight"]) == (1, 1, 0)


async def test_quirks_may_hold_for_one_grant_or_for_the_next_requests(scene: Scene):
    odd, plain = scene.grant(), scene.provider.create()
    await scene.post("/quirks", quirks={"expires_in": "soon"}, grant=odd.grant_id)
    await scene.post("/quirks", quirks={"status": 503}, next=2)
    await scene.post("/quirks", quirks={"status": 500}, grant=odd.grant_id, next=1)

    statuses = [(await scene.refresh(odd.refresh_token)).status_code for _ in range(3)]

    assert statuses == [503, 503, 500]
    assert (await scene.refresh(odd.refresh_token)).json()["expires_in"] == "soon"
    assert (await scene.refresh(plain.refresh_token)).json()["expires_in"] == 3600


async def test_an_unknown_quirk_is_refused_by_name_and_changes_nothing(scene: Scene):
    answer = await scene.post("/quirks", quirks={"rotation": "grace", "grace": 3})

    assert answer.status_code == 400
    assert "grace" in answer.json()["error_description"]
    assert scene.provider.quirks.base == Quirks()
    assert (await scene.post("/grants", surname="x")).status_code == 400


async def test_a_reset_forgets_grants_quirks_and_counters(scene: Scene):
    grant = scene.grant(rotation="non_rotating", rate_limit=2)
    for _ in range(2):
        await scene.refresh(grant.refresh_token)
    scene.provider.quirks.set({"hang": "before"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.refresh, grant.refresh_token)
        await eventually(lambda: scene.provider.stats.hanging == 1)

        await scene.post("/reset")

    stats = await scene.show("/stats")
    assert (stats["calls"], stats["in_flight"], stats["hanging"]) == (0, 0, 0)
    scene.provider.quirks.set({"rate_limit": 2})
    assert (await scene.refresh("x")).json()["error"] == "invalid_grant"
    scene.provider.quirks.clear()
    assert await scene.show("/quirks") == await scene.show("/quirks?grant=g1")
    assert scene.provider.quirks.base == merged(Quirks(), {})
    assert (await scene.refresh(grant.refresh_token)).json()["error"] == "invalid_grant"
    assert (await scene.http.get(f"/grants/{grant.grant_id}")).status_code == 404


async def test_a_grant_is_created_and_revoked_over_http(scene: Scene):
    made = (await scene.post("/grants", subject="ann", expires_in=90)).json()

    state = (await scene.post(f"/grants/{made['grant']}/revoke")).json()

    assert made["expires_in"] == 90
    assert (state["subject"], state["revoked"], state["reason"]) == ("ann", True, "admin")
    assert (await scene.refresh(made["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("quirks", [Quirks(hang="before"), Quirks(delay_before_s=1)])
async def test_stopping_ends_requests_that_wait(quirks: Quirks, caplog: pytest.LogCaptureFixture):
    async def sleep(delay_s: float) -> None:
        await anyio.sleep_forever()

    async with httpx2.AsyncClient(timeout=30) as http:
        async with running_fake_provider(quirks=quirks, sleep=sleep) as provider:
            asking = asyncio.create_task(http.post(provider.token_endpoint, data={"a": "b"}))
            await eventually(lambda: provider.stats.in_flight == 1)

        async with asyncio.timeout(5):
            with pytest.raises(httpx2.TransportError):
                await asking
    assert provider.stats.in_flight == 0
    assert [line for line in caplog.records if line.name.startswith("uvicorn")] == []
