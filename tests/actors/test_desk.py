"""What callers of a token and those behind a flight are told when something is amiss."""

from collections import Counter
from uuid import UUID

import anyio
import msgspec
import pytest

from actors import connection_actor, flight
from actors.envelope import Envelope, due_s
from actors.partition import UNCLEAR
from actors.ports import StoreUnavailableError
from actors.token_desk import TOO_MANY_WAIT, TokenDesk
from actors.world import Limits
from domain.commands import Disconnect, GetToken, MarkSynced, Refresh
from domain.decision import AccessToken, Reply
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import SLUG, USER, connect, connection_number, get, refresh
from tests.fakes.gates import paused
from tests.fakes.holds import HeldAppends, for_ever
from tests.fakes.stage import Stage, reasons
from tests.fakes.token_scene import HASTY_S, ID, Scene
from tests.fakes.trouble import BugError


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
        assert isinstance(refused.reply, Failure)
        assert refused.code is FailureCode.OVERLOADED
        assert "too much is stored" in refused.reply.message
        assert scene.stage.directory.flights == 0
    assert scene.provider.presented == []


async def test_a_command_behind_a_flight_that_fails_is_decided_after_it() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(503, {})
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asked = scene.stage.send(GetToken(connection_id=ID), patience_s=HASTY_S)
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
    assert [reason.endswith(": no answer") for reason in reasons(stage.events_of(ID))] == [True]
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
    assert [
        reason.endswith("an open refresh cannot be closed")
        for reason in reasons(again.events_of(ID))
    ] == [True]


async def test_what_is_refused_because_an_earlier_write_is_unclear_is_told_with_that_reason() -> (
    None
):
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(ID))
        held = HeldAppends(stage.ledger)
        stage.send(refresh(ID))
        await anyio.sleep(1.5)
        refused = [stage.send(refresh(ID)), stage.send(get(ID))]
        held.end()
        await stage.settled()

    for one in refused:
        assert isinstance(one.reply, Failure)
        assert one.reply.message.endswith(UNCLEAR)
    assert [reason.endswith(f": {UNCLEAR}") for reason in reasons(stage.events_of(ID))] == [True]
    assert {event.provider_slug for event in stage.events_of(ID)} == {SLUG}


async def test_what_waits_to_be_stored_is_bounded_by_the_mailbox_reads_included() -> None:
    stage = Stage(limits=Limits(mailbox_commands_max=3))
    async with stage.opened():
        await stage.ask(connect(ID))
        held = HeldAppends(stage.ledger)
        sent = [stage.send(refresh(ID)) for _ in range(3)]
        await anyio.sleep(0.01)
        sent += [stage.send(get(ID)) for _ in range(2)]
        told = [len(one.replies) for one in sent]
        held.end()
        await stage.settled()

    assert told == [0, 0, 0, 1, 1]
    assert [one.code for one in sent[3:]] == [FailureCode.OVERLOADED] * 2


async def test_a_bug_in_telling_of_a_refusal_is_told_to_the_journal_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = BugError()

    def bug(*_: object) -> None:
        raise error

    monkeypatch.setattr(connection_actor, "refused_events", bug)
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(ID))
        held = HeldAppends(stage.ledger)
        stage.send(refresh(ID))
        await anyio.sleep(1.5)
        refused = stage.send(refresh(ID))
        held.end()
        await stage.settled()

    assert refused.code is FailureCode.DATABASE_ERROR
    assert stage.journal.told == [("crashed", ID, error)]


async def test_a_refresh_that_is_stored_at_once_is_not_spilled() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        assert await scene.fresh() == "a2"

    assert scene.stage.spill.ever_kept == 0


async def test_a_command_that_is_refused_and_remembered_by_nobody_has_its_events() -> None:
    stage = Stage()
    async with stage.opened():
        await stage.ask(connect(ID))
        refused = await stage.ask(Refresh(connection_id=ID, credentials=None))
        stored = len(stage.ledger.groups)
        unknown = await stage.ask(MarkSynced(connection_id=connection_number(9)))

        assert isinstance(refused, Failure)
        assert isinstance(unknown, Failure)
        assert refused.code is FailureCode.INVALID_CREDENTIALS
        assert unknown.code is FailureCode.CONNECTION_NOT_FOUND
        assert stage.journal.told == []
        assert stage.story_of(ID)[2:] == ["token_refresh.attempted", "token_refresh.failed"]
        assert len(stage.ledger.groups) == stored


