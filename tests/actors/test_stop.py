"""Whenever a daemon ends, every command is answered once, and what was begun is told truly."""

import anyio
import anyio.lowlevel
import pytest

from actors.world import MOVED, Limits
from domain.commands import GetToken, Refresh
from domain.result import Failure, FailureCode, Success
from tests.fakes import laws
from tests.fakes.commands import connect, connection_number, get, refresh
from tests.fakes.holds import HeldAppends, for_ever
from tests.fakes.stage import Stage
from tests.fakes.token_scene import ID, Scene
from tests.fakes.world import MemoryLedger

_ID = connection_number(1)
_OTHER = connection_number(2)
_ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@_ON_BOTH_BACKENDS
async def test_a_drain_answers_everything_and_refuses_what_is_new() -> None:
    stage = Stage()
    async with stage.opened() as tasks:
        await stage.ask(connect(_ID))
        taken = [stage.send(refresh(_ID)) for _ in range(200)]
        results: list[bool] = []

        async def drain() -> None:
            results.append(await stage.directory.drain(10.0))

        tasks.start_soon(drain)
        while not stage.directory._is_draining:
            await anyio.lowlevel.checkpoint()
        refused = stage.send(refresh(_ID))
        while not results:
            await anyio.lowlevel.checkpoint()

        assert results == [True]
        assert [one.reply for one in taken] == [Success(None)] * 200
        assert refused.code is FailureCode.SHUTTING_DOWN


async def test_a_drain_of_nothing_is_done_at_once() -> None:
    stage = Stage()
    async with stage.opened():
        assert await stage.directory.drain(0.0)


async def test_a_drain_gives_up_when_its_time_is_over_and_the_cancelled_are_answered() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        stage.ledger.before = for_ever("append", "read")
        decided = [stage.send(refresh(_ID)) for _ in range(2)]
        not_begun = [stage.send(get(connection_number(2))) for _ in range(3)]
        started_s = anyio.current_time()

        assert not await stage.directory.drain(10.0)

        assert anyio.current_time() - started_s == pytest.approx(10.0, abs=0.1)
        assert not any(one.replies for one in (*decided, *not_begun))
    assert {one.code for one in decided} == {FailureCode.DATABASE_ERROR}
    assert {one.code for one in not_begun} == {FailureCode.SHUTTING_DOWN}


async def test_a_command_that_was_decided_is_told_truly_although_the_daemon_stops() -> None:
    stage = Stage()

    async def take_a_second() -> None:
        await anyio.sleep(1.0)

    async with stage.opened() as tasks:
        await stage.ask(connect(_ID))
        stage.ledger.before = lambda name, _: take_a_second() if name == "append" else None
        sent = stage.send(refresh(_ID))
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()

    assert sent.reply == Success(None)
    assert stage.stored(_ID).generation == 2
    assert stage.story_of(_ID)[-1] == "token_refresh.succeeded"


@_ON_BOTH_BACKENDS
@pytest.mark.parametrize("turns", range(6))
async def test_a_hard_cancel_answers_whatever_is_unanswered(turns: int) -> None:
    stage = Stage(ledger=MemoryLedger(group_entries_max=1))
    async with stage.opened():
        sent = [stage.send(connect(connection_number(n % 3))) for n in range(9)]
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()

    codes = {one.code for one in sent}
    assert codes <= {None, FailureCode.SHUTTING_DOWN, FailureCode.INVALID_TRANSITION}


@_ON_BOTH_BACKENDS
async def test_a_directory_that_has_ended_refuses_at_once() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))

    sent = [stage.send(get(_ID)), stage.send(get(connection_number(2)))]

    assert {one.code for one in sent} == {FailureCode.SHUTTING_DOWN}


async def test_a_stop_waits_no_longer_than_it_may_for_what_is_not_stored() -> None:
    stage = Stage(limits=Limits(last_burst_s=4.0))
    async with stage.opened():
        await stage.ask(connect(_ID))
        HeldAppends(stage.ledger)
        patient, other = stage.send(refresh(_ID)), stage.send(refresh(_ID), patience_s=2.0)
        started_s = anyio.current_time()

        await stage.directory.stop()

        assert anyio.current_time() - started_s == pytest.approx(4.0, abs=0.1)
    assert patient.code is other.code is FailureCode.DATABASE_ERROR
    assert isinstance(other.reply, Failure)
    # Its time was up meanwhile.
    assert "not known to be stored" in other.reply.message


