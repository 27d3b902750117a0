"""When a refresh fails: what is kept, what is told, and what is never done."""

from uuid import UUID

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from domain.commands import GetToken, Refresh
from domain.connection import ConnectionStatus
from domain.credentials import Secret
from domain.decision import AccessToken
from domain.exchange import Answered, Exchange, Lost, NotSent
from domain.profile import NON_ROTATING, ReusePolicy
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import connection_number
from tests.fakes.providers import RotatingProvider, providers
from tests.fakes.stage import Stage
from tests.fakes.token_scene import HASTY_S, ID, Scene
from tests.fakes.world import CountingIds


def _unavailable(provider: RotatingProvider) -> Exchange:
    return provider.answered(503, {})


async def test_a_failed_refresh_serves_a_token_that_still_lives_and_marks_it_stale() -> None:
    scene = Scene()
    scene.provider.before = lambda _: _unavailable(scene.provider)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=30.0))
        got = await scene.token()

        assert isinstance(got, AccessToken)
        assert (got.access_token, got.stale) == ("a1", True)
        assert scene.story == ["attempted", "failed"]


async def test_an_unavailable_provider_is_asked_again_only_after_the_pause() -> None:
    scene = Scene()
    scene.provider.before = lambda _: _unavailable(scene.provider)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        first = await scene.refused()
        second = await scene.refused()

        assert first.code is second.code is FailureCode.PROVIDER_UNAVAILABLE
        assert first.retry_after_s is not None
        assert len(scene.provider.presented) == 1
        scene.provider.before = None
        await anyio.sleep(first.retry_after_s)
        assert await scene.fresh() == "a2"
        assert scene.stage.stored(ID).trouble is None


async def test_a_dead_grant_is_never_presented_again_even_after_a_restart() -> None:
    scene = Scene()
    scene.provider.live = "another"
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        for _ in range(5):
            refused = await scene.refused(force=True)
            assert refused.code is FailureCode.REAUTH_REQUIRED
            assert refused.needs_user_action
    again = scene.restarted()
    async with again.opened():
        assert isinstance(await again.ask(GetToken(connection_id=ID)), Failure)
        assert scene.provider.presented == ["r1"]
        assert scene.stage.stored(ID).status is ConnectionStatus.EXPIRED
        assert scene.stage.story_of(ID)[2:] == [
            "token_refresh.attempted",
            "token_refresh.failed",
            "status.changed",
            "status.changed",
        ]

        scene.provider.live, scene.provider.is_revoked = "r1", False
        await again.ask(scene.connect())
        assert isinstance(await again.ask(GetToken(connection_id=ID)), Success)


@pytest.mark.parametrize("refreshes_before", [0, 1])
async def test_a_grant_of_a_client_that_is_no_longer_configured_is_kept(
    refreshes_before: int,
) -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        for _ in range(refreshes_before):
            await scene.fresh(force=True)
    scene.provider.live = "another"
    other = msgspec.structs.replace(scene.profile, client_id="another client")
    again = Stage(
        ledger=scene.stage.ledger,
        clock=scene.clock,
        providers=providers(scene.provider, other),
        ids=CountingIds(1_000_000),
    )
    async with again.opened():
        await again.ask(GetToken(connection_id=ID, force=True))

    assert again.stored(ID).status is ConnectionStatus.ACTIVE
    trouble = again.stored(ID).trouble
    assert trouble is not None
    assert trouble.code == "client_changed"


