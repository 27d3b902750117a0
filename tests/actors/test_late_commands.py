"""A command whose caller has stopped waiting is not executed, but answered and counted, once."""

import anyio
import pytest
import trio
from trio.testing import MockClock

from actors.world import Limits
from domain.result import FailureCode
from tests.fakes.commands import connect, connection_number, get, refresh
from tests.fakes.holds import for_ever
from tests.fakes.stage import Stage
from tests.fakes.trouble import BugError

_ID = connection_number(1)


async def _slow_then(error: Exception | None) -> None:
    await anyio.sleep(1.0)
    if error is not None:
        raise error


def _slow_read(stage: Stage, error: Exception | None = None) -> None:
    stage.ledger.before = lambda operation, _: _slow_then(error) if operation == "read" else None


async def test_a_command_that_was_not_begun_in_time_is_dropped_answered_and_counted() -> None:
    stage = Stage()
    _slow_read(stage)
    async with stage.opened():
        late = [stage.send(connect(_ID), patience_s=0.5) for _ in range(3)]
        patient = stage.send(connect(_ID), patience_s=5.0)
        await patient.answered.wait()

        assert patient.code is None
        assert [sent.code for sent in late] == [FailureCode.TIMED_OUT] * 3
        assert stage.journal.counts["dropped"] == 3
        assert stage.stored(_ID).generation == 1
        assert len(stage.events_of(_ID)) == 2


async def test_a_late_command_is_answered_before_its_caller_gives_up() -> None:
    stage = Stage()
    stage.ledger.before = lambda name, _: anyio.sleep_forever() if name == "read" else None
    async with stage.opened():
        late = stage.send(get(_ID), patience_s=4.0)
        await late.answered.wait()

        assert 3.5 < anyio.current_time() < 4.0


async def test_a_late_command_is_not_answered_again_when_a_bug_follows() -> None:
    stage = Stage()
    _slow_read(stage, BugError())
    async with stage.opened():
        late = stage.send(refresh(_ID), patience_s=0.5)
        waiting = stage.send(refresh(_ID))
        await waiting.answered.wait()

        assert late.code is FailureCode.TIMED_OUT
        assert waiting.code is FailureCode.DATABASE_ERROR


async def test_a_late_command_is_not_answered_again_when_the_daemon_is_cancelled() -> None:
    stage = Stage()
    _slow_read(stage)
    async with stage.opened():
        late = stage.send(refresh(_ID), patience_s=0.3)
        waiting = stage.send(refresh(_ID))
        await late.answered.wait()

    assert late.code is FailureCode.TIMED_OUT
    assert waiting.code is FailureCode.SHUTTING_DOWN


async def test_a_journal_that_fails_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.ledger.before = for_ever("read")

    def bug(*_: object) -> None:
        raise BugError

    monkeypatch.setattr(stage.journal, "dropped", bug)
    async with stage.opened():
        first = stage.send(refresh(_ID), patience_s=1.0)
        await first.answered.wait()
        second = stage.send(refresh(_ID), patience_s=1.0)
        await second.answered.wait()

    assert first.code is second.code is FailureCode.TIMED_OUT
    assert stage.journal.counts["crashed"] == 2
    assert [isinstance(error, BugError) for error in stage.journal.errors] == [True] * 2


async def test_what_is_late_when_its_record_is_read_is_not_executed_though_nobody_has_looked() -> (
    None
):
    stage = Stage(limits=Limits(idle_s=1.0))
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    async with stage.opened():
        await stage.ask(connect(_ID))
        await anyio.sleep(5.0)
        # The event loop stands still while the record is on its way.
        stage.ledger.before = lambda name, _: clock.jump(6.0) if name == "read" else None
        late, patient = stage.send(refresh(_ID), patience_s=2.0), stage.send(refresh(_ID))
        await stage.settled()

    assert late.code is FailureCode.TIMED_OUT
    assert patient.code is None
    assert stage.stored(_ID).generation == 2
    assert stage.journal.told == [("dropped", _ID, 1)]
