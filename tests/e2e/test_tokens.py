"""``token`` end to end: the daemon as a process, a real nats-server, a real token endpoint."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from runtime.fake_provider.grants import Issued, RevocationCause
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import DaemonProcess, PlainCaller, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, token, write_config

pytestmark = pytest.mark.anyio


class Scene:
    """The daemon, its caller and the provider."""

    def __init__(self, daemon: DaemonProcess, caller: PlainCaller, provider: FakeProvider) -> None:
        self.daemon = daemon
        self.caller = caller
        self.provider = provider

    async def outcomes(self, connection_id: str) -> list[str]:
        """Return the outcomes of the token_refresh workflow, in the order of the stream."""
        stories = await self.caller.stories()
        return [
            event["_subject"].rpartition(".")[2]
            for event in stories.get(connection_id, [])
            if ".token_refresh." in event["_subject"]
        ]


def _lives(provider: FakeProvider, issued: Issued) -> bool:
    grant = provider.book.get(issued.grant_id)
    assert grant is not None
    return grant.revoked is None


def _revoke(provider: FakeProvider, issued: Issued) -> None:
    grant = provider.book.get(issued.grant_id)
    assert grant is not None
    provider.book.revoke(grant, RevocationCause.ADMIN)


@contextlib.asynccontextmanager
async def _scene(folder: Path, **settings: str) -> AsyncGenerator[Scene]:
    async with running_fake_provider() as provider:
        config = write_config(folder, provider, **settings)
        async with (
            daemon_process(folder / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            yield Scene(daemon, caller, provider)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with _scene(tmp_path) as running:
        yield running


async def test_three_hundred_callers_of_an_expired_connection_make_one_request(scene: Scene):
    connection_id, _ = await connect(scene.caller, scene.provider)

    answers = await asyncio.gather(*(token(scene.caller, connection_id) for _ in range(300)))

    assert {answer.code for answer in answers} == {"ok"}
    assert len({answer.body["ok"]["access_token"] for answer in answers}) == 1
    assert {answer.body["ok"]["generation"] for answer in answers} == {2}
    assert scene.provider.stats.calls == 1
    assert await scene.outcomes(connection_id) == ["attempted", "succeeded"]


async def test_forced_rotations_in_a_row_each_give_a_new_token_and_burn_nothing(scene: Scene):
    connection_id, grant = await connect(scene.caller, scene.provider, lives_s=3600)

    answers = [await token(scene.caller, connection_id, force=True) for _ in range(10)]

    assert [answer.body["ok"]["generation"] for answer in answers] == list(range(2, 12))
    assert len({answer.body["ok"]["access_token"] for answer in answers}) == 10
    assert scene.provider.stats.double_presentations == 0
    assert _lives(scene.provider, grant)


async def test_fifty_callers_who_saw_one_generation_rejected_make_one_request(scene: Scene):
    connection_id, _ = await connect(scene.caller, scene.provider, lives_s=3600)

    answers = await asyncio.gather(
        *(token(scene.caller, connection_id, if_generation=1) for _ in range(50))
    )

    assert {answer.body["ok"]["generation"] for answer in answers} == {2}
    assert scene.provider.stats.calls == 1


@pytest.mark.parametrize(
    "quirks", [{"canned": "unavailable_503"}, {"canned": "waf_403"}, {"drop_request": True}]
)
async def test_a_caller_with_time_waits_out_an_outage_and_the_grant_is_kept(
    scene: Scene, quirks: dict[str, Any]
):
    connection_id, grant = await connect(scene.caller, scene.provider)
    scene.provider.quirks.set(quirks, next_requests=1)

    answer = await token(scene.caller, connection_id)

    assert answer.code == "ok"
    assert _lives(scene.provider, grant)
    assert await scene.outcomes(connection_id) == ["attempted", "failed", "attempted", "succeeded"]


async def test_a_caller_without_the_time_is_told_at_once_when_to_ask_again(scene: Scene):
    connection_id, _ = await connect(scene.caller, scene.provider)
    scene.provider.quirks.set(
        {"status": 503, "body": "", "headers": {"Retry-After": "20"}}, next_requests=1
    )

    refused = await token(scene.caller, connection_id)

    error = refused.body["error"]
    assert error["code"] == "PROVIDER_UNAVAILABLE"
    assert 15 < error["retry_after_s"] <= 20
    assert refused.headers["Nats-Service-Error-Code"] == "503"
    assert scene.provider.stats.calls == 1


async def test_a_revoked_grant_needs_its_user_and_is_not_presented_again(scene: Scene):
    connection_id, grant = await connect(scene.caller, scene.provider)
    _revoke(scene.provider, grant)

    answers = [await token(scene.caller, connection_id, force=True) for _ in range(5)]

    assert {answer.code for answer in answers} == {"REAUTH_REQUIRED"}
    assert all(answer.body["error"]["needs_user_action"] for answer in answers)
    assert scene.provider.stats.calls == 1
    assert (await scene.caller.get(connection_id))["status"] == "expired"
    events = (await scene.caller.stories())[connection_id]
    failed = next(event for event in events if event["_subject"].endswith("token_refresh.failed"))
    assert failed["data"] | {"attempt_id": "", "reason": ""} == {
        "user_id": failed["data"]["user_id"],
        "connection_id": connection_id,
        "provider_id": failed["data"]["provider_id"],
        "provider_slug": "fake",
        "needs_user_action": True,
        "failure_class": "user",
        "code": "invalid_grant",
        "provider_code": "invalid_grant",
        "attempt_id": "",
        "reason": "",
    }


async def test_a_lost_answer_of_a_strict_provider_is_told_as_a_lost_rotation(scene: Scene):
    connection_id, grant = await connect(scene.caller, scene.provider)
    scene.provider.quirks.set({"lose_answer": True}, next_requests=1)

    answer = await token(scene.caller, connection_id)

    assert answer.code == "REAUTH_REQUIRED"
    assert "lost" in answer.body["error"]["message"]
    assert not _lives(scene.provider, grant)


async def test_a_wrong_client_secret_pauses_the_client_and_ends_no_grant(tmp_path: Path):
    async with _scene(tmp_path, secret="wrong") as scene:
        connected = [await connect(scene.caller, scene.provider) for _ in range(30)]

        answers = await asyncio.gather(
            *(token(scene.caller, connection_id) for connection_id, _ in connected)
        )
        again = await asyncio.gather(
            *(token(scene.caller, connection_id) for connection_id, _ in connected)
        )

        assert {answer.code for answer in (*answers, *again)} == {"PROVIDER_MISCONFIGURED"}
        told_s = [answer.body["error"]["retry_after_s"] for answer in again]
        # Those who had no turn; the others are told of their own pause first.
        assert sum(seconds > 60 for seconds in told_s) >= 10
        assert scene.provider.stats.calls <= 30
        assert all(_lives(scene.provider, grant) for _, grant in connected)
        paused = [line for line in scene.daemon.said if "client_paused" in line]
        assert len(paused) == 1


async def test_sigterm_waits_for_the_provider_and_keeps_what_it_answers(scene: Scene):
    connection_id, grant = await connect(scene.caller, scene.provider)
    scene.provider.quirks.set({"delay_after_s": 1.5})
    asked = asyncio.create_task(token(scene.caller, connection_id))
    await eventually(lambda: scene.provider.stats.calls == 1)

    assert await scene.daemon.stop() == 0

    assert (await asked).code == "ok"
    arguments = ("--config", str(scene.daemon.data_dir.parent / "refreshd.toml"))
    async with (
        daemon_process(scene.daemon.data_dir, *arguments) as again,
        plain_caller(**again.context) as caller,
    ):
        assert (await caller.get(connection_id))["generation"] == 2
        assert (await token(caller, connection_id)).code == "ok"
    assert _lives(scene.provider, grant)


async def test_no_token_shows_in_the_log_the_events_or_the_files(scene: Scene):
    connection_id, grant = await connect(scene.caller, scene.provider)
    answer = await token(scene.caller, connection_id)
    _revoke(scene.provider, grant)
    await token(scene.caller, connection_id, force=True)
    secrets = [
        answer.body["ok"]["access_token"],
        grant.access_token,
        str(grant.refresh_token),
        scene.provider.client.client_secrets[0],
    ]

    shown = json.dumps(await scene.caller.stories()) + "\n".join(scene.daemon.said)
    await scene.daemon.stop()
    stored = b"".join(
        path.read_bytes() for path in scene.daemon.data_dir.rglob("*") if path.is_file()
    )

    for secret in secrets:
        assert secret not in shown
        assert secret.encode() not in stored


async def test_callers_that_wait_for_a_token_are_bounded_apart_from_commands(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider)
        with config.open("a") as file:
            file.write("[service.limits]\ntoken_callers_max = 20\ncommands_max = 5\n")
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            connection_id, _ = await connect(caller, provider)
            provider.quirks.set({"hang": "before"})
            waiting = [asyncio.create_task(token(caller, connection_id)) for _ in range(20)]
            await eventually(lambda: provider.stats.hanging == 1)
            await caller.ask("status")

            beyond = await token(caller, connection_id)
            command = await caller.get(connection_id)
            provider.quirks.set({"hang": "no"})
            provider.release()
            answers = await asyncio.gather(*waiting)

    assert beyond.code == "OVERLOADED"
    assert command["generation"] == 1
    assert {answer.code for answer in answers} == {"ok"}
