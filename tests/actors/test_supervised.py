"""What a directory tells of its actors, where it keeps them and for whom it makes room."""

from typing import Any
from uuid import UUID

import anyio
import pytest

from actors.directory import Directory
from actors.envelope import Envelope
from actors.world import Limits
from domain.decision import Reply
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import connect, connection_number, get, refresh
from tests.fakes.holds import HeldAppends
from tests.fakes.stage import Stage, reasons
from tests.fakes.trouble import BugError
from tests.fakes.world import MemoryLedger

_ID = connection_number(1)


async def test_a_quarantine_is_told_to_the_journal_and_to_callers_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(limits=Limits(restarts_max=1, restarts_period_s=60.0, quarantine_s=30.0))
    errors = [BugError(), BugError()]
    told = list[tuple[object, ...]](("crashed", _ID, error) for error in errors)

    def bug(*_: Any, **__: Any) -> None:
        raise errors.pop(0)

    async with stage.opened():
        await stage.ask(connect(_ID))
        with monkeypatch.context() as patched:
            patched.setattr(stage.directory.world.sealer, "seal", bug)
            await stage.ask(refresh(_ID))
            await anyio.sleep(60.0)
            await stage.ask(refresh(_ID))
        await anyio.sleep(10.5)
        refused = stage.send(get(_ID))
        await anyio.sleep(19.5)
        served = await stage.ask(get(_ID))

    assert isinstance(refused.reply, Failure)
    assert refused.code is FailureCode.DATABASE_ERROR
    assert refused.reply.retry_after_s == 20.0
    assert "failed repeatedly" in refused.reply.message
    assert isinstance(served, Success)
    assert stage.journal.told == [*told, ("quarantined", _ID, 30.0)]


async def test_only_as_many_crashes_as_are_too_many_within_the_period_are_a_quarantine() -> None:
    stage = Stage(limits=Limits(restarts_max=2, restarts_period_s=60.0))
    async with stage.opened():
        await stage.ask(connect(_ID))
        (actor,) = stage.directory._actors.values()
        refusals: list[bool] = []
        for at_s in (100.0, 150.0, 200.0, 255.0, 257.0):
            await anyio.sleep(at_s - anyio.current_time())
            refusals.append(stage.directory.crashed(actor, BugError()) is not None)

    assert refusals == [False, False, False, False, True]


async def test_those_who_wait_when_a_quarantine_begins_are_told_how_long_it_is() -> None:
    stage = Stage(limits=Limits(restarts_max=1, quarantine_s=30.0))
    stage.ledger.before = lambda name, _: anyio.sleep_forever() if name == "read" else None
    async with stage.opened():
        waiting = [stage.send(get(_ID)) for _ in range(2)]
        (actor,) = stage.directory._actors.values()
        assert stage.directory.crashed(actor, BugError()) is None
        refusal = stage.directory.crashed(actor, BugError())

        assert isinstance(refusal, Failure)
        assert refusal.retry_after_s == 30.0
        assert [one.reply for one in waiting] == [refusal] * 2


