"""``token``: from memory while it lives, else one refresh that everybody shares."""

import anyio
import msgspec
import pytest

from actors.world import Limits
from domain.commands import Disconnect, Get, GetToken
from domain.connection import ConnectionStatus
from domain.decision import AccessToken
from domain.exchange import NotSent
from domain.result import FailureCode, Success
from tests.fakes.commands import USER
from tests.fakes.token_scene import ID, LIVES_S, Scene


async def test_a_token_that_lives_is_served_without_asking_anybody() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))

        assert await scene.fresh() == "a1"
        assert await scene.fresh(min_ttl_s=999.0) == "a1"
        assert scene.provider.presented == []
        assert scene.story == []


async def test_an_expired_token_is_refreshed_once_for_any_number_of_callers() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asks = [scene.stage.send(GetToken(connection_id=ID)) for _ in range(2000)]
        for ask in asks:
            await ask.answered.wait()

        assert {msgspec.structs.astuple(ask.reply.value)[0] for ask in asks} == {"a2"}  # type: ignore[union-attr]
        assert scene.provider.presented == ["r1"]
        assert scene.story == ["attempted", "succeeded"]
        assert scene.stage.stored(ID).generation == 2
        assert scene.stage.stored(ID).intent is None


async def test_callers_of_a_cold_connection_never_overflow_its_mailbox() -> None:
    scene = Scene(Limits(mailbox_commands_max=1))
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asks = [scene.stage.send(GetToken(connection_id=ID)) for _ in range(50)]
        for ask in asks:
            await ask.answered.wait()

        assert {ask.code for ask in asks} == {None}


async def test_many_who_saw_the_same_generation_rejected_make_one_request() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        for _ in range(50):
            assert await scene.fresh(if_generation=1) == "a2"

        assert scene.provider.presented == ["r1"]


async def test_force_rotates_every_time() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))

        assert [await scene.fresh(force=True) for _ in range(3)] == ["a2", "a3", "a4"]
        assert scene.provider.presented == ["r1", "r2", "r3"]


async def test_reads_that_the_present_token_satisfies_do_not_wait_for_the_provider() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        scene.provider.takes_s = 20.0
        forced = scene.stage.send(GetToken(connection_id=ID, force=True))
        await anyio.sleep(1.0)
        before_s = anyio.current_time()

        assert await scene.fresh() == "a1"
        assert isinstance(await scene.stage.ask(Get(connection_id=ID)), Success)
        assert anyio.current_time() == before_s
        assert not forced.replies
        await forced.answered.wait()


async def test_a_refreshed_token_is_refreshed_again_when_it_ends_and_not_before() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        assert await scene.fresh() == "a2"
        await anyio.sleep(LIVES_S - 100.0)
        assert await scene.fresh() == "a2"
        await anyio.sleep(50.0)

        assert await scene.fresh() == "a3"


@pytest.mark.parametrize(("fails", "expected"), [(False, "a2"), (True, "a1")])
async def test_a_token_that_the_flight_is_about_to_end_is_given_to_nobody(
    fails: bool, expected: str
) -> None:
    scene = Scene(old_access_token_dies=True)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        scene.provider.takes_s = 20.0
        if fails:
            scene.provider.before = lambda _: NotSent(code="connect_failed")
        scene.stage.send(GetToken(connection_id=ID, force=True))
        await anyio.sleep(1.0)
        before_s = anyio.current_time()

        got = await scene.token()

        assert isinstance(got, AccessToken)
        assert (got.access_token, got.stale) == (expected, fails)
        assert anyio.current_time() - before_s > 15.0


async def test_a_command_that_changes_state_waits_for_the_flight() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asked = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        ended = scene.stage.send(Disconnect(connection_id=ID, user_id=USER))
        await ended.answered.wait()

        assert isinstance(asked.reply, Success)
        assert isinstance(ended.reply, Success)
        assert scene.stage.stored(ID).status is ConnectionStatus.DISCONNECTED
        assert scene.story == ["attempted", "succeeded"]


async def test_a_command_held_by_a_flight_is_answered_before_its_caller_gives_up() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        held = scene.stage.send(Disconnect(connection_id=ID, user_id=USER), patience_s=4.0)
        await held.answered.wait()

        assert held.code is FailureCode.TIMED_OUT
        assert anyio.current_time() < 4.5
        await scene.stage.settled()
        assert scene.stage.stored(ID).status is ConnectionStatus.ACTIVE


async def test_a_caller_whose_time_is_up_is_told_and_the_refresh_goes_on_and_is_kept() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        started_s = anyio.current_time()
        refused = await scene.refused(patience_s=4.0)

        assert refused.code is FailureCode.REFRESH_IN_PROGRESS
        assert 3.5 < anyio.current_time() - started_s < 4.0
        assert await scene.fresh() == "a2"
        assert scene.provider.presented == ["r1"]
