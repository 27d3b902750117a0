"""A partition stores group after group; an entry that cannot be written harms no other."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import anyio
import pytest

from actors.entry import EVENTS_MAX, Entry
from actors.envelope import Envelope
from actors.partition import Partition
from actors.ports import PartitionLostError
from actors.world import Limits, database_error
from domain.decision import Reply
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import connect, connection_number, get, refresh
from tests.fakes.holds import HeldAppends
from tests.fakes.stage import Stage
from tests.fakes.trouble import BugError
from tests.fakes.world import CountingJournal, MemoryLedger

_SICK = connection_number(1)
_SOUND = connection_number(2)
_DONE: Reply = Success(None)


class _Maker:
    """Makes entries, and notes what becomes of them."""

    def __init__(self) -> None:
        self.settled_entries: list[Entry] = []
        self.errors: list[Exception] = []
        self.replies: list[Reply] = []

    def settled(self, entry: Entry) -> None:
        self.settled_entries.append(entry)

    def broke(self, asked: Sequence[Envelope], error: Exception) -> None:
        self.errors.append(error)

    def entry(self, connection_id: UUID = _SICK, *, due_s: float = 1e9) -> Entry:
        """Return an entry with one caller."""
        entry = Entry(connection_id, self)
        entry.owe(Envelope(refresh(connection_id), due_s=due_s, reply=self.replies.append), _DONE)
        return entry


def _partition(ledger: MemoryLedger, limits: Limits | None = None) -> Partition:
    return Partition(
        ledger, limits=limits or Limits(), journal=CountingJournal(), stir=lambda: None
    )


@asynccontextmanager
async def _running(ledger: MemoryLedger, limits: Limits | None = None) -> AsyncGenerator[Partition]:
    partition = _partition(ledger, limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partition.run)
        await anyio.sleep(0.001)
        yield partition
        tasks.cancel_scope.cancel()


def _poisoned(ledger: MemoryLedger) -> None:
    """Let the sick connection's next entry not be written."""
    is_struck = False

    def strike(operation: str, connection_id: UUID) -> None:
        nonlocal is_struck
        if operation == "add" and connection_id == _SICK and not is_struck:
            is_struck = True
            raise BugError

    ledger.before = strike


async def test_an_entry_takes_more_until_it_is_in_a_group_that_is_stored() -> None:
    ledger, maker = MemoryLedger(), _Maker()
    held = HeldAppends(ledger)
    async with _running(ledger) as partition:
        first, second = maker.entry(), maker.entry()
        partition.opened(first)
        await anyio.sleep(0.01)
        partition.opened(second)

        assert (first.is_open, second.is_open) == (False, True)
        assert not partition.is_settled
        assert partition.entries == 2
        held.end()
        await anyio.sleep(0.01)
        assert partition.is_settled

    assert maker.settled_entries == [first, second]
    assert (first.is_stored, first.is_lost) == (True, False)
    assert maker.replies == [_DONE] * 2


@pytest.mark.parametrize("group_entries_max", [1, 1000])
async def test_what_was_decided_on_top_of_a_poisoned_entry_is_lost_with_it(
    group_entries_max: int,
) -> None:
    # The group may be full before the second one of the sick connection has its turn.
    ledger = MemoryLedger(group_entries_max=group_entries_max)
    maker, other = _Maker(), _Maker()
    _poisoned(ledger)
    async with _running(ledger) as partition:
        for entry in (maker.entry(), other.entry(_SOUND), other.entry(_SOUND), maker.entry()):
            partition.opened(entry)
        await anyio.sleep(0.01)

    assert [entry.is_lost for entry in maker.settled_entries] == [True, True]
    assert [isinstance(error, BugError) for error in maker.errors] == [True]
    assert other.replies == [_DONE] * 2
    assert ledger.changes_of(_SICK) == []
    assert len(ledger.changes_of(_SOUND)) == 2


