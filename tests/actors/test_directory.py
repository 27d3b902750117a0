"""Actors come with their first command and go when idle, and take no task while they are idle."""

from collections.abc import Callable
from uuid import UUID

import anyio
import pytest
import trio

from actors.entry import EVENTS_MAX
from actors.world import Limits
from domain.commands import Get, Refresh
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import connect, connection_number, get, refresh
from tests.fakes.holds import HeldAppends, for_ever
from tests.fakes.stage import Stage

_ID = connection_number(1)
_ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


def _resident(stage: Stage) -> set[int]:
    """Return the numbers of the actors in memory."""
    return {n for n in range(100) if connection_number(n).int in stage.directory._actors}


async def test_no_task_is_left_while_every_actor_is_idle() -> None:
    stage = Stage()
    async with stage.opened():
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(50):
            await stage.ask(connect(connection_number(number)))
        await stage.settled()
        await anyio.sleep(0.001)

        assert stage.directory.resident_actors == 50
        assert stage.directory.busy_actors == 0
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_an_idle_actor_keeps_its_connection_and_does_not_read_again() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        for _ in range(5):
            await stage.ask(refresh(_ID))
            await anyio.sleep(60.0)

    assert stage.ledger.reads == 1


async def test_an_actor_is_forgotten_after_its_idle_time_and_not_before() -> None:
    stage = Stage(limits=Limits(idle_s=100.0))
    async with stage.opened():
        await stage.ask(connect(_ID))
        await anyio.sleep(99.0)
        assert stage.directory.resident_actors == 1

        await stage.ask(refresh(_ID))
        await anyio.sleep(99.0)
        assert stage.directory.resident_actors == 1

        await anyio.sleep(12.0)
        assert stage.directory.resident_actors == 0
        assert await stage.ask(refresh(_ID)) == Success(None)
        assert stage.stored(_ID).generation == 3


async def test_a_full_house_evicts_whoever_was_idle_longest() -> None:
    stage = Stage(limits=Limits(resident_actors_max=3))
    async with stage.opened():
        for number in (1, 2, 3):
            await stage.ask(connect(connection_number(number)))
        await stage.ask(get(connection_number(1)))

        await stage.ask(connect(connection_number(4)))

        assert _resident(stage) == {1, 3, 4}
        assert await stage.ask(refresh(connection_number(2))) == Success(None)
        assert _resident(stage) == {1, 2, 4}
        assert stage.stored(connection_number(2)).generation == 2


async def test_a_house_full_of_busy_actors_refuses_at_once() -> None:
    stage = Stage(limits=Limits(resident_actors_max=2))
    stage.ledger.before = for_ever("read")
    async with stage.opened():
        stage.send(get(connection_number(1)))
        stage.send(get(connection_number(2)))

        refused = stage.send(get(connection_number(3)))

        assert isinstance(refused.reply, Failure)
        assert refused.code is FailureCode.OVERLOADED
        assert refused.reply.message == "too many connections are busy"
        assert _resident(stage) == {1, 2}


async def test_connections_that_are_not_stored_do_not_stay_in_memory() -> None:
    stage = Stage()
    async with stage.opened():
        for number in range(50):
            sent = stage.send(get(connection_number(number)))
            await stage.settled()
            assert sent.code is FailureCode.CONNECTION_NOT_FOUND

        assert stage.directory.resident_actors == 0


@_ON_BOTH_BACKENDS
async def test_a_full_mailbox_refuses_at_once_and_forgets_nothing() -> None:
    stage = Stage(limits=Limits(mailbox_commands_max=5))
    async with stage.opened():
        await stage.ask(connect(_ID))

        sent = [stage.send(refresh(_ID)) for _ in range(8)]

        assert {one.code for one in sent[5:]} == {FailureCode.OVERLOADED}
        assert not any(one.replies for one in sent[:5])
        await stage.settled()
        assert [one.reply for one in sent[:5]] == [Success(None)] * 5
        assert stage.stored(_ID).generation == 6
        assert stage.complaints == []


async def test_one_busy_connection_does_not_hold_up_another() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(connection_number(2)))
        stage.ledger.before = for_ever("read", connection_id=_ID)
        stage.send(get(_ID))

        with anyio.fail_after(0.1):
            assert await stage.ask(refresh(connection_number(2))) == Success(None)


async def test_a_record_is_read_once_for_all_that_wait_for_it() -> None:
    stage = Stage()
    async with stage.opened():
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(10):
            stage.send(get(_ID))

        assert trio.lowlevel.current_statistics().tasks_living == before + 1
        await stage.settled()
        assert stage.ledger.reads == 1


async def test_commands_take_no_task_at_all() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(100):
            stage.send(refresh(_ID))

        assert trio.lowlevel.current_statistics().tasks_living == before


@pytest.mark.parametrize("make", [refresh, get])
async def test_a_mailbox_is_bounded_however_many_entries_it_takes(
    make: Callable[[UUID], Refresh | Get],
) -> None:
    bound = 2 * EVENTS_MAX
    stage = Stage(limits=Limits(mailbox_commands_max=bound))
    async with stage.opened():
        await stage.ask(connect(_ID))
        held = HeldAppends(stage.ledger)
        stage.send(refresh(_ID))
        await anyio.sleep(0.01)

        sent = [stage.send(make(_ID)) for _ in range(bound + 10)]

        waiting = [one for one in sent if not one.replies]
        # Reads are behind the first command, which counts with them.
        assert bound - 1 <= len(waiting) <= bound
        assert {one.code for one in sent[len(waiting) :]} == {FailureCode.OVERLOADED}
        held.end()
        await stage.settled()
        assert {one.code for one in waiting} == {None}
