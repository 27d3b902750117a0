"""What a flight does at the edges of its time: late intents, stops, slots, crashes."""

from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest

from actors.ports import OutcomeUnknownError, StoreUnavailableError
from domain.commands import Disconnect, GetToken, Refresh
from domain.exchange import Exchange, ExchangeRequest, Lost
from domain.profile import ReusePolicy
from domain.result import Failure, FailureCode
from tests.fakes.commands import USER, connection_number
from tests.fakes.token_scene import ID, Scene

_OTHER = connection_number(2)


async def test_an_intent_that_took_too_long_to_store_is_not_acted_on() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        healed_s = anyio.current_time() + 90.0

        def fail(operation: str, _id: UUID) -> None:
            if operation == "write" and anyio.current_time() < healed_s:
                raise OutcomeUnknownError("slow")

        scene.stage.store.before = fail
        refused = await scene.refused(patience_s=500.0)

        assert refused.code is FailureCode.PROVIDER_UNAVAILABLE
        assert scene.provider.presented == []
        assert scene.story == ["attempted", "failed"]
        assert scene.stage.stored(ID).doubted_at is None
        await anyio.sleep(2.0)
        assert await scene.fresh() == "a2"


async def test_new_tokens_are_kept_although_somebody_has_ended_the_intent_for_us() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        asked = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(5.0)
        written = scene.stage.store.records[ID]
        ended = msgspec.structs.replace(written.connection, intent=None)
        revision = scene.stage.store.revisions[ID]
        await scene.stage.store.write(
            written._replace(connection=ended, expected_revision=revision, op_id=b"x")
        )
        await asked.answered.wait()

        assert not isinstance(asked.reply, Failure)
        assert scene.stage.stored(ID).generation == 2
        assert await scene.fresh(force=True) == "a3"


async def test_an_answer_that_comes_after_the_stop_is_tried_for_more_than_one_write() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)
        failures = iter([StoreUnavailableError("no responders")] * 5)

        def fail(operation: str, _id: UUID) -> None:
            error = next(failures, None) if operation == "write" else None
            if error is not None:
                raise error

        scene.stage.store.before = fail
        assert not await scene.stage.directory.drain(2.0)
        await scene.stage.directory.stop()

        assert scene.stage.stored(ID).generation == 2
        assert scene.stage.journal.counts["outcome_lost"] == 0


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


async def test_an_open_intent_that_cannot_be_closed_answers_commands_and_does_not_spin() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(5.0)
        again = scene.restarted()
        writes = 0

        def fail(operation: str, _id: UUID) -> None:
            nonlocal writes
            writes += operation == "write"
            if operation == "write":
                raise StoreUnavailableError("full")

        await anyio.sleep(0.0)
        async with again.opened():
            again.store.before = fail
            ended = again.send(Disconnect(connection_id=ID, user_id=USER), patience_s=200.0)
            await ended.answered.wait()
            again.store.before = None

    assert ended.code is FailureCode.DATABASE_ERROR
    assert writes < 1000


async def test_a_bug_at_the_desk_leaves_nobody_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()

    def bug(*_: Any, **__: Any) -> None:
        raise RuntimeError

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        monkeypatch.setattr(type(scene.stage.directory._world.sealer), "unseal", bug)
        # Behind a command, so that it is the actor who reads them.
        scene.stage.send(Refresh(connection_id=ID, credentials=None))
        sent = [scene.stage.send(GetToken(connection_id=ID), patience_s=5.0) for _ in range(3)]
        await anyio.sleep(10.0)

    assert [one.code for one in sent] == [FailureCode.DATABASE_ERROR] * 3
