"""A refresh token that may be spent is not presented again while its access token lives.

The daemon as a process, a real nats-server, and a provider that ends a grant when a spent refresh
token comes again.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.token_daemon import connect, token, write_config

pytestmark = pytest.mark.anyio

_BACKOFF_S = 1.05
_AFTER_ROTATION = {
    "a 500": {"status": 500, "body": '{"error":"server_error"}', "override_processes": True},
    "a 520 of a CDN": {"status": 520, "body": "<html>", "override_processes": True},
    "a 524 of a CDN": {"status": 524, "body": "<html>", "override_processes": True},
    "server_error with 400": {
        "status": 400,
        "body": '{"error":"server_error"}',
        "override_processes": True,
    },
}


@pytest.mark.parametrize("case", _AFTER_ROTATION)
async def test_after_a_rotation_that_was_answered_by_a_failure_the_living_token_is_kept(
    tmp_path: Path, case: str
):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider)
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            connection_id, grant = await connect(caller, provider, lives_s=3600)
            provider.quirks.set(_AFTER_ROTATION[case], next_requests=1)

            answers = [await token(caller, connection_id, force=True)]
            await asyncio.sleep(_BACKOFF_S)
            answers += [await token(caller, connection_id, force=True) for _ in range(5)]

    assert [answer.body["ok"]["stale"] for answer in answers] == [True] * 6
    assert {answer.body["ok"]["access_token"] for answer in answers} == {grant.access_token}
    assert provider.stats.calls == 1
    assert provider.stats.families_revoked == 0


@pytest.mark.parametrize(
    "quirks",
    [{}, {"close_with": "reset"}, {"answer_format": "form"}],
    ids=["closed", "reset", "form"],
)
async def test_the_access_token_of_an_answer_that_broke_off_behind_it_is_kept_over_a_restart(
    tmp_path: Path, quirks: dict[str, Any]
):
    cut = {"half_answer": True, "cut_after": "access_token"} | quirks
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider)
        arguments = (tmp_path / "data", "--config", str(config))
        async with (
            daemon_process(*arguments) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            connection_id, grant = await connect(caller, provider)
            provider.quirks.set(cut, next_requests=1)
            answers = [await token(caller, connection_id)]
            answers += [await token(caller, connection_id, force=True) for _ in range(3)]
        async with (
            daemon_process(*arguments) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            answers += [await token(caller, connection_id, force=True) for _ in range(3)]
            access_token = answers[0].body["ok"]["access_token"]
            works = await _works(provider.url, access_token)

    assert [answer.body["ok"]["stale"] for answer in answers] == [False] + [True] * 6
    assert {answer.body["ok"]["access_token"] for answer in answers} == {access_token}
    assert access_token != grant.access_token
    assert works
    assert provider.stats.calls == 1
    assert provider.stats.families_revoked == 0


async def _works(url: str, access_token: str) -> bool:
    async with httpx2.AsyncClient(trust_env=False) as http:
        headers = {"authorization": f"Bearer {access_token}"}
        answer = await http.get(f"{url}/resource", headers=headers)
    return answer.status_code == 200
