"""What is decided while a group is stored is stored by the next, told and answered in order."""

import math
from uuid import UUID

import anyio
import pytest

from actors.entry import EVENTS_MAX
from actors.envelope import Envelope
from actors.ports import StoreUnavailableError
from actors.world import Limits
from domain.commands import Refresh
from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.result import FailureCode, Success
from tests.fakes.commands import command, connect, connection_number, get, refresh
from tests.fakes.stage import Sent, Stage
from tests.fakes.world import MemoryLedger

_ID = connection_number(1)
_STORY = ["token_refresh.attempted", "token_refresh.succeeded"]
_ON_BOTH_BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


async def _connected(stage: Stage) -> None:
    assert isinstance(await stage.ask(connect(_ID)), Success)


async def _all_answered(sent: list[Sent]) -> None:
    for one in sent:
        await one.answered.wait()


@_ON_BOTH_BACKENDS
@pytest.mark.parametrize("entries", [1, 7, 1000])
async def test_400_refreshes_at_once_are_400_generations_and_few_appends(entries: int) -> None:
    stage = Stage(ledger=MemoryLedger(group_entries_max=entries))
    async with stage.opened():
        await _connected(stage)
        sent = [stage.send(refresh(_ID, f"secret {n}")) for n in range(400)]
        await _all_answered(sent)

    assert [one.reply for one in sent] == [Success(None)] * 400
    assert stage.stored(_ID).generation == 401
    written = math.ceil(800 / EVENTS_MAX)
    assert len(stage.ledger.history) - 1 <= written + 1
    assert len(stage.ledger.groups) - 1 <= math.ceil(written / entries) + 1
    assert stage.story_of(_ID)[2:] == _STORY * 400


async def test_commands_on_many_connections_are_stored_by_one_append() -> None:
    stage = Stage()
    ids = [connection_number(number) for number in range(50)]
    async with stage.opened():
        await _all_answered([stage.send(connect(one)) for one in ids])
        before = len(stage.ledger.groups)
        await _all_answered([stage.send(refresh(one)) for one in ids])

    assert len(stage.ledger.groups) == before + 1


async def test_while_one_group_is_stored_the_next_one_gathers() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        stage.ledger.before = lambda name, _: _take_half_a_second() if name == "append" else None
        first = stage.send(refresh(_ID))
        await anyio.sleep(0.1)
        later = [stage.send(refresh(_ID)) for _ in range(9)]
        await first.answered.wait()

        assert not any(one.replies for one in later)
        await _all_answered(later)

    assert [len(group) for group in stage.ledger.groups] == [1, 1, 1]
    assert stage.stored(_ID).generation == 11


async def _take_half_a_second() -> None:
    await anyio.sleep(0.5)


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
    stage = Stage(ledger=MemoryLedger(group_entries_max=1))
    order: list[int] = []
    async with stage.opened():
        await _connected(stage)
        for number in range(10):
            stage.directory.submit(
                Envelope(
                    refresh(_ID),
                    due_s=math.inf,
                    reply=lambda _, number=number: order.append(number),
                )
            )
        await stage.settled()

    assert order == list(range(10))


async def test_a_caller_is_answered_after_its_events_are_in_the_ledger() -> None:
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

    assert len(stage.ledger.history) == 1


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


async def test_a_record_that_cannot_be_read_fails_every_command_with_its_events() -> None:
    def fail(operation: str, _: UUID) -> None:
        if operation == "read":
            raise StoreUnavailableError("no answer")

    stage = Stage()
    stage.ledger.before = fail
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


def _generation(sent: Sent) -> int:
    assert isinstance(sent.reply, Success)
    assert isinstance(sent.reply.value, ProviderConnection)
    return sent.reply.value.generation