async def test_who_waits_to_be_stored_is_told_in_time_while_a_flight_holds_the_stop_up() -> None:
    scene = Scene()
    stage = scene.stage
    async with stage.opened() as tasks:
        await stage.ask(scene.connect())
        await stage.ask(connect(_OTHER))
        scene.provider.takes_s = 20.0
        stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)
        HeldAppends(stage.ledger)
        sent = stage.send(refresh(_OTHER), patience_s=2.0)
        started_s = anyio.current_time()
        tasks.start_soon(stage.directory.stop)
        await sent.answered.wait()

        assert sent.code is FailureCode.DATABASE_ERROR
        assert anyio.current_time() - started_s == pytest.approx(1.85, abs=0.1)
        assert stage.directory.flights == 1


async def test_a_stop_at_once_waits_for_nothing() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        HeldAppends(stage.ledger)
        sent = stage.send(refresh(_ID))
        started_s = anyio.current_time()

        await stage.directory.stop(at_once=True)

        assert anyio.current_time() - started_s < 0.1
        assert isinstance(sent.reply, Failure)
        assert sent.code is FailureCode.DATABASE_ERROR
        assert sent.reply.message.endswith("the daemon stopped")


@_ON_BOTH_BACKENDS
@pytest.mark.parametrize("is_cold", [True, False])
@pytest.mark.parametrize("turns", range(30))
async def test_a_hard_cancel_of_a_flight_answers_everybody(turns: int, is_cold: bool) -> None:
    scene = Scene()
    scene.provider.takes_s = 0.0
    stage = scene.stage
    async with stage.opened():
        await stage.ask(scene.connect())
        if is_cold:
            stage.directory._actors.clear()
        for turn in range(turns + 1):
            if turn % 4 == 0:
                stage.send(GetToken(connection_id=ID))
                stage.send(Refresh(connection_id=ID, credentials=None))
                stage.send(get(ID))
            await anyio.lowlevel.checkpoint()

    laws.everybody_was_answered_once(stage)
    assert {one.code for one in stage.sent} <= {
        None,
        FailureCode.SHUTTING_DOWN,
        FailureCode.INVALID_CREDENTIALS,
    }
    assert stage.stored(ID).intent is None
    assert len(scene.provider.presented) == stage.stored(ID).generation - 1 <= 1
    laws.stories_are_whole(stage.events_of(ID))
    laws.events_tell_the_history(stage, ID)
    assert stage.directory._reading == set()
    assert stage.directory.flights == 0


@_ON_BOTH_BACKENDS
async def test_a_directory_that_is_cancelled_before_its_first_turn_ends() -> None:
    stage = Stage()

    with anyio.fail_after(1.0):
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.cancel()
            tasks.start_soon(stage.directory.run)


async def test_who_waits_for_a_flight_is_answered_when_the_daemon_stops_and_not_when_it_ends() -> (
    None
):
    scene = Scene()
    stage = scene.stage
    async with stage.opened() as tasks:
        await stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        asked = stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)
        held = stage.send(refresh(ID))
        tasks.start_soon(stage.directory.stop)
        await anyio.sleep(0.1)

        assert [one.code for one in (asked, held)] == [FailureCode.SHUTTING_DOWN] * 2
        await anyio.sleep(20.0)
        assert stage.stored(ID).generation == 2


async def test_a_lost_partition_is_not_waited_for_by_flights() -> None:
    scene = Scene()
    stage = scene.stage

    async with stage.opened():
        await stage.ask(scene.connect())
        scene.provider.takes_s = 3.0
        waiting = stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)
        stage.ledger.is_lost = True
        stage.send(connect(_OTHER))
        await anyio.sleep(3.0)
        assert waiting.reply is MOVED
    assert [one.connection.generation for one in stage.spill.kept] == [2]
    assert stage.journal.counts["outcome_lost"] == 0
    assert stage.journal.errors == []
    laws.everybody_was_answered_once(stage)


async def test_a_read_that_a_stop_cuts_off_is_over() -> None:
    stage = Stage()
    stage.ledger.before = lambda name, _: anyio.sleep_forever() if name == "read" else None
    async with stage.opened():
        sent = stage.send(get(_ID))
        await anyio.sleep(1.0)

    assert sent.code is FailureCode.SHUTTING_DOWN
    assert stage.directory.busy_actors == 0
