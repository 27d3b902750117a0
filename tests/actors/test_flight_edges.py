"""What a flight does at the edges of its time: late intents, stops, slots, crashes."""

from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.client_gate import ClientGate
from actors.world import overloaded
from domain.commands import Disconnect, Get, GetToken, MarkSynced, Refresh
from domain.events import ProviderTokenRefreshFailed
from domain.exchange import Exchange, ExchangeRequest, Lost, NotSent
from domain.profile import NO_REUSE, NON_ROTATING, ReusePolicy
from domain.result import Failure, FailureCode
from tests.fakes.commands import USER, connection_number
from tests.fakes.gates import paused
from tests.fakes.token_scene import ID, Scene
from tests.fakes.trouble import BugError

_OTHER = connection_number(2)


async def _until(time_s: float) -> None:
    await anyio.sleep(max(0.0, time_s - anyio.current_time()))


async def test_an_intent_that_took_too_long_to_store_is_not_acted_on() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        healed_s = anyio.current_time() + 90.0
        scene.stage.ledger.before = lambda name, _: _until(healed_s) if name == "append" else None
        refused = await scene.refused(patience_s=90.9)

        assert refused.code is FailureCode.DATABASE_ERROR
        assert scene.provider.presented == []
        assert scene.story == ["attempted", "failed"]
        assert scene.stage.stored(ID).doubted_at is None
        await anyio.sleep(2.0)
        assert await scene.fresh() == "a2"


async def test_an_intent_that_was_stored_too_late_is_no_failure_of_the_provider() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: NotSent(code="connect_failed")
        await scene.refused()
        before = scene.stage.stored(ID).trouble
        scene.provider.before = None
        await anyio.sleep(90.0)
        healed_s = anyio.current_time() + 90.0
        scene.stage.ledger.before = lambda name, _: _until(healed_s) if name == "append" else None
        await scene.refused(patience_s=90.9)

        assert before is not None
        assert scene.stage.stored(ID).trouble == before
        failed = scene.stage.events_of(ID)[-1]
        assert isinstance(failed, ProviderTokenRefreshFailed)
        assert failed.failure_class is None
        assert failed.reason == "The provider was not asked: the intent was not stored in time"
        assert await scene.fresh() == "a2"


@pytest.mark.parametrize(
    ("is_stopped", "code", "cause"),
    [
        (False, FailureCode.PROVIDER_UNAVAILABLE, "by rate_per_s its turn did not come in time"),
        (True, FailureCode.SHUTTING_DOWN, "the daemon is being stopped"),
    ],
)
async def test_an_attempt_that_may_not_go_out_says_why_and_blames_nobody(
    is_stopped: bool, code: FailureCode, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        monkeypatch.setattr(ClientGate, "departs", lambda _: 4.0)
        asked = scene.stage.send(GetToken(connection_id=ID), patience_s=4.5)
        await anyio.sleep(1.0)
        if is_stopped:
            await scene.stage.directory.stop()
        else:
            await asked.answered.wait()

        assert asked.code is code
        assert scene.provider.presented == []
        assert scene.stage.stored(ID).intent is scene.stage.stored(ID).trouble is None
        failed = scene.stage.events_of(ID)[-1]
        assert isinstance(failed, ProviderTokenRefreshFailed)
        assert failed.reason == f"The provider was not asked: {cause}"
        assert failed.failure_class is None


async def test_an_intent_that_is_stored_as_its_daemon_awakes_from_a_long_sleep_is_not_acted_on() -> (
    None
):
    scene = Scene()
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.ledger.before = lambda name, _: clock.jump(6.0) if name == "append" else None
        refused = await scene.refused(patience_s=12.9)

        assert refused.code is FailureCode.DATABASE_ERROR
        assert scene.provider.presented == []
        assert scene.story == ["attempted", "failed"]


async def test_an_intent_in_doubt_holds_no_slot() -> None:
    scene = Scene(max_concurrency=1)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        gate = scene.stage.providers.gates.of(
            scene.profile, scene.provider.place(scene.profile, None, None)
        )
        scene.stage.ledger.before = lambda name, _: _until(90.0) if name == "append" else None
        scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(1.0)
        assert gate.in_flight == 1

        await anyio.sleep(5.0)
        assert gate.in_flight == 0


async def test_an_answer_that_comes_after_the_stop_is_stored_although_the_ledger_is_slow() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)
        slow_s = anyio.current_time() + 30.0
        scene.stage.ledger.before = lambda name, _: _until(slow_s) if name == "append" else None
        assert not await scene.stage.directory.drain(2.0)
        await scene.stage.directory.stop()

        assert scene.stage.stored(ID).generation == 2
        assert scene.stage.journal.counts["outcome_lost"] == 0


