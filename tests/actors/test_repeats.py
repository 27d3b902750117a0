"""The same message id gives the same answer: one effect, one pair of events."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.entry import Entry
from actors.world import Limits
from domain.commands import Command, GetToken, Refresh
from domain.remembered import REMEMBERED_MAX
from domain.result import Failure, FailureCode, Success
from tests.fakes import laws
from tests.fakes.commands import Kind, command, connect, connection_number, refresh
from tests.fakes.examples import examples
from tests.fakes.schedule import run_seeded
from tests.fakes.script import CONNECTIONS
from tests.fakes.stage import Sent, Stage
from tests.fakes.token_scene import ID as TOKEN_ID
from tests.fakes.token_scene import Scene
from tests.fakes.trouble import BugError, Rates, Trouble, TroubledLedger
from tests.fakes.world import CountingIds, MemoryLedger

_ID = connection_number(1)
_NOT_DONE = {
    FailureCode.CONNECTION_NOT_FOUND,
    FailureCode.DATABASE_ERROR,
    FailureCode.OVERLOADED,
    FailureCode.SHUTTING_DOWN,
    FailureCode.TIMED_OUT,
}
"""Answers that leave open what becomes, or has become, of a command.

What is refused because nothing is stored is remembered in memory only: there is no record to keep
it in, and the connection may have been made when the next daemon is asked.
"""


def _message(number: int) -> bytes:
    return number.to_bytes(16)


async def test_a_repeat_gets_the_same_answer_and_changes_nothing() -> None:
    stage = Stage()
    async with stage.opened():
        for repeated, number in ((connect(_ID), 1), (refresh(_ID), 2), (connect(_ID), 3)):
            first = await stage.ask(repeated, message_id=_message(number))
            for _ in range(3):
                assert await stage.ask(repeated, message_id=_message(number)) == first

    assert stage.stored(_ID).generation == 2
    assert stage.story_of(_ID) == [
        "connection.attempted",
        "connection.succeeded",
        "token_refresh.attempted",
        "token_refresh.succeeded",
        "connection.attempted",
        "connection.failed",
    ]


async def test_a_repeat_that_comes_while_the_first_is_under_way_shares_its_answer() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        sent = [stage.send(refresh(_ID), message_id=_message(1)) for _ in range(3)]
        assert not any(one.replies for one in sent)
        await stage.settled()

    assert [one.reply for one in sent] == [Success(None)] * 3
    assert stage.stored(_ID).generation == 2


async def test_a_repeat_of_a_connect_to_a_cold_connection_is_one_connect() -> None:
    stage = Stage()
    async with stage.opened():
        sent = [stage.send(connect(_ID), message_id=_message(1)) for _ in range(3)]
        await stage.settled()

    assert {isinstance(one.reply, Success) for one in sent} == {True}
    assert len(stage.events_of(_ID)) == 2


async def test_the_last_sixteen_are_remembered_also_by_the_next_daemon() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        for number in range(REMEMBERED_MAX + 1):
            await stage.ask(refresh(_ID), message_id=_message(number))
    again = Stage(ledger=stage.ledger, ids=CountingIds(1_000_000))
    async with again.opened():
        for number in range(1, REMEMBERED_MAX + 1):
            assert await again.ask(refresh(_ID), message_id=_message(number)) == Success(None)
        assert again.stored(_ID).generation == REMEMBERED_MAX + 2

        await again.ask(refresh(_ID), message_id=_message(0))
        assert again.stored(_ID).generation == REMEMBERED_MAX + 3


async def test_a_copy_that_comes_behind_more_than_sixteen_others_has_no_effect() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(_ID))
        for number in range(3 * REMEMBERED_MAX):
            await stage.ask(refresh(_ID), message_id=_message(number))

        for number in range(3 * REMEMBERED_MAX):
            assert await stage.ask(refresh(_ID), message_id=_message(number)) == Success(None)

    assert stage.stored(_ID).generation == 1 + 3 * REMEMBERED_MAX


async def test_older_answers_are_remembered_as_far_as_there_is_room() -> None:
    stage = Stage(limits=Limits(older_answers_max=2))
    async with stage.opened():
        await stage.ask(connect(_ID))
        for number in range(REMEMBERED_MAX + 3):
            await stage.ask(refresh(_ID), message_id=_message(number))
        await stage.ask(refresh(_ID), message_id=_message(1))
        assert stage.stored(_ID).generation == REMEMBERED_MAX + 4

        await stage.ask(refresh(_ID), message_id=_message(0))

        assert stage.stored(_ID).generation == REMEMBERED_MAX + 5
        assert len(stage.directory.older_answers) == 2


class PoisonedLedger(MemoryLedger):
    """One that can be told to meet a bug."""

    is_poisoned = False

    def add(self, entry: Entry) -> bool:
        """See ``Ledger.add``."""
        if self.is_poisoned:
            raise BugError
        return super().add(entry)


async def test_answers_that_may_be_void_are_not_given_again() -> None:
    ledger = PoisonedLedger()
    stage = Stage(ledger=ledger)
    async with stage.opened():
        await stage.ask(connect(_ID))
        for number in range(REMEMBERED_MAX + 1):
            await stage.ask(refresh(_ID), message_id=_message(number))
        ledger.is_poisoned = True

        reply = await stage.ask(refresh(_ID))

        assert isinstance(reply, Failure)
        assert len(stage.directory.older_answers) == 0


async def test_a_repeat_tells_what_became_of_a_command_whose_caller_was_told_an_error() -> None:
    stage = Stage()
    ended = anyio.Event()
    async with stage.opened():
        await stage.ask(connect(_ID))
        stage.ledger.before = lambda name, _: ended.wait() if name == "append" else None
        first = await stage.ask(refresh(_ID), message_id=_message(1), patience_s=0.5)
        await anyio.sleep(2.0)
        while_unclear = stage.send(refresh(_ID), message_id=_message(1), patience_s=60.0)
        assert not while_unclear.replies
        ended.set()
        await while_unclear.answered.wait()

        assert isinstance(first, Failure)
        assert first.code is FailureCode.DATABASE_ERROR
        assert while_unclear.reply == Success(None)
        assert await stage.ask(refresh(_ID), message_id=_message(1)) == Success(None)

    assert stage.stored(_ID).generation == 2
    assert stage.story_of(_ID)[2:] == ["token_refresh.attempted", "token_refresh.succeeded"]


async def test_a_repeat_behind_a_flight_waits_with_the_first_and_is_one_command() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.send(GetToken(connection_id=TOKEN_ID))
        await anyio.sleep(0.01)
        new = Refresh(connection_id=TOKEN_ID, credentials=scene.connect().credentials)
        sent = [scene.stage.send(new, message_id=_message(1)) for _ in range(3)]
        await scene.stage.settled()

    assert [one.reply for one in sent] == [Success(None)] * 3
    assert scene.stage.stored(TOKEN_ID).generation == 3


@pytest.mark.parametrize("kind", ["refresh", "disconnect", "expire"])
async def test_a_refusal_is_remembered_too(kind: Kind) -> None:
    stage = Stage()
    async with stage.opened():
        asked = command(kind, _ID, "x")
        first = await stage.ask(asked, message_id=_message(1))
        await stage.ask(connect(_ID))

        assert await stage.ask(asked, message_id=_message(1)) == first
        assert isinstance(first, Failure)
        assert first.code is FailureCode.CONNECTION_NOT_FOUND


_KINDS: tuple[Kind, ...] = ("connect", "refresh", "refresh", "expire", "disconnect", "sync")
_acts = st.lists(
    st.tuples(
        st.sampled_from(_KINDS),
        st.integers(0, CONNECTIONS - 1),
        st.integers(1, 3),
        st.sampled_from((0.0, 0.0, 0.1, 2.0)),
        st.sampled_from((0.5, 4.0)),
    ),
    min_size=1,
    max_size=12,
)
_rates = st.builds(
    Rates,
    wait_s_max=st.sampled_from((0.0, 0.3)),
    append_is_unclear=st.sampled_from((0.0, 0.3)),
    read_fails=st.sampled_from((0.0, 0.2)),
)


@settings(max_examples=examples(200))
@given(acts=_acts, rates=_rates, restart_after=st.integers(0, 12), seed=st.integers(0, 2**32))
def test_whatever_is_repeated_whenever_has_one_effect_and_equal_answers(
    acts: list[tuple[Kind, int, int, float, float]], rates: Rates, restart_after: int, seed: int
) -> None:
    trouble = Trouble(seed, rates)
    ledger = TroubledLedger(trouble)
    stages = [Stage(ledger=ledger), Stage(ledger=ledger, ids=CountingIds(1_000_000))]
    sent: dict[int, list[Sent]] = {number: [] for number in range(len(acts))}

    def asked(number: int) -> Command:
        kind, connection, *_ = acts[number]
        return command(kind, connection_number(connection), f"secret {number}")

    async def scene() -> None:
        for stage, part in (
            (stages[0], range(min(restart_after, len(acts)))),
            (stages[1], range(len(acts))),
        ):
            async with stage.opened():
                for number in part:
                    *_, copies, pause_s, patience_s = acts[number]
                    await anyio.sleep(pause_s)
                    for _ in range(copies):
                        one = stage.send(
                            asked(number), message_id=_message(number), patience_s=patience_s
                        )
                        sent[number].append(one)
                await stage.settled()
        trouble.ended()

    run_seeded(scene, seed=seed)

    for number in range(CONNECTIONS):
        one = connection_number(number)
        laws.stories_are_whole(stages[1].events_of(one))
        laws.events_tell_the_history(stages[1], one)
        ids = [a.message_id for change in ledger.changes_of(one)[-1:] for a in change.answers]
        assert len(set(ids)) == len(ids)
    for copies in sent.values():
        definite = [one.reply for one in copies if one.code not in _NOT_DONE]
        assert all(reply == definite[0] for reply in definite)
