"""What could not be published or settled is owed: kept in order, and paid before what is newer."""

from collections.abc import Callable
from uuid import UUID

import anyio
import msgspec
import pytest

from actors.ports import (
    EventLogUnavailableError,
    OutcomeUnknownError,
    StoreUnavailableError,
    Write,
)
from actors.world import Limits
from domain.events import Event
from domain.result import FailureCode, Success
from tests.fakes.commands import command, connect, connection_number, get, refresh
from tests.fakes.stage import Stage
from tests.fakes.trouble import BugError

_ID = connection_number(1)
_ATTEMPTED = "token_refresh.attempted"
_SUCCEEDED = [_ATTEMPTED, "token_refresh.succeeded"]
_FAILED = [_ATTEMPTED, "token_refresh.failed"]
_CONNECTED = ["connection.attempted", "connection.succeeded"]


class _Network:
    """Loses answers, requests or events until told otherwise."""

    def __init__(self, stage: Stage) -> None:
        self.store_is_silent = False
        self.writes_arrive = True
        self.log_is_down = False
        self._has_arrived = False
        stage.store.before = self._before_store
        stage.store.after_write = self._after_write
        stage.event_log.before = self._before_event

    def _before_store(self, operation: str, _: UUID) -> None:
        arrives = self.writes_arrive and not self._has_arrived
        if self.store_is_silent and operation == "write" and not arrives:
            raise OutcomeUnknownError("no answer")

    def _after_write(self, _: Write) -> None:
        if self.store_is_silent:
            self._has_arrived = True
            raise OutcomeUnknownError("no answer")

    def _before_event(self, _: Event) -> None:
        if self.log_is_down:
            raise EventLogUnavailableError("no answer")


async def test_a_success_is_answered_though_its_events_cannot_be_published_yet() -> None:
    stage = Stage()
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.log_is_down = True

        assert await stage.ask(refresh(_ID)) == Success(None)
        assert stage.story_of(_ID) == _CONNECTED

        network.log_is_down = False
        await stage.settled()
        assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED]


async def test_owed_events_are_published_before_newer_ones() -> None:
    stage = Stage()
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.log_is_down = True
        for _ in range(3):
            await stage.ask(refresh(_ID))
        await anyio.sleep(0.01)
        network.log_is_down = False
        await stage.ask(command("expire", _ID, ""))
        await stage.settled()

    assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED * 3, "status.changed"]
    ids = [event.id for event in stage.events_of(_ID)]
    assert ids == sorted(ids)


async def test_an_append_that_stops_midway_is_completed_without_repeating_anything() -> None:
    stage = Stage()
    events_left = 3

    def stop_once(_: Event) -> None:
        nonlocal events_left
        events_left -= 1
        if events_left == 0:
            raise EventLogUnavailableError("no answer")

    async with stage.opened():
        await stage.ask(connect(_ID))
        stage.event_log.before = stop_once
        sent = [stage.send(refresh(_ID)) for _ in range(4)]
        await stage.settled()

    assert [one.reply for one in sent] == [Success(None)] * 4
    assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED * 4]


async def test_a_long_outage_of_the_log_is_tried_again_at_a_bounded_pace() -> None:
    stage = Stage(limits=Limits(debt_pause_s_min=0.05, debt_pause_s_max=2.0))
    network = _Network(stage)
    tries = 0

    def count(_: Event) -> None:
        nonlocal tries
        tries += 1
        raise EventLogUnavailableError("no answer")

    async with stage.opened():
        await stage.ask(connect(_ID))
        stage.event_log.before = count
        await stage.ask(refresh(_ID))
        await anyio.sleep(3600.0)

        assert 3600 / 2 <= tries <= 3600 / 2 + 10
        network.log_is_down = False
        stage.event_log.before = None
        await stage.settled()
        assert stage.story_of(_ID)[2:] == _SUCCEEDED


async def test_a_command_wakes_an_actor_that_waits_to_pay_its_debts() -> None:
    stage = Stage(limits=Limits(debt_pause_s_min=100.0, debt_pause_s_max=100.0))
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.log_is_down = True
        await stage.ask(refresh(_ID))
        await anyio.sleep(1.0)
        asked_s = anyio.current_time()

        await stage.ask(get(_ID))

        assert anyio.current_time() - asked_s < 0.001


async def test_a_connection_that_owes_too_many_events_takes_no_more_commands() -> None:
    stage = Stage(limits=Limits(owed_events_max=10, burst_commands_max=2))
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.log_is_down = True

        replies = [stage.send(refresh(_ID)) for _ in range(20)]
        await anyio.sleep(1.0)
        codes = [sent.code for sent in replies]
        assert codes == [None] * 6 + [FailureCode.OVERLOADED] * 14

        network.log_is_down = False
        await stage.settled()
        assert await stage.ask(refresh(_ID)) == Success(None)
        assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED * 7]