async def test_what_a_full_group_has_no_room_for_is_stored_next_in_the_order_of_its_decisions() -> (
    None
):
    stage = Stage(ledger=MemoryLedger(group_entries_max=1))
    sound = [connection_number(number) for number in (2, 3, 4)]
    async with stage.opened():
        for one in (_SICK, *sound):
            await stage.ask(connect(one))
        _poisoned(stage.ledger)
        sent = [stage.send(refresh(one)) for one in (_SICK, *sound)]
        await stage.settled()

    assert [one.code for one in sent] == [FailureCode.DATABASE_ERROR, None, None, None]
    # Behind them what is told of the one that could not be written.
    stored = [change.connection_id for group in stage.ledger.groups[4:] for change in group]
    assert stored == [*sound, _SICK]
    assert stage.story_of(_SICK)[2:] == ["token_refresh.attempted", "token_refresh.failed"]


async def test_what_was_decided_before_a_poisoned_entry_is_stored_before_that_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger, maker = MemoryLedger(), _Maker()
    held = HeldAppends(ledger)
    async with _running(ledger) as partition:
        first, poisoned = maker.entry(), maker.entry()
        healthy = ledger.add

        def add(entry: Entry) -> bool:
            if entry is poisoned:
                raise BugError
            return healthy(entry)

        monkeypatch.setattr(ledger, "add", add)
        partition.opened(first)
        partition.opened(poisoned)
        await anyio.sleep(0.01)

        # Whoever read the connection now would read it without the first.
        assert maker.settled_entries == []
        held.end()
        await anyio.sleep(0.01)

    assert maker.settled_entries == [first, poisoned]
    assert (first.is_stored, poisoned.is_lost) == (True, True)


async def test_an_actor_whose_later_entry_is_poisoned_reads_what_its_earlier_one_stored() -> None:
    stage = Stage()
    count = EVENTS_MAX // 2
    async with stage.opened():
        await stage.ask(connect(_SICK))
        held = HeldAppends(stage.ledger)
        blocking = stage.send(connect(_SOUND))
        await anyio.sleep(0.01)
        sent = [stage.send(refresh(_SICK)) for _ in range(count + 1)]
        adds = 0

        def strike(operation: str, connection_id: UUID) -> None:
            nonlocal adds
            adds += operation == "add" and connection_id == _SICK
            if operation == "add" and 2 <= adds <= 3:
                raise BugError

        stage.ledger.before = strike
        held.end()
        await blocking.answered.wait()
        await stage.settled()
        stage.ledger.before = None
        assert await stage.ask(refresh(_SICK)) == _DONE

    assert [one.reply for one in sent[:-1]] == [_DONE] * count
    assert sent[-1].code is FailureCode.DATABASE_ERROR
    assert stage.stored(_SICK).generation == 1 + count + 1
    assert stage.story_of(_SICK).count("token_refresh.succeeded") == count + 1


async def test_an_actor_whose_entry_is_poisoned_reads_anew_and_answers_all_who_waited() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_SICK))
        await stage.ask(connect(_SOUND))
        _poisoned(stage.ledger)
        sick = [stage.send(one) for one in (refresh(_SICK), get(_SICK), refresh(_SICK))]
        sound = stage.send(refresh(_SOUND))
        await stage.settled()
        reads = stage.ledger.reads

        assert await stage.ask(get(_SICK)) == Success(stage.stored(_SICK))
        assert stage.ledger.reads == reads + 1

    assert {one.code for one in sick} == {FailureCode.DATABASE_ERROR}
    assert sound.reply == _DONE
    assert stage.stored(_SICK).generation == 1


async def test_a_lost_partition_raises_and_fails_what_is_stored_and_what_waits() -> None:
    ledger, maker = MemoryLedger(), _Maker()
    partition = _partition(ledger)
    held = HeldAppends(ledger)
    ledger.is_lost = True

    async def end_it() -> None:
        await anyio.sleep(1.0)
        partition.opened(maker.entry())
        held.end()

    partition.opened(maker.entry())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_it)
        with pytest.raises(PartitionLostError):
            await partition.run()
        partition.abandon(database_error("another daemon has it"))

    assert [entry.is_lost for entry in maker.settled_entries] == [True, True]
    assert len(maker.replies) == 2
    assert all("another daemon" in getattr(reply, "message", "") for reply in maker.replies)
    assert partition.is_settled
    assert partition.refusal() is not None
    partition.tick(anyio.current_time() + 100.0)
    assert partition.is_unclear