@pytest.mark.parametrize("is_full", [False, True])
async def test_an_answer_that_cannot_be_stored_in_the_grace_of_a_stop_is_spilled_or_told_as_lost(
    is_full: bool,
) -> None:
    scene = Scene()
    scene.stage.spill.is_full = is_full
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asked = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        scene.stage.ledger.before = lambda name, _: _until(900.0) if name == "append" else None
        await anyio.sleep(1.0)
        await scene.stage.directory.stop()

        assert anyio.current_time() < 60.0
        assert scene.stage.journal.counts["outcome_lost"] == is_full
        assert [one.connection.generation for one in scene.stage.spill.kept] == [2] * (not is_full)
        assert asked.code is FailureCode.SHUTTING_DOWN


async def test_a_flight_without_an_intent_holds_no_command_up() -> None:
    scene = Scene(max_concurrency=1)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=_OTHER))
        scene.provider.takes_s = 30.0
        scene.stage.send(GetToken(connection_id=_OTHER), patience_s=500.0)
        await anyio.sleep(1.0)
        waiting = scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        before_s = anyio.current_time()

        ended = await scene.stage.ask(Disconnect(connection_id=ID, user_id=USER))

        assert not isinstance(ended, Failure)
        assert anyio.current_time() == before_s
        await waiting.answered.wait()
        assert waiting.code is FailureCode.NOT_ACTIVE
        assert scene.provider.presented == ["r1"]


async def test_what_was_decided_and_lost_while_a_flight_waits_for_a_slot_is_looked_at_anew() -> (
    None
):
    scene = Scene(max_concurrency=1)

    def lose_one(operation: str, connection_id: UUID) -> None:
        if operation == "add" and connection_id == ID:
            scene.stage.ledger.before = None
            raise BugError

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=_OTHER))
        scene.stage.send(GetToken(connection_id=_OTHER))
        await anyio.sleep(0.01)
        waiting = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        scene.stage.ledger.before = lose_one
        lost = await scene.stage.ask(MarkSynced(connection_id=ID))
        await waiting.answered.wait()

        assert isinstance(lost, Failure)
        # The other one's refresh has spent the token that both have.
        assert waiting.code is FailureCode.REAUTH_REQUIRED
        assert scene.provider.presented == ["r1", "r1"]
        assert scene.stage.journal.counts["crashed"] == 1


async def test_where_nothing_may_be_presented_no_intent_is_made() -> None:
    scene = Scene()
    directory = scene.stage.directory
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        directory.world = directory.world._replace(refusal=lambda: overloaded("no room"))

        assert (await scene.refused()).code is FailureCode.OVERLOADED
        assert scene.story == scene.provider.presented == []


async def test_a_ledger_that_is_full_when_a_flights_turn_comes_takes_no_intent() -> None:
    scene = Scene(max_concurrency=1)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=_OTHER))
        first = scene.stage.send(GetToken(connection_id=_OTHER))
        await anyio.sleep(0.01)
        second = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        scene.stage.ledger.has_room = False
        await second.answered.wait()

        assert second.code is FailureCode.OVERLOADED
        assert scene.story == []
        await first.answered.wait()
        assert first.code is None


async def test_a_flight_that_waits_for_a_pause_asks_soon_after_a_success_has_ended_it() -> None:
    scene = Scene()
    place = scene.provider.place(scene.profile, None, None)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        gate = paused(scene.stage.providers.gates.of(scene.profile, place))
        waiting = scene.stage.send(GetToken(connection_id=ID), patience_s=5000.0)
        await anyio.sleep(10.0)
        assert not waiting.replies
        gate.succeeded(_OTHER)
        await anyio.sleep(1.5)

        assert waiting.code is None


async def test_credentials_that_come_while_a_flight_waits_for_a_slot_are_not_overwritten() -> None:
    scene = Scene(max_concurrency=1)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=_OTHER))
        scene.stage.send(GetToken(connection_id=_OTHER))
        await anyio.sleep(0.01)
        waiting = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        new = scene.connect(lives_s=1000.0, presented="of another consent").credentials
        await scene.stage.ask(Refresh(connection_id=ID, credentials=new))
        await waiting.answered.wait()

        assert waiting.code is None
        assert scene.stage.stored(ID).generation == 2
        assert scene.provider.presented == ["r1"]