async def test_an_unsettled_connection_does_not_owe_ever_more_events() -> None:
    stage = Stage(limits=Limits(owed_events_max=10, burst_commands_max=2))
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.store_is_silent, network.writes_arrive = True, False

        replies = [stage.send(refresh(_ID)) for _ in range(20)]
        await anyio.sleep(1.0)

        # One debt for the write, then two events for each refused command.
        codes = [sent.code for sent in replies]
        assert codes == [FailureCode.DATABASE_ERROR] * 8 + [FailureCode.OVERLOADED] * 12


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("applied", [True, False])
async def test_a_write_in_doubt_is_answered_at_once_and_told_truly_when_it_is_settled(
    applied: bool,
) -> None:
    limits = Limits(debt_pause_s_min=0.001, debt_pause_s_max=0.001)
    stage = Stage(limits=limits)
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.store_is_silent, network.writes_arrive = True, applied

        first = stage.send(refresh(_ID))
        await first.answered.wait()
        assert first.code is FailureCode.DATABASE_ERROR
        assert stage.story_of(_ID) == _CONNECTED

        # The same bytes are sent until the store answers: then it is applied, once.
        network.store_is_silent = False
        await stage.settled()
        assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED]
        assert stage.stored(_ID).generation == 2
        assert stage.journal.counts["settled_applied"] == 1


async def test_a_write_in_doubt_that_lost_to_another_is_told_as_failed() -> None:
    stage = Stage()
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.store_is_silent, network.writes_arrive = True, False
        await stage.ask(refresh(_ID))
        stage.store._apply(stage.store.records[_ID]._replace(op_id=b"foreign"))

        network.store_is_silent = False
        await stage.settled()

        assert stage.story_of(_ID) == [*_CONNECTED, *_FAILED]
        assert stage.stored(_ID).generation == 1
        assert stage.journal.counts["settled_not_applied"] == 1
        assert await stage.ask(refresh(_ID)) == Success(None)
        assert stage.stored(_ID).generation == 2


@pytest.mark.parametrize("loses_to_another", [True, False])
async def test_a_read_after_a_settled_write_sees_what_became_of_it(
    *, loses_to_another: bool
) -> None:
    stage = Stage()
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.store_is_silent, network.writes_arrive = True, False
        await stage.ask(refresh(_ID))
        if loses_to_another:
            written = stage.store.records[_ID]
            another = msgspec.structs.replace(written.connection, alias="another's")
            stage.store._apply(Write(another, 0, b"foreign"))
        network.store_is_silent = False
        await stage.settled()

        assert await stage.ask(get(_ID)) == Success(stage.stored(_ID))
        assert stage.stored(_ID).generation == (1 if loses_to_another else 2)


async def test_commands_after_a_write_in_doubt_fail_until_it_is_settled_and_stay_in_order() -> None:
    stage = Stage(limits=Limits(debt_pause_s_min=1.0))
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.store_is_silent = True
        await stage.ask(refresh(_ID))

        later = [stage.send(refresh(_ID)), stage.send(get(_ID)), stage.send(refresh(_ID))]
        for sent in later:
            await sent.answered.wait()
        assert [sent.code for sent in later] == [FailureCode.DATABASE_ERROR] * 3
        assert stage.story_of(_ID) == _CONNECTED

        network.store_is_silent = False
        await stage.settled()
        assert await stage.ask(refresh(_ID)) == Success(None)
        assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED, *_FAILED * 2, *_SUCCEEDED]
        assert stage.stored(_ID).generation == 3


async def test_a_store_that_is_away_leaves_a_write_in_doubt() -> None:
    stage = Stage()
    network = _Network(stage)

    def away(operation: str, _: UUID) -> None:
        if operation == "write":
            raise StoreUnavailableError("not connected")

    async with stage.opened():
        await stage.ask(connect(_ID))
        network.store_is_silent = True
        await stage.ask(refresh(_ID))
        await anyio.sleep(0.01)
        network.store_is_silent, stage.store.before = False, away
        await anyio.sleep(60.0)
        assert stage.story_of(_ID) == _CONNECTED

        stage.store.before = None
        await stage.settled()
        assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED]


async def test_debts_survive_a_crash_of_their_actor() -> None:
    stage = Stage()
    network = _Network(stage)

    def crash_once(then: Callable[[str, UUID], object]) -> Callable[[str, UUID], object]:
        def crash(_operation: str, _: UUID) -> None:
            stage.store.before = then
            raise BugError

        return crash

    async with stage.opened():
        await stage.ask(connect(_ID))
        network.log_is_down = True
        await stage.ask(refresh(_ID))
        assert stage.store.before is not None
        stage.store.before = crash_once(stage.store.before)
        await stage.ask(refresh(_ID))
        assert stage.journal.counts["crashed"] == 1

        network.log_is_down = False
        await stage.settled()
        assert stage.story_of(_ID) == [*_CONNECTED, *_SUCCEEDED]


async def test_an_actor_that_owes_is_neither_idle_nor_passivated() -> None:
    stage = Stage(limits=Limits(idle_s=1.0, resident_actors_max=1))
    network = _Network(stage)
    async with stage.opened():
        await stage.ask(connect(_ID))
        network.log_is_down = True
        await stage.ask(refresh(_ID))
        await anyio.sleep(100.0)

        assert stage.directory.busy_actors == stage.directory.resident_actors == 1
        assert stage.send(get(connection_number(2))).code is FailureCode.OVERLOADED