async def test_only_those_are_told_whose_time_is_up_and_each_once() -> None:
    ledger, maker = MemoryLedger(), _Maker()
    held = HeldAppends(ledger)
    async with _running(ledger) as partition:
        entry = maker.entry(due_s=5.0)
        entry.owe(Envelope(get(_SICK), due_s=9.0, reply=maker.replies.append), _DONE)
        partition.opened(entry)
        for now_s, answered in ((4.9, 0), (5.0, 1), (6.0, 1), (9.0, 2)):
            await anyio.sleep(now_s - anyio.current_time())
            partition.tick(anyio.current_time())
            assert len(maker.replies) == answered
            assert entry.commands == 2 - answered
        held.end()
        await anyio.sleep(0.01)

    assert len(maker.replies) == 2
    assert entry.is_stored


async def test_refusals_that_are_not_on_their_way_count_against_their_bound() -> None:
    ledger, maker = MemoryLedger(group_entries_max=1), _Maker()
    async with _running(ledger, Limits(refused_events_max=4)) as partition:
        held = HeldAppends(ledger)
        for number in range(3):
            partition.opened(maker.entry(connection_number(number)))
        assert partition.may_tell_refusal(2)
        await anyio.sleep(0.01)
        # One group is being stored, and two wait behind it.
        assert partition.may_tell_refusal(2)
        assert not partition.may_tell_refusal(2)
        later = HeldAppends(ledger)
        held.end()
        await anyio.sleep(0.01)
        # The first is stored, and another still waits.
        assert partition.entries == 2
        assert not partition.may_tell_refusal(2)
        later.end()
        await anyio.sleep(0.01)

        assert partition.may_tell_refusal(2)


@pytest.mark.parametrize(("answers", "waits"), [(7, False), (8, True)])
async def test_after_a_group_of_eight_answers_the_next_one_is_stored_at_the_next_beat_of_three_ms(
    answers: int, waits: bool
) -> None:
    ledger, maker, appended_s = MemoryLedger(), _Maker(), list[float]()
    ledger.before = lambda name, _: (
        appended_s.append(anyio.current_time()) if name == "append" else None
    )
    async with _running(ledger) as partition:
        for number in range(answers):
            partition.opened(maker.entry(connection_number(number)))
        await anyio.sleep(0.001)
        partition.opened(maker.entry())
        await anyio.sleep(0.01)

    first_s, next_s = appended_s[0], appended_s[-1]
    assert next_s - first_s == pytest.approx(0.002 if waits else 0.001, abs=1e-6)
    assert len(maker.replies) == answers + 1


async def test_refusals_are_told_up_to_their_bound_before_each_group_that_is_stored() -> None:
    maker = _Maker()
    async with _running(MemoryLedger(), Limits(refused_events_max=1)) as partition:
        for _ in range(2):
            assert partition.may_tell_refusal(1)
            assert not partition.may_tell_refusal(1)
            partition.opened(maker.entry())
            await anyio.sleep(0.01)


async def test_it_is_unclear_only_after_longer_than_the_limit() -> None:
    ledger, maker = MemoryLedger(), _Maker()
    held = HeldAppends(ledger)
    async with _running(ledger, Limits(unclear_s=1.0)) as partition:
        began_s = anyio.current_time()
        partition.opened(maker.entry(due_s=began_s))
        await anyio.sleep(0.01)
        for took_s, is_unclear, answered in ((0.04, False, 0), (0.06, False, 1), (1.1, True, 1)):
            partition.tick(began_s + took_s)
            assert (partition.is_unclear, len(maker.replies)) == (is_unclear, answered)
        assert isinstance(partition.refusal(), Failure)
        held.end()
        await anyio.sleep(0.01)
        assert partition.refusal() is None