async def test_a_grace_that_ran_out_while_waiting_for_a_slot_is_over() -> None:
    scene = Scene(reuse_policy=ReusePolicy("grace", 30.0), max_concurrency=1)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=_OTHER))
        scene.provider.after = lambda _: Lost(code="timeout")
        await scene.token(force=True)
        scene.provider.after = None
        await anyio.sleep(5.0)
        scene.provider.takes_s = 50.0
        scene.stage.send(GetToken(connection_id=_OTHER))
        await anyio.sleep(1.0)

        got = await scene.token(force=True, patience_s=500.0)

        assert not isinstance(got, Failure)
        assert got.stale
        assert len(scene.provider.presented) == 2


async def test_flights_of_a_client_whose_first_secret_is_retired_all_find_the_second() -> None:
    scene = Scene(client_secrets=2)

    async def exchange(request: ExchangeRequest) -> Exchange:
        if request.secret_index == 0:
            await anyio.sleep(0.1)
            return scene.provider.answered(401, {"error": "invalid_client"})
        return scene.provider.answered(200, {"access_token": "a2", "expires_in": 3600})

    scene.provider.exchange = exchange
    ids = [connection_number(number) for number in range(2, 12)]
    async with scene.stage.opened():
        for one in ids:
            await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=one))
        sent = [scene.stage.send(GetToken(connection_id=one)) for one in ids]
        for one in sent:
            await one.answered.wait()

        assert {one.code for one in sent} == {None}
        assert scene.stage.journal.counts["client_paused"] == 0


async def test_an_open_intent_is_closed_after_its_deadline_and_commands_wait_for_that() -> None:
    again = await Scene().cut_amid_a_flight()
    async with again.opened():
        assert not isinstance(await again.ask(Get(connection_id=ID)), Failure)
        ended = again.send(Disconnect(connection_id=ID, user_id=USER), patience_s=200.0)
        asked = again.send(GetToken(connection_id=ID), patience_s=200.0)
        await ended.answered.wait()

        assert not isinstance(ended.reply, Failure)
        assert 30.0 < anyio.current_time() < 75.0
        assert again.story_of(ID) == [
            "token_refresh.failed",
            "disconnection.attempted",
            "disconnection.succeeded",
        ]
        await asked.answered.wait()


@pytest.mark.parametrize("policy", [NO_REUSE, NON_ROTATING])
async def test_an_open_intent_is_closed_by_what_the_provider_does_with_refresh_tokens(
    policy: ReusePolicy,
) -> None:
    again = await Scene(reuse_policy=policy).cut_amid_a_flight()
    async with again.opened():
        await again.ask(Disconnect(connection_id=ID, user_id=USER), patience_s=200.0)

        closed = again.ledger.history[0].connection
        assert closed is not None
        assert closed.intent is None
        assert (closed.doubted_at is None) == policy.is_free


async def test_an_end_of_an_open_intent_that_a_stop_meets_is_stored_all_the_same() -> None:
    again = await Scene().cut_amid_a_flight()
    async with again.opened():
        await anyio.sleep(3600.0)
        again.ledger.before = lambda name, _: anyio.sleep(1.0) if name == "append" else None
        asked = again.send(GetToken(connection_id=ID))
        await anyio.sleep(0.5)
        await again.directory.stop()

    assert asked.code is FailureCode.SHUTTING_DOWN
    assert again.stored(ID).intent is None
    assert again.stored(ID).doubted_at is not None


async def test_an_open_intent_whose_deadline_is_past_is_closed_at_once() -> None:
    again = await Scene().cut_amid_a_flight()
    async with again.opened():
        await anyio.sleep(3600.0)
        began_s = anyio.current_time()
        ended = await again.ask(Disconnect(connection_id=ID, user_id=USER))

        assert not isinstance(ended, Failure)
        assert anyio.current_time() - began_s < 0.1


async def test_an_open_intent_that_cannot_be_closed_holds_nobody_for_ever() -> None:
    again = await Scene().cut_amid_a_flight()
    async with again.opened():
        again.ledger.before = lambda name, _: _until(900.0) if name == "append" else None
        ended = again.send(Disconnect(connection_id=ID, user_id=USER), patience_s=200.0)
        await ended.answered.wait()
        again.ledger.before = None

    assert ended.code is FailureCode.TIMED_OUT


async def test_a_bug_at_the_desk_leaves_nobody_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()

    def bug(*_: Any, **__: Any) -> None:
        raise RuntimeError

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        monkeypatch.setattr(type(scene.stage.directory.world.sealer), "unseal", bug)
        scene.stage.send(Refresh(connection_id=ID, credentials=None))
        sent = [scene.stage.send(GetToken(connection_id=ID), patience_s=5.0) for _ in range(3)]
        await anyio.sleep(10.0)

    assert [one.code for one in sent] == [FailureCode.DATABASE_ERROR] * 3
