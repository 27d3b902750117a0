"""A burst on one connection is stored by few writes, and told and answered in order."""

import math
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

from actors.ports import StoreUnavailableError, Write
from actors.world import Limits
from domain.commands import Refresh
from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.result import FailureCode, Success
from tests.fakes.commands import command, connect, connection_number, get, refresh
from tests.fakes.stage import Sent, Stage

_ID = connection_number(1)
_STORY = ["token_refresh.attempted", "token_refresh.succeeded"]
_ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


async def _connected(stage: Stage) -> None:
    assert isinstance(await stage.ask(connect(_ID)), Success)


async def _all_answered(sent: list[Sent]) -> None:
    for one in sent:
        await one.answered.wait()


@_ON_BOTH_BACKENDS
@pytest.mark.parametrize("burst", [1, 7, 64])
async def test_400_refreshes_at_once_are_400_generations_and_few_writes(burst: int) -> None:
    stage = Stage(limits=Limits(burst_commands_max=burst))
    async with stage.opened():
        await _connected(stage)
        sent = [stage.send(refresh(_ID, f"secret {n}")) for n in range(400)]
        await _all_answered(sent)

    assert [one.reply for one in sent] == [Success(None)] * 400
    assert stage.stored(_ID).generation == 401
    assert len(stage.store.history) - 1 <= math.ceil(400 / burst) + 1
    assert stage.story_of(_ID)[2:] == _STORY * 400


@_ON_BOTH_BACKENDS
async def test_the_last_refresh_of_a_burst_is_what_is_stored_sealed_for_its_generation() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        await _all_answered([stage.send(refresh(_ID, f"secret {n}")) for n in range(9)])

    credentials = stage.stored(_ID).credentials
    assert credentials is not None
    assert isinstance(credentials.payload, Sealed)
    assert credentials.payload.ciphertext == b"secret 8"
    assert credentials.payload.nonce == f"{_ID}:10".encode()


@_ON_BOTH_BACKENDS
async def test_answers_come_in_the_order_of_the_commands() -> None:
    stage = Stage(limits=Limits(burst_commands_max=3))
    order: list[int] = []

    async def note(number: int, sent: Sent) -> None:
        await sent.answered.wait()
        order.append(number)
        assert all(one.replies for one in stage.sent[: number + 1])

    async with stage.opened() as tasks:
        await _connected(stage)
        stage.sent.clear()
        for number in range(10):
            tasks.start_soon(note, number, stage.send(refresh(_ID)))
        await stage.settled()
        await anyio.lowlevel.checkpoint()

    assert sorted(order) == list(range(10))


async def test_a_caller_is_answered_after_its_events_are_in_the_log() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        for _ in range(3):
            await stage.ask(refresh(_ID))

            assert stage.story_of(_ID)[-2:] == _STORY


async def test_a_burst_of_reads_and_refusals_writes_nothing() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        await _all_answered(
            [
                stage.send(get(_ID)),
                stage.send(Refresh(connection_id=_ID, credentials=None)),
                stage.send(command("fail", _ID, "")),
                stage.send(command("disconnect_by_stranger", _ID, "")),
            ]
        )

    assert len(stage.store.history) == 1


async def test_a_read_sees_every_change_before_it_and_none_after() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        commands = [get(_ID), refresh(_ID), get(_ID), refresh(_ID), refresh(_ID), get(_ID)]
        sent = [stage.send(one) for one in commands]
        await _all_answered(sent)

    assert [_generation(one) for one in (sent[0], sent[2], sent[5])] == [1, 2, 4]


async def test_a_read_sees_the_latest_write_after_its_actor_was_passivated() -> None:
    stage = Stage(limits=Limits(idle_s=1.0))
    async with stage.opened():
        await _connected(stage)
        for generation in range(2, 6):
            await stage.ask(refresh(_ID))
            await anyio.sleep(2.0)
            assert stage.directory.resident_actors == 0

            sent = stage.send(get(_ID))
            await sent.answered.wait()

            assert _generation(sent) == generation


async def test_a_read_sees_what_another_writer_wrote_once_a_write_met_it() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        before = stage.stored(_ID)
        assert before.credentials is not None
        foreign = before.refreshed(before.credentials, now=stage.clock.now())
        stage.store._apply(Write(foreign, 0, b"foreign"))

        assert await stage.ask(refresh(_ID)) == Success(None)
        sent = stage.send(get(_ID))
        await sent.answered.wait()

    assert _generation(sent) == 3
    assert stage.story_of(_ID)[2:] == _STORY


async def test_a_store_failure_keeps_what_was_decided_before_the_first_change() -> None:
    def fail(operation: str, _: UUID) -> None:
        if operation == "write":
            raise StoreUnavailableError("disk full")

    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        stage.store.before = fail
        commands = [
            get(_ID),
            Refresh(connection_id=_ID, credentials=None),
            refresh(_ID),
            get(_ID),
            Refresh(connection_id=_ID, credentials=None),
        ]
        sent = [stage.send(one) for one in commands]
        await stage.settled()

    assert _generation(sent[0]) == 1
    assert [one.code for one in sent[1:]] == [
        FailureCode.INVALID_CREDENTIALS,
        FailureCode.DATABASE_ERROR,
        FailureCode.DATABASE_ERROR,
        FailureCode.DATABASE_ERROR,
    ]
    assert stage.story_of(_ID)[2:] == ["token_refresh.attempted", "token_refresh.failed"] * 3
    assert stage.stored(_ID).generation == 1


async def test_a_store_that_cannot_be_read_fails_every_command_with_its_events() -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailableError("no answer")

    stage = Stage()
    stage.store.before = fail
    async with stage.opened():
        sent = [stage.send(refresh(_ID)), stage.send(get(_ID)), stage.send(connect(_ID))]
        await stage.settled()

    assert [one.code for one in sent] == [FailureCode.DATABASE_ERROR] * 3
    assert stage.story_of(_ID) == [
        "token_refresh.attempted",
        "token_refresh.failed",
        "connection.attempted",
        "connection.failed",
    ]
    assert [event.provider_slug for event in stage.events_of(_ID)][:2] == ["unknown"] * 2


async def test_a_writer_who_never_stops_makes_the_command_fail_and_not_spin() -> None:
    stage = Stage(limits=Limits(conflict_retries_max=3))
    async with stage.opened():
        await _connected(stage)

        def overtake(operation: str, _: UUID) -> None:
            if operation == "write":
                stage.store._apply(stage.store.records[_ID]._replace(op_id=b"foreign"))

        stage.store.before = overtake
        sent = stage.send(refresh(_ID))
        await stage.settled()

    assert sent.code is FailureCode.DATABASE_ERROR
    assert len(stage.store.history) == 1 + 3
    assert stage.story_of(_ID)[2:] == ["token_refresh.attempted", "token_refresh.failed"]


def _generation(sent: Sent) -> int:
    assert isinstance(sent.reply, Success)
    assert isinstance(sent.reply.value, ProviderConnection)
    return sent.reply.value.generation
