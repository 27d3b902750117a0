"""A command whose caller has stopped waiting is not executed, but answered and counted, once."""

from uuid import UUID

import anyio
import pytest

from domain.result import FailureCode, Success
from tests.fakes.commands import connect, connection_number, refresh
from tests.fakes.stage import Stage
from tests.fakes.trouble import BugError

_ID = connection_number(1)


async def _slow_then(error: Exception | None) -> None:
    await anyio.sleep(1.0)
    if error is not None:
        raise error


async def test_a_late_command_is_dropped_answered_and_counted() -> None:
    stage = Stage()
    stage.store.before = lambda *_: _slow_then(None)
    async with stage.opened():
        await stage.ask(connect(_ID))
        in_time = stage.send(refresh(_ID))
        await anyio.sleep(0.1)

        late = [stage.send(refresh(_ID), patience_s=0.5) for _ in range(3)]
        patient = stage.send(refresh(_ID), patience_s=5.0)
        await patient.answered.wait()

        assert in_time.reply == patient.reply == Success(None)
        assert [sent.code for sent in late] == [FailureCode.OVERLOADED] * 3
        assert stage.journal.counts["dropped"] == 3
        assert stage.stored(_ID).generation == 3
        assert len(stage.events_of(_ID)) == 2 * 3


async def test_a_burst_of_nothing_but_late_commands_touches_neither_store_nor_log() -> None:
    stage = Stage()
    async with stage.opened():
        late = [stage.send(refresh(_ID), patience_s=0.0) for _ in range(3)]
        await stage.settled()

        assert [sent.code for sent in late] == [FailureCode.OVERLOADED] * 3
        assert stage.store.loads == 0
        assert stage.event_log.events == []


@pytest.mark.parametrize("operation", ["load", "write"])
async def test_a_late_command_is_not_answered_again_when_its_burst_crashes(operation: str) -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        if operation == "load":
            stage.directory._passivate_oldest()
        stage.store.before = lambda name, _: _slow_then(BugError() if name == operation else None)

        late = stage.send(refresh(_ID), patience_s=0.0)
        in_hand = stage.send(refresh(_ID))
        await stage.settled()

        assert late.code is FailureCode.OVERLOADED
        assert in_hand.code is FailureCode.DATABASE_ERROR


async def test_a_bug_in_the_journal_leaves_nobody_unanswered() -> None:
    def fail(connection_id: UUID, commands: int) -> None:
        raise BugError

    stage = Stage()
    stage.journal.dropped = fail
    async with stage.opened():
        sent = [stage.send(refresh(_ID), patience_s=0.0), stage.send(refresh(_ID))]
        await stage.settled()

    assert [one.code for one in sent] == [FailureCode.DATABASE_ERROR] * 2


async def test_a_late_command_is_not_answered_again_when_the_daemon_is_cancelled() -> None:
    stage = Stage()
    async with stage.opened():
        stage.store.before = lambda *_: _slow_then(None)
        late = stage.send(refresh(_ID), patience_s=0.0)
        in_hand = stage.send(refresh(_ID))
        await late.answered.wait()

    assert late.code is FailureCode.OVERLOADED
    assert in_hand.code is FailureCode.SHUTTING_DOWN