async def test_callers_who_wait_for_a_record_are_counted_for_no_provider_and_not_bounded() -> None:
    scene = Scene(Limits(token_callers_per_provider_max=2))
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
    again = scene.restarted()
    async with again.opened():
        asked = [again.send(GetToken(connection_id=ID)) for _ in range(3)]
        assert again.directory.token_callers == {"": 3}
        await again.settled()

    assert [one.code for one in asked] == [None] * 3
    assert again.directory.token_callers == {}


async def test_whose_failure_pauses_a_client_is_told_why_and_for_how_long_it_is_paused() -> None:
    scene = Scene()
    stage = scene.stage
    scene.provider.before = lambda _: scene.provider.answered(401, {"error": "invalid_client"})
    gate = stage.providers.gates.of(scene.profile, scene.provider.place(scene.profile, None, None))
    async with stage.opened():
        for number in (1, 2, 3):
            one = connection_number(number)
            await stage.ask(msgspec.structs.replace(scene.connect(), connection_id=one))
            refused = await stage.ask(GetToken(connection_id=one), patience_s=1.0)
        closed = gate.closed(connection_number(3))

    assert isinstance(refused, Failure)
    assert closed is not None
    assert refused.message == closed.reason
    assert refused.retry_after_s is not None
    assert refused.retry_after_s >= closed.left_s - 0.1


@pytest.mark.parametrize(("status", "tells_the_pause"), [(404, True), (503, False)])
async def test_who_fails_as_a_paused_client_does_is_told_why_that_is_paused(
    status: int, tells_the_pause: bool
) -> None:
    scene = Scene()
    stage = scene.stage
    gate = stage.providers.gates.of(scene.profile, scene.provider.place(scene.profile, None, None))
    scene.provider.before = lambda _: scene.provider.answered(status, "no")
    scene.provider.takes_s = 2.0
    async with stage.opened():
        await stage.ask(scene.connect())
        asked = stage.send(GetToken(connection_id=ID), patience_s=60.0)
        await anyio.sleep(1.0)
        paused(gate)
        await asked.answered.wait()
        closed = gate.closed(ID)

    assert isinstance(asked.reply, Failure)
    assert closed is not None
    assert (asked.reply.message == closed.reason) == tells_the_pause


async def test_an_outcome_that_cannot_be_written_is_spilled_and_its_callers_are_told() -> None:
    scene = Scene()
    stage = scene.stage
    adds = 0

    def strike(operation: str, _: UUID) -> None:
        nonlocal adds
        adds += operation == "add"
        if operation == "add" and adds == 2:
            raise BugError

    async with stage.opened():
        await stage.ask(scene.connect())
        stage.ledger.before = strike
        refused = await scene.refused(patience_s=5.0)
        waited_s = anyio.current_time()

    assert refused.code is FailureCode.DATABASE_ERROR
    assert refused.message.endswith("the outcome is not stored")
    assert waited_s < 1.0
    assert [one.connection.generation for one in stage.spill.kept] == [2]
    assert stage.journal.counts["outcome_lost"] == 0


async def test_a_bug_in_answering_a_flights_callers_is_told_to_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, error = Scene(), BugError()

    def bug(*_: object) -> None:
        raise error

    monkeypatch.setattr(connection_actor, "after_flight", bug)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        refused = await scene.refused()

    assert refused.code is FailureCode.DATABASE_ERROR
    assert scene.stage.journal.told == [("crashed", ID, error)]
    assert scene.stage.stored(ID).generation == 2


async def test_whose_time_is_up_while_the_record_is_read_is_told_that_nothing_was_begun() -> None:
    stage = Stage()
    stage.ledger.before = for_ever("read")
    async with stage.opened():
        asked = await stage.ask(GetToken(connection_id=ID), patience_s=2.0)

    assert isinstance(asked, Failure)
    assert asked.code is FailureCode.TIMED_OUT


def _caller(due: float, answers: list[Reply], *, can_wait: bool = True) -> Envelope:
    return Envelope(GetToken(connection_id=ID), due_s=due, reply=answers.append, can_wait=can_wait)


def test_callers_leave_a_desk_by_their_time_or_in_the_order_in_which_they_came() -> None:
    counts, answers = Counter[str](), list[Reply]()
    desk = TokenDesk("acme", counts)
    callers = [_caller(due, answers) for due in (9.0, 3.0, 4.0, 3.0, 5.0)]
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


@pytest.mark.parametrize(
    ("timeout_s", "due"), [(10.0, 19.85), (0.5, 10.4), (0.75, 10.6), (0.2, 10.14), (0.1, 10.05)]
)
def test_a_caller_is_answered_a_margin_before_its_time_a_tick_or_a_fifth_of_it(
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
