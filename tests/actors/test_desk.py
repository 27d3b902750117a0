"""What callers of a token and those behind a flight are told when something is amiss."""

from collections import Counter
from uuid import UUID

import anyio
import msgspec
import pytest

from actors import flight
from actors.envelope import Envelope, due_s
from actors.partition import UNCLEAR
from actors.ports import StoreUnavailableError
from actors.token_desk import TOO_MANY_WAIT, TokenDesk
from domain.commands import Disconnect, GetToken, MarkSynced, Refresh
from domain.decision import AccessToken, Reply
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import USER, connect, connection_number, refresh
from tests.fakes.holds import HeldAppends
from tests.fakes.stage import Stage
from tests.fakes.token_scene import ID, Scene
from tests.fakes.trouble import BugError


def _reasons(stage: Stage) -> list[str]:
    return [event.reason for event in stage.events_of(ID) if event.outcome == "failed"]


async def test_a_ledger_without_room_serves_a_token_that_lives_and_refuses_for_one_that_has_ended() -> (
    None
):
    scene = Scene()
    ended = connection_number(2)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=30.0))
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=ended))
        scene.stage.ledger.has_room = False
        served = scene.stage.send(GetToken(connection_id=ID), patience_s=5.0)
        refused = scene.stage.send(GetToken(connection_id=ended), patience_s=5.0)

        assert isinstance(served.reply, Success)
        assert isinstance(served.reply.value, AccessToken)
        assert served.reply.value.stale
        assert served.reply.value.access_token == "a1"
        assert served.reply.value.detail
        assert refused.code is FailureCode.OVERLOADED
        assert scene.stage.directory.flights == 0
    assert scene.provider.presented == []


async def test_a_command_behind_a_flight_that_fails_is_decided_after_it() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(503, {})
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asked = scene.stage.send(GetToken(connection_id=ID), patience_s=5.0)
        await anyio.sleep(0.05)
        ended = scene.stage.send(Disconnect(connection_id=ID, user_id=USER))
        await ended.answered.wait()

        assert asked.code is FailureCode.PROVIDER_UNAVAILABLE
        assert isinstance(ended.reply, Success)


async def test_why_a_record_cannot_be_read_is_told_to_the_caller_and_by_the_event() -> None:
    def fail(operation: str, _: UUID) -> None:
        if operation == "read":
            raise StoreUnavailableError("no answer")

    stage = Stage()
    stage.ledger.before = fail
    async with stage.opened():
        sent = [stage.send(refresh(ID)), stage.send(GetToken(connection_id=ID))]
        await stage.settled()

    for one in sent:
        assert isinstance(one.reply, Failure)
        assert one.reply.message.endswith(": no answer")
    assert [reason.endswith(": no answer") for reason in _reasons(stage)] == [True]
    assert stage.journal.told == [("store_failed", ID, "no answer")]


async def test_what_waits_behind_an_open_intent_that_cannot_be_closed_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise BugError

    again = await Scene().cut_amid_a_flight()
    monkeypatch.setattr(flight, "left_open", bug)
    async with again.opened():
        await anyio.sleep(3600.0)
        ended = await again.ask(Disconnect(connection_id=ID, user_id=USER))
        asked = await again.ask(GetToken(connection_id=ID))
        await again.settled()

    assert isinstance(ended, Failure)
    assert isinstance(asked, Failure)
    assert ended.code is asked.code is FailureCode.DATABASE_ERROR
    assert [reason.endswith("an open refresh cannot be closed") for reason in _reasons(again)] == [
        True
    ]


async def test_what_is_refused_because_an_earlier_write_is_unclear_is_told_with_that_reason() -> (
    None
):
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(ID))
        held = HeldAppends(stage.ledger)
        stage.send(refresh(ID))
        await anyio.sleep(1.5)
        refused = stage.send(refresh(ID))
        held.end()
        await stage.settled()

    assert isinstance(refused.reply, Failure)
    assert refused.reply.message.endswith(UNCLEAR)
    assert [reason.endswith(f": {UNCLEAR}") for reason in _reasons(stage)] == [True]


async def test_a_command_that_is_refused_and_remembered_by_nobody_has_its_events() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(ID))
        refused = await stage.ask(Refresh(connection_id=ID, credentials=None))
        stored = len(stage.ledger.groups)
        unknown = await stage.ask(MarkSynced(connection_id=connection_number(9)))

        assert isinstance(refused, Failure)
        assert isinstance(unknown, Failure)
        assert stage.story_of(ID)[2:] == ["token_refresh.attempted", "token_refresh.failed"]
        assert len(stage.ledger.groups) == stored


def _caller(due: float, answers: list[Reply], *, can_wait: bool = True) -> Envelope:
    return Envelope(GetToken(connection_id=ID), due_s=due, reply=answers.append, can_wait=can_wait)


def test_callers_leave_a_desk_by_their_time_or_in_the_order_in_which_they_came() -> None:
    counts, answers = Counter[str](), list[Reply]()
    desk = TokenDesk("acme", counts)
    callers = [_caller(due, answers) for due in (5.0, 3.0, 4.0, 3.0, 9.0)]
    for one in callers:
        desk.wait(one, provider_max=5)
    assert (len(desk), counts) == (5, {"acme": 5})

    assert desk.leave_until(2.9) == []
    assert desk.leave_until(3.0) == [callers[1], callers[3]]
    assert (len(desk), counts) == (3, {"acme": 3})
    desk.answer_due(4.0, TOO_MANY_WAIT)
    assert answers == [TOO_MANY_WAIT]
    assert desk.leave() == [callers[0], callers[4]]
    assert (len(desk), counts, "acme" in counts) == (0, {}, False)


def test_a_desk_refuses_whoever_may_not_wait_and_counts_nobody_of_an_unknown_provider() -> None:
    counts, answers = Counter[str](), list[Reply]()
    known, unknown = TokenDesk("acme", counts), TokenDesk("", counts)
    known.wait(_caller(1.0, answers), provider_max=1)
    known.wait(_caller(1.0, answers), provider_max=1)
    known.wait(_caller(1.0, answers, can_wait=False), provider_max=5)
    assert answers == [TOO_MANY_WAIT] * 2
    for _ in range(3):
        unknown.wait(_caller(1.0, answers), provider_max=1)

    assert (len(known), len(unknown)) == (1, 3)
    assert counts == {"acme": 1, "": 3}


@pytest.mark.parametrize(("timeout_s", "due"), [(10.0, 19.85), (0.5, 10.4), (0.75, 10.6)])
def test_a_caller_is_answered_a_margin_before_its_time_and_at_most_a_fifth_of_it(
    timeout_s: float, due: float
) -> None:
    assert due_s(10.0, timeout_s, 0.15) == pytest.approx(due)


def test_an_envelope_is_answered_once() -> None:
    answers = list[Reply]()
    envelope = _caller(1.0, answers)
    assert not envelope.is_answered

    envelope.answer(TOO_MANY_WAIT)
    envelope.answer(Success(None))

    assert envelope.is_answered
    assert answers == [TOO_MANY_WAIT]