@pytest.mark.parametrize(
    ("operation", "is_cold"), [("add", False), ("seal", False), ("seal", True)]
)
async def test_the_events_of_a_command_that_met_a_bug_say_so_without_its_words(
    operation: str, is_cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(limits=Limits(idle_s=1.0))
    errors = [BugError("words")]

    def bug(*_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        raise errors[0]

    async with stage.opened():
        await stage.ask(connect(_ID))
        if is_cold:
            await anyio.sleep(5.0)
        of = stage.ledger if operation == "add" else stage.directory.world.sealer
        monkeypatch.setattr(of, operation, bug)
        assert isinstance(await stage.ask(refresh(_ID)), Failure)
        await stage.settled()

    assert [reason.endswith(": internal error") for reason in reasons(stage.events_of(_ID))] == [
        True
    ]
    assert stage.journal.told == [("crashed", _ID, errors[0])]


async def test_a_bug_in_reading_a_record_is_told_and_answered_without_its_words() -> None:
    error = BugError("words")

    def strike(operation: str, _: UUID) -> None:
        if operation == "read":
            raise error

    stage = Stage()
    stage.ledger.before = strike
    async with stage.opened():
        sent = stage.send(refresh(_ID))
        await stage.settled()
        assert stage.directory.resident_actors == 0

    assert isinstance(sent.reply, Failure)
    assert sent.code is FailureCode.DATABASE_ERROR
    assert "words" not in sent.reply.message
    assert sent.reply.message.endswith("internal error")
    assert stage.journal.told == [("crashed", _ID, error)]


async def test_an_actor_that_met_a_bug_before_it_knew_anything_takes_no_memory() -> None:
    def strike(operation: str, _: UUID) -> None:
        if operation == "recall":
            raise BugError

    stage = Stage()
    stage.ledger.before = strike
    async with stage.opened():
        sent = stage.send(get(_ID))

        assert sent.code is FailureCode.DATABASE_ERROR
        assert stage.directory.resident_actors == 0


async def test_a_full_house_makes_room_by_whoever_is_idle_behind_those_who_are_busy() -> None:
    stage = Stage(limits=Limits(resident_actors_max=3))
    busy, idle, new = [connection_number(n) for n in (1, 2)], *map(connection_number, (3, 4))
    async with stage.opened():
        for one in (*busy, idle):
            await stage.ask(connect(one))
        held = HeldAppends(stage.ledger)
        waiting = [stage.send(refresh(one)) for one in busy]
        await stage.ask(get(idle))
        made = stage.send(get(new))

        assert made.replies == []
        resident = {UUID(int=number) for number in stage.directory._actors}
        assert resident == {*busy, new}
        held.end()
        await stage.settled()

    assert made.code is FailureCode.CONNECTION_NOT_FOUND
    assert [one.code for one in waiting] == [None, None]


async def test_each_connection_is_kept_in_its_own_partition() -> None:
    stage = Stage()
    ledgers = [MemoryLedger(), MemoryLedger()]
    directory = Directory(
        world=stage.directory.world,
        limits=Limits(),
        ledgers=ledgers,
        partition_of=lambda one: one.int % 2,
    )
    answers = list[Reply]()
    ids = [connection_number(number) for number in range(4)]
    async with anyio.create_task_group() as tasks:
        await tasks.start(directory.run)
        for one in ids:
            directory.submit(Envelope(connect(one), due_s=1e9, reply=answers.append))
        assert directory.resident_actors == 4
        assert directory.busy_actors == 4
        await anyio.sleep(0.1)
        assert directory.busy_actors == 0
        held = HeldAppends(ledgers[1])
        for one in ids:
            directory.submit(Envelope(refresh(one), due_s=1e9, reply=answers.append))
        await anyio.sleep(0.1)
        assert directory.busy_actors == 2
        assert not await directory.drain(1.0)
        held.end()
        assert await directory.drain(1.0)
        await directory.stop()

    assert [isinstance(one, Success) for one in answers] == [True] * 8
    assert [set(ledger.records) for ledger in ledgers] == [{ids[0], ids[2]}, {ids[1], ids[3]}]


async def test_an_actor_that_is_busy_when_its_idle_time_is_over_is_kept_for_another_one() -> None:
    stage = Stage(limits=Limits(idle_s=10.0, unclear_s=100.0))
    async with stage.opened():
        await stage.ask(connect(_ID))
        held = HeldAppends(stage.ledger)
        sent = stage.send(refresh(_ID))
        await anyio.sleep(15.0)
        assert stage.directory.resident_actors == 1
        held.end()
        await stage.settled()
        assert sent.reply == Success(None)
        await anyio.sleep(4.0)
        assert stage.directory.resident_actors == 1
        await anyio.sleep(7.0)
        assert stage.directory.resident_actors == 0
