"""A daemon that is told to stop begins no request, waits for those begun, and ends in its time."""

from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest

from actors.directory import Directory
from domain.commands import GetToken, Refresh
from domain.credentials import Sealed
from domain.profile import FailureClass
from domain.result import FailureCode, Success
from tests.fakes import laws
from tests.fakes.commands import connection_number
from tests.fakes.holds import HeldAppends
from tests.fakes.token_scene import ID, Scene

_OTHER = connection_number(2)
_ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)


async def _connect(scene: Scene, connection_id: UUID) -> None:
    await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=connection_id))


@_ON_BOTH_BACKENDS
async def test_flights_that_wait_for_a_slot_are_refused_at_once_and_never_sent() -> None:
    scene = Scene(max_concurrency=4)
    stage, ids = scene.stage, [connection_number(n) for n in range(60)]
    scene.provider.takes_s = 1.0
    async with stage.opened():
        for connection_id in ids:
            await _connect(scene, connection_id)
        asked = [stage.send(GetToken(connection_id=one), patience_s=500.0) for one in ids]
        await anyio.sleep(0.5)
        assert len(scene.provider.presented) == 4

        began_s = anyio.current_time()
        assert await stage.directory.drain(20.0)

        assert anyio.current_time() - began_s < 1.0
        assert len(scene.provider.presented) == 4
        refused = [one for one in asked if one.code is FailureCode.SHUTTING_DOWN]
        assert len(refused) == 56
    laws.everybody_was_answered_once(stage)


async def test_a_slot_that_comes_free_as_the_daemon_is_told_to_stop_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(max_concurrency=1)
    stage = scene.stage
    seal = stage.directory.world.sealer.seal

    def stop_and_seal(*args: Any, **kwargs: Any) -> Sealed:
        # The first has given its slot back, and the second has not heard of it yet.
        stage.directory.refrain()
        return seal(*args, **kwargs)

    async with stage.opened():
        await _connect(scene, ID)
        await _connect(scene, _OTHER)
        first = stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.01)
        second = stage.send(GetToken(connection_id=_OTHER))
        await anyio.sleep(0.01)
        monkeypatch.setattr(stage.directory.world.sealer, "seal", stop_and_seal)
        await stage.settled()

    assert isinstance(first.reply, Success)
    assert second.code is FailureCode.SHUTTING_DOWN
    assert stage.story_of(_OTHER) == ["connection.attempted", "connection.succeeded"]


async def test_an_intent_that_is_being_stored_when_the_drain_begins_is_ended_without_a_request() -> (
    None
):
    scene = Scene()
    async with scene.stage.opened() as tasks:
        await scene.stage.ask(scene.connect())
        held = HeldAppends(scene.stage.ledger)
        asked = scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.5)
        tasks.start_soon(scene.stage.directory.drain, 20.0)
        await anyio.sleep(0.1)
        held.end()
        await asked.answered.wait()

        assert asked.code is FailureCode.SHUTTING_DOWN
        assert scene.provider.presented == []
        assert scene.story == ["attempted", "failed"]
        assert scene.stage.stored(ID).intent is None
        assert scene.stage.stored(ID).doubted_at is None


@pytest.mark.parametrize(
    ("code", "profile"),
    [("invalid_client", {"client_secrets": 2}), ("invalid_scope", {"scope": "read"})],
)
async def test_a_client_refused_during_a_drain_is_not_presented_in_another_way(
    code: str, profile: dict[str, Any]
) -> None:
    scene = Scene(**profile)
    scene.provider.takes_s = 2.0
    scene.provider.before = lambda _: scene.provider.answered(401, {"error": code})
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(1.0)

        assert await scene.stage.directory.drain(20.0)

        assert scene.provider.presented == ["r1"]
        stored = scene.stage.stored(ID)
        assert stored.is_active
        assert stored.doubted_at is None
        assert stored.trouble is not None
        assert stored.trouble.code == code
        assert stored.trouble.failure_class is FailureClass.OPERATOR


async def test_what_waits_behind_a_flight_begins_no_other_when_it_lands_in_a_drain() -> None:
    scene = Scene()
    stage = scene.stage
    scene.provider.takes_s = 1.0
    async with stage.opened():
        await stage.ask(scene.connect())
        asked = stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.5)
        held = stage.send(Refresh(connection_id=ID, credentials=None), patience_s=500.0)
        unsatisfied = stage.send(GetToken(connection_id=ID, min_ttl_s=90_000.0), patience_s=500.0)

        assert await stage.directory.drain(20.0)

        assert isinstance(asked.reply, Success)
        assert held.code is FailureCode.INVALID_CREDENTIALS
        assert unsatisfied.replies
        assert len(scene.provider.presented) == 1


