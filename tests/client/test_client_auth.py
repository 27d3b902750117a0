"""``RefreshdAuth`` with either HTTP library: signed, renewed on a 401, repeated once at most."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
import refreshd_client.httpx
import refreshd_client.httpx2
from refreshd_client import InvalidCommandError, ReauthRequiredError

from tests.fakes.client_scene import ClientScene

pytestmark = pytest.mark.anyio
LIBRARIES = {"httpx": (httpx, refreshd_client.httpx), "httpx2": (httpx2, refreshd_client.httpx2)}


class Api:
    """An API that tokens are for, through one of the two libraries."""

    def __init__(self, scene: ClientScene, library: ModuleType, ours: ModuleType) -> None:
        self._scene = scene
        self._library = library
        self._ours = ours
        self.sent: list[str] = []
        """The token of each request that left."""
        self.client: Any = library.AsyncClient(
            base_url=scene.provider.url, event_hooks={"request": [self._note]}
        )

    def auth(self, connection_id: str, **options: Any) -> Any:
        return self._ours.RefreshdAuth(self._scene.refreshd, connection_id, **options)

    async def _note(self, request: Any) -> None:
        self.sent.append(request.headers.get("authorization", ""))

    async def post(self, connection_id: str, **options: Any) -> int:
        """Return the status of a request that is signed for a connection."""
        auth = self.auth(connection_id)
        return (await self.client.request("GET", "/resource", auth=auth, **options)).status_code


@pytest.fixture(params=LIBRARIES)
async def api(request: pytest.FixtureRequest, scene: ClientScene) -> AsyncGenerator[Api]:
    api = Api(scene, *LIBRARIES[request.param])
    async with api.client:
        yield api


async def test_a_request_is_signed_and_a_kept_token_is_asked_for_once(scene: ClientScene, api: Api):
    connection_id, grant = await scene.connected()

    statuses = [await api.post(connection_id) for _ in range(3)]

    assert statuses == [200] * 3
    assert api.sent == [f"Bearer {grant.access_token}"] * 3


async def test_a_401_has_the_token_renewed_and_the_request_repeated_once(
    scene: ClientScene, api: Api
):
    connection_id, grant = await scene.connected()
    scene.provider.quirks.set({"old_access_token_dies": True})
    assert await api.post(connection_id) == 200
    await scene.caller.ask(f"connection.{connection_id}.token", {"force": True})

    assert await api.post(connection_id, json={"a": 1}) == 200

    token = await scene.refreshd.token(connection_id)
    assert api.sent[1:] == [f"Bearer {grant.access_token}", f"Bearer {token.access_token}"]
    assert token.generation == 2
    assert scene.provider.stats.calls == 1


async def test_many_requests_that_meet_the_401_together_cause_one_refresh(
    scene: ClientScene, api: Api
):
    connection_id, grant = await scene.connected()
    scene.provider.book.revoke_token(grant.access_token, client_id=scene.provider.client.client_id)

    statuses = await asyncio.gather(*(api.post(connection_id) for _ in range(20)))

    assert statuses == [200] * 20
    assert scene.provider.stats.calls == 1
    assert len(api.sent) <= 40


async def test_a_body_that_is_a_stream_is_not_sent_twice_and_the_next_request_is_right(
    scene: ClientScene, api: Api, caplog: pytest.LogCaptureFixture
):
    connection_id, grant = await scene.connected()
    scene.provider.book.revoke_token(grant.access_token, client_id=scene.provider.client.client_id)

    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    with caplog.at_level(logging.WARNING, logger="refreshd_client"):
        streamed = await api.post(connection_id, content=body())
    sent = len(api.sent)

    assert (streamed, sent) == (401, 1)
    assert "stream" in caplog.text
    assert grant.access_token not in caplog.text
    assert await api.post(connection_id) == 200
    assert len(api.sent) == 2
    assert scene.provider.stats.calls == 1


async def test_a_token_that_is_not_the_trouble_is_renewed_once_and_not_for_each_request(
    scene: ClientScene, api: Api
):
    connection_id, _ = await scene.connected()
    scene.provider.quirks.set({"settling_s": 3600.0})

    statuses = [await api.post(connection_id) for _ in range(5)]

    assert statuses == [401] * 5
    assert scene.provider.stats.calls == 1
    assert len(api.sent) == 2 + 4


async def test_another_answer_is_passed_on_as_it_is(scene: ClientScene, api: Api):
    connection_id, _ = await scene.connected()

    answer = await api.client.get("/nothing", auth=api.auth(connection_id))

    assert answer.status_code == 404
    assert len(api.sent) == 1


async def test_a_grant_that_is_dead_is_told_in_place_of_its_401(scene: ClientScene, api: Api):
    connection_id, grant = await scene.connected()
    assert await api.post(connection_id) == 200
    scene.revoke(grant)

    with pytest.raises(ReauthRequiredError) as told:
        await api.post(connection_id)

    assert told.value.needs_user_action
    assert len(api.sent) == 2


async def test_an_api_that_wants_its_token_elsewhere_gets_it_there(scene: ClientScene, api: Api):
    connection_id, grant = await scene.connected()
    auth = api.auth(connection_id, header="X-Access-Token", scheme="")

    answer = await api.client.get("/nothing", auth=auth)

    assert answer.request.headers["X-Access-Token"] == grant.access_token
    assert api.sent == [""]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_without_an_event_loop_is_told_that_this_is_not_for_it(library: str):
    module, ours = LIBRARIES[library]
    auth = ours.RefreshdAuth(refreshd_client.Refreshd(), "7f9c24e8-3b12-4f0a-9d56-1c2b3a4d5e6f")

    with module.Client() as client, pytest.raises(RuntimeError, match="AsyncClient"):
        client.get("http://127.0.0.1:1", auth=auth)


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_id_that_is_none_is_told_where_the_auth_is_made(library: str):
    with pytest.raises(InvalidCommandError, match="connection_id"):
        LIBRARIES[library][1].RefreshdAuth(refreshd_client.Refreshd(), "x")