@pytest.mark.parametrize("status", [401, 403])
async def test_our_own_misconfiguration_pauses_the_client_and_keeps_every_grant(
    status: int,
) -> None:
    scene = Scene(client_secrets=1)
    scene.provider.before = lambda _: scene.provider.answered(status, {"error": "invalid_client"})
    async with scene.stage.opened():
        others = [connection_number(number) for number in range(2, 102)]
        for one in others:
            connect = msgspec.structs.replace(scene.connect(), connection_id=one)
            await scene.stage.ask(connect)
        sent = [scene.stage.send(GetToken(connection_id=one), patience_s=4.0) for one in others]
        for one in sent:
            await one.answered.wait()
        again = [
            await scene.stage.ask(GetToken(connection_id=one), patience_s=4.0) for one in others
        ]

        assert {one.code for one in sent} == {FailureCode.PROVIDER_MISCONFIGURED}
        assert all(isinstance(reply, Failure) and reply.retry_after_s for reply in again)
        assert len(scene.provider.presented) <= len(others)
        assert scene.stage.journal.counts["client_paused"] == 1
        assert {scene.stage.stored(one).status for one in others} == {ConnectionStatus.ACTIVE}

        asked = len(scene.provider.presented)
        await anyio.sleep(scene.profile.probe_interval_s + 1)
        probes = [scene.stage.send(GetToken(connection_id=one), patience_s=4.0) for one in others]
        for probe in probes:
            await probe.answered.wait()
        assert len(scene.provider.presented) == asked + 1


async def test_a_rate_limit_cools_every_connection_of_the_client() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(
        429, {"error": "slow_down"}, retry_after="120"
    )
    other = connection_number(2)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=other))
        first = await scene.refused()
        second = await scene.stage.ask(GetToken(connection_id=other), patience_s=4.0)

        assert first.code is FailureCode.PROVIDER_UNAVAILABLE
        assert isinstance(second, Failure)
        assert second.retry_after_s is not None
        assert 50 < second.retry_after_s <= 60
        assert len(scene.provider.presented) == 1


async def test_a_request_that_was_never_sent_is_free_to_be_repeated() -> None:
    scene = Scene()
    scene.provider.before = lambda _: NotSent(code="connect_failed")
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.refused()

        assert scene.stage.stored(ID).doubted_at is None


async def test_after_a_lost_answer_a_strict_token_waits_until_nothing_is_left_to_lose() -> None:
    scene = Scene()
    scene.provider.after = lambda _: Lost(code="timeout")
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        await scene.token(force=True)
        scene.provider.after = None
        await anyio.sleep(500.0)

        got = await scene.token(force=True)
        assert isinstance(got, AccessToken)
        assert got.stale
        assert scene.provider.presented == ["r1"]

        await anyio.sleep(490.0)
        got = await scene.token(force=True)
        assert scene.provider.presented == ["r1", "r1"]
        refused = await scene.refused()
        assert refused.code is FailureCode.REAUTH_REQUIRED
        assert "lost" in refused.message.lower()


async def test_after_a_lost_answer_a_caller_whose_access_token_was_rejected_has_nothing_to_lose() -> (
    None
):
    scene = Scene()

    def lose_once(_: Exchange) -> Exchange:
        scene.provider.after, scene.provider.live = None, "r1"
        return Lost(code="connection_lost")

    scene.provider.after = lose_once
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        await scene.token(force=True)
        await anyio.sleep(5.0)

        assert await scene.fresh(if_generation=1) == "a3"
        assert scene.provider.presented == ["r1", "r1"]


@pytest.mark.parametrize("policy", [ReusePolicy("grace", 60.0), NON_ROTATING])
async def test_after_a_lost_answer_a_token_with_a_grace_is_presented_again_at_once(
    policy: ReusePolicy,
) -> None:
    scene = Scene(reuse_policy=policy)

    def lose_once(_: Exchange) -> Exchange:
        scene.provider.after = None
        scene.provider.live = "r1"
        return Lost(code="connection_lost")

    scene.provider.after = lose_once
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        await scene.token(force=True)
        await anyio.sleep(5.0)

        assert await scene.fresh(force=True) == "a3"
        assert scene.provider.presented == ["r1", "r1"]


async def _until(time_s: float) -> None:
    await anyio.sleep(max(0.0, time_s - anyio.current_time()))