async def test_a_record_that_is_read_while_the_daemon_drains_makes_no_flight() -> None:
    scene = Scene()
    stage = scene.stage
    async with stage.opened():
        await stage.ask(scene.connect())
        stage.directory._actors.clear()
        stage.ledger.before = lambda name, _: anyio.sleep(1.0) if name == "read" else None
        asked = stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.1)

        assert await stage.directory.drain(20.0)

        assert asked.code is FailureCode.SHUTTING_DOWN
        assert scene.provider.presented == []


async def test_the_wait_for_an_open_intent_is_no_work_that_a_drain_waits_for() -> None:
    scene = Scene()
    again = await scene.cut_amid_a_flight()
    async with again.opened():
        asked = again.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.5)
        began_s = anyio.current_time()

        assert await again.directory.drain(20.0)

        assert anyio.current_time() - began_s < 0.5
        assert asked.code is FailureCode.SHUTTING_DOWN
    assert again.stored(ID).intent is not None


@_ON_BOTH_BACKENDS
async def test_a_request_without_an_answer_at_the_end_of_the_time_leaves_its_intent_open() -> None:
    scene = Scene()
    stage = scene.stage
    scene.provider.takes_s = 300.0
    async with stage.opened():
        await stage.ask(scene.connect())
        asked = stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(1.0)
        began_s = anyio.current_time()

        assert not await stage.directory.drain(1.0)
        await stage.directory.stop(within_s=0.0)

        assert 1.0 <= anyio.current_time() - began_s < 3.0
        assert asked.code is FailureCode.SHUTTING_DOWN
        assert stage.journal.counts["cut_off"] == 1
        assert stage.stored(ID).intent is not None
        assert scene.story == ["attempted"]
    assert stage.journal.errors == []
    laws.everybody_was_answered_once(stage)


async def _stopped_with_an_answer_unstored(scene: Scene, *, at_once: bool) -> None:
    stage = scene.stage
    await stage.ask(scene.connect())
    stage.send(GetToken(connection_id=ID), patience_s=500.0)
    await anyio.sleep(0.05)
    HeldAppends(stage.ledger)
    await anyio.sleep(0.5)
    await _ended(stage.directory, at_once=at_once)


async def _ended(directory: Directory, *, at_once: bool) -> None:
    if not at_once:
        assert not await directory.drain(1.0)
    await directory.stop(at_once=at_once, within_s=1.0)


@_ON_BOTH_BACKENDS
@pytest.mark.parametrize("at_once", [False, True])
async def test_an_answer_that_cannot_be_stored_by_the_end_of_the_time_is_spilled_whole(
    at_once: bool,
) -> None:
    scene = Scene()
    async with scene.stage.opened():
        began_s = anyio.current_time()
        await _stopped_with_an_answer_unstored(scene, at_once=at_once)

        assert anyio.current_time() - began_s < 3.0
    (outcome,) = scene.stage.spill.kept
    before = scene.stage.stored(ID)
    assert before.intent is not None
    assert outcome.attempt_id == before.intent.attempt_id
    assert outcome.generation == before.generation == 1
    assert outcome.connection.generation == 2
    assert outcome.connection.intent is None
    assert [event.outcome for event in outcome.events] == ["succeeded"]


async def test_an_answer_without_a_ledger_is_waited_for_and_spilled() -> None:
    scene = Scene()
    stage = scene.stage
    scene.provider.takes_s = 3.0
    async with stage.opened():
        await stage.ask(scene.connect())
        stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.5)
        HeldAppends(stage.ledger)

        await stage.directory.stop(at_once=True, within_s=10.0)

        assert anyio.current_time() < 4.0
        assert [one.connection.generation for one in stage.spill.kept] == [2]


async def test_an_answer_in_doubt_is_spilled_while_the_daemon_runs_and_forgotten_when_stored() -> (
    None
):
    scene = Scene()
    stage = scene.stage
    async with stage.opened():
        await stage.ask(scene.connect())
        asked = stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.05)
        held = HeldAppends(stage.ledger)
        await anyio.sleep(2.0)
        assert len(stage.spill.kept) == 1

        held.end()
        await asked.answered.wait()
        await stage.settled()

        assert isinstance(asked.reply, Success)
        assert stage.spill.kept == []
        assert stage.spill.ever_kept == 1


async def test_an_answer_for_which_the_disk_had_no_room_is_spilled_once_there_is() -> None:
    scene = Scene()
    stage = scene.stage
    async with stage.opened() as tasks:
        await stage.ask(scene.connect())
        stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.05)
        HeldAppends(stage.ledger)
        stage.spill.is_full = True
        await anyio.sleep(2.0)
        tasks.start_soon(stage.directory.stop)
        await anyio.sleep(1.0)
        stage.spill.is_full = False
        await anyio.sleep(60.0)

    assert [one.connection.generation for one in stage.spill.kept] == [2]
    assert stage.journal.counts["outcome_lost"] == 0
