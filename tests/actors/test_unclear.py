"""While it is not known whether a group is stored: who is told what, and what is told after."""

import anyio

from actors.directory import LOST
from actors.world import MOVED, Limits
from domain.commands import GetToken, MarkSynced, Refresh
from domain.connection import ProviderConnection
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import connect, connection_number, get, refresh
from tests.fakes.holds import HeldAppends
from tests.fakes.stage import Sent, Stage
from tests.fakes.token_scene import ID as TOKEN_ID
from tests.fakes.token_scene import Scene

_ID = connection_number(1)
_OTHER = connection_number(2)
_FAILED = ["token_refresh.attempted", "token_refresh.failed"]
_DONE = ["token_refresh.attempted", "token_refresh.succeeded"]


async def _connected(stage: Stage) -> None:
    assert isinstance(await stage.ask(connect(_ID)), Success)
    assert isinstance(await stage.ask(connect(_OTHER)), Success)


async def test_a_caller_whose_time_is_up_is_told_so_and_the_truth_is_told_by_events() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        held = HeldAppends(stage.ledger)
        sent = stage.send(refresh(_ID), patience_s=0.8)
        await sent.answered.wait()

        assert sent.code is FailureCode.DATABASE_ERROR
        assert stage.story_of(_ID)[2:] == []
        held.end()
        await stage.settled()

    assert stage.stored(_ID).generation == 2
    assert stage.story_of(_ID)[2:] == _DONE


async def test_after_a_second_commands_are_refused_at_once_and_told_when_it_is_over() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        held = HeldAppends(stage.ledger)
        first = stage.send(refresh(_ID))
        await anyio.sleep(0.9)
        second = stage.send(refresh(_ID))
        assert not second.replies
        await anyio.sleep(0.3)

        refused = [stage.send(refresh(one)) for one in (_ID, _OTHER, _ID)]

        assert [one.code for one in refused] == [FailureCode.DATABASE_ERROR] * 3
        held.end()
        await stage.settled()
        assert first.reply == second.reply == Success(None)
        assert await stage.ask(refresh(_OTHER)) == Success(None)

    assert stage.story_of(_ID)[2:] == [*_DONE, *_DONE, *_FAILED, *_FAILED]
    assert stage.story_of(_OTHER)[2:] == [*_FAILED, *_DONE]
    assert stage.stored(_ID).generation == 3


async def test_the_events_of_refused_commands_are_bounded_and_the_others_counted() -> None:
    stage = Stage(limits=Limits(refused_events_max=10))
    async with stage.opened():
        await _connected(stage)
        held = HeldAppends(stage.ledger)
        stage.send(refresh(_ID))
        await anyio.sleep(1.5)
        for _ in range(50):
            stage.send(refresh(_ID))
        held.end()
        await stage.settled()

    assert stage.story_of(_ID)[2:] == [*_DONE, *(_FAILED * 5)]
    assert stage.journal.counts["events_dropped"] == 90


async def test_a_read_behind_what_is_not_acknowledged_is_answered_with_it() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        held = HeldAppends(stage.ledger)
        stage.send(refresh(_ID))
        await anyio.sleep(0.1)
        behind = stage.send(get(_ID))
        at_once = stage.send(get(_OTHER))

        assert not behind.replies
        assert _generation(at_once) == 1
        held.end()
        await behind.answered.wait()
        assert _generation(behind) == 2


async def test_a_token_that_is_not_stored_is_shown_to_nobody() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        held = HeldAppends(scene.stage.ledger)
        again = scene.connect().credentials
        scene.stage.send(Refresh(connection_id=TOKEN_ID, credentials=again))
        await anyio.sleep(0.1)
        asked = scene.stage.send(GetToken(connection_id=TOKEN_ID, min_ttl_s=0.0), patience_s=4.0)

        assert not asked.replies
        held.end()
        await asked.answered.wait()


async def test_who_asks_for_a_token_behind_what_is_unclear_is_refused_at_once() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        held = HeldAppends(scene.stage.ledger)
        scene.stage.send(MarkSynced(connection_id=TOKEN_ID))
        early = scene.stage.send(GetToken(connection_id=TOKEN_ID))
        await anyio.sleep(2.0)

        late = scene.stage.send(GetToken(connection_id=TOKEN_ID))

        assert late.code is FailureCode.DATABASE_ERROR
        assert not early.replies
        held.end()
        await early.answered.wait()
        assert isinstance(early.reply, Success)


async def test_a_full_ledger_refuses_new_commands_and_keeps_what_was_decided() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        stage.ledger.has_room = False
        refused = await stage.ask(refresh(_ID))
        read = await stage.ask(get(_ID))
        stage.ledger.has_room = True

        assert isinstance(refused, Failure)
        assert refused.code is FailureCode.OVERLOADED
        assert isinstance(read, Success)
        assert await stage.ask(refresh(_ID)) == Success(None)
        assert stage.story_of(_ID)[2:] == _DONE


async def test_a_lost_partition_is_gone_and_everybody_is_answered() -> None:
    stage, lost = Stage(), list[int]()
    async with stage.opened():
        stage.directory.lost = lambda number, _: lost.append(number)
        await _connected(stage)
        stage.ledger.is_lost = True
        asked = [stage.send(refresh(_ID)) for _ in range(3)]
        await anyio.sleep(1.0)

        assert [one.reply for one in asked] == [LOST] * 3
        assert lost == [0]
        assert stage.stored(_ID).generation == 1
        assert stage.send(refresh(_ID)).reply is MOVED
        assert stage.directory.resident_actors == 0


def _generation(sent: Sent) -> int:
    assert isinstance(sent.reply, Success)
    assert isinstance(sent.reply.value, ProviderConnection)
    return sent.reply.value.generation


async def test_reads_while_it_is_unclear_are_refused_at_once_and_leave_nothing_behind() -> None:
    stage = Stage()
    async with stage.opened():
        await _connected(stage)
        held = HeldAppends(stage.ledger)
        early = [stage.send(get(_ID), patience_s=0.5) for _ in range(10)]
        first = stage.send(refresh(_ID), patience_s=0.5)
        behind = [stage.send(get(_ID), patience_s=0.5) for _ in range(10)]
        await anyio.sleep(2.0)
        late = [stage.send(get(_ID), patience_s=60.0) for _ in range(10)]

        assert {one.code for one in early} == {None}
        assert {one.code for one in (first, *behind, *late)} == {FailureCode.DATABASE_ERROR}
        (entry,) = stage.directory._actors[_ID.int]._entries
        assert entry.replies == []
        held.end()
        await stage.settled()

    assert stage.stored(_ID).generation == 2