async def test_an_outcome_that_cannot_be_stored_yet_is_held_and_nothing_else_is_asked() -> None:
    scene = Scene()

    def fail_after_the_request(operation: str, _id: UUID) -> object:
        held = operation == "append" and scene.provider.presented
        return _until(60.0) if held else None

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.ledger.before = fail_after_the_request
        refused = await scene.refused(patience_s=4.0)

        assert refused.code is FailureCode.DATABASE_ERROR
        assert (await scene.refused(patience_s=120.0)).code is FailureCode.DATABASE_ERROR
        await _until(61.0)
        assert await scene.fresh() == "a2"
        assert scene.provider.presented == ["r1"]
        assert scene.story == ["attempted", "succeeded"]


async def test_without_a_stored_intent_nothing_is_presented() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.ledger.before = lambda name, _: _until(4.5) if name == "append" else None
        refused = await scene.refused(patience_s=4.0)

        assert refused.code is FailureCode.DATABASE_ERROR
        assert scene.provider.presented == []
        assert await scene.fresh() == "a2"


async def test_a_stopped_daemon_finishes_the_request_it_has_sent_and_stores_the_outcome() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        asked = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)
        assert not await scene.stage.directory.drain(2.0)
        await scene.stage.directory.stop()

        assert asked.code is FailureCode.SHUTTING_DOWN
        assert scene.stage.stored(ID).generation == 2
        assert scene.stage.stored(ID).intent is None


async def test_an_open_intent_of_an_earlier_owner_is_waited_for_and_then_in_doubt() -> None:
    scene = Scene()
    with pytest.raises(BaseExceptionGroup):
        await _until_killed(scene)
    again = scene.restarted()
    async with again.opened():
        scene.provider.after = None
        intent = again.stored(ID).intent
        assert intent is not None
        assert await again.ask(GetToken(connection_id=ID)) == await again.ask(
            GetToken(connection_id=ID)
        )
        held = again.send(Refresh(connection_id=ID, credentials=None))
        await held.answered.wait()

        assert scene.clock.now() >= intent.deadline_at
        assert again.stored(ID).intent is None
        assert again.stored(ID).doubted_at == intent.started_at
        assert again.journal.unknown == {"schwab": 1}
        assert again.story_of(ID)[2:] == [
            "token_refresh.attempted",
            "token_refresh.failed",
            "token_refresh.attempted",
            "token_refresh.failed",
        ]
        assert len(scene.provider.presented) == 1


def _without_access_token(exchange: Exchange) -> Exchange:
    assert isinstance(exchange, Answered)
    body = msgspec.json.decode(exchange.body.reveal())
    del body["access_token"]
    return replace(exchange, body=Secret(msgspec.json.encode(body)))


@pytest.mark.parametrize("lives_s", [-1.0, 30.0])
async def test_a_refresh_token_that_came_without_an_access_token_is_presented_next(
    lives_s: float,
) -> None:
    scene = Scene()
    scene.provider.after = _without_access_token
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=lives_s))
        first = await scene.token(HASTY_S)
        if isinstance(first, AccessToken):
            assert (first.access_token, first.stale, lives_s) == ("a1", True, 30.0)
        else:
            assert first.code is FailureCode.PROVIDER_UNAVAILABLE
            assert first.retry_after_s is not None
        assert scene.stage.stored(ID).generation == 1
        assert scene.stage.stored(ID).doubted_at is None
        credentials = scene.stage.stored(ID).credentials
        assert credentials is not None
        assert credentials.client_id == "me"
        scene.provider.after = None
        await anyio.sleep(2.0)

        assert await scene.fresh(if_generation=1) == "a3"
        assert scene.provider.presented == ["r1", "r2"]
        assert scene.story == ["attempted", "failed", "attempted", "succeeded"]


async def _until_killed(scene: Scene) -> None:
    """Run a daemon that dies between the provider's answer and the store."""
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=500.0))
        scene.provider.after = _kill
        scene.stage.send(GetToken(connection_id=ID, force=True))
        await anyio.sleep(60.0)


class _KilledError(BaseException):
    """What ends a process at once."""


def _kill(_: Exchange) -> Exchange:
    raise _KilledError
