"""A bug in one actor answers its callers, is reported, and hurts no other connection."""

from typing import Any
from uuid import UUID

import anyio
import pytest

from actors.entry import EVENTS_MAX
from actors.world import Limits
from domain.commands import Disconnect, GetToken, Refresh
from domain.connection import ConnectionStatus
from domain.credentials import Sealed, Secret
from domain.decision import DATABASE_ERROR
from domain.result import Failure, FailureCode, Success
from tests.fakes import laws
from tests.fakes.commands import USER, connect, connection_number, refresh
from tests.fakes.stage import Sent, Stage
from tests.fakes.token_scene import ID, Scene
from tests.fakes.trouble import BugError
from tests.fakes.world import PlainSealer

_SICK = connection_number(1)
_SOUND = connection_number(2)


class _Disease:
    """Makes the store or the sealer raise for the sick connection, so many times."""

    def __init__(self, *, times: int, operation: str = "add") -> None:
        self.times_left = times
        self.operation = operation

    def strike(self, operation: str, connection_id: UUID) -> None:
        if connection_id == _SICK and operation == self.operation and self.times_left:
            self.times_left -= 1
            raise BugError


class _SickSealer(PlainSealer):
    def __init__(self, disease: _Disease) -> None:
        self._disease = disease

    def seal(self, secret: Secret, *, connection_id: UUID, generation: int) -> Sealed:
        self._disease.strike("seal", connection_id)
        return super().seal(secret, connection_id=connection_id, generation=generation)


async def _with_disease(stage: Stage, disease: _Disease) -> None:
    await stage.ask(connect(_SICK))
    await stage.ask(connect(_SOUND))
    stage.ledger.before = disease.strike


@pytest.mark.parametrize("operation", ["recall", "add", "seal"])
async def test_a_command_that_met_a_bug_has_its_events_all_the_same(operation: str) -> None:
    disease = _Disease(times=0, operation=operation)
    stage = Stage(sealer=_SickSealer(disease), limits=Limits(idle_s=1.0))
    async with stage.opened():
        await _with_disease(stage, disease)
        await anyio.sleep(5.0)
        disease.times_left = 1

        assert isinstance(await stage.ask(refresh(_SICK)), Failure)
        await stage.settled()
        assert await stage.ask(refresh(_SICK)) == Success(None)

    assert stage.story_of(_SICK)[2:] == [
        "token_refresh.attempted",
        "token_refresh.failed",
        "token_refresh.attempted",
        "token_refresh.succeeded",
    ]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("operation", ["read", "add", "seal"])
async def test_a_crash_answers_the_command_in_hand_and_serves_the_queued_ones(
    operation: str,
) -> None:
    disease = _Disease(times=0, operation=operation)
    stage = Stage(sealer=_SickSealer(disease))
    async with stage.opened():
        await _with_disease(stage, disease)
        stage.directory._actors.clear()
        disease.times_left = 1

        sick = [stage.send(refresh(_SICK)) for _ in range(3)]
        sound = [stage.send(refresh(_SOUND)) for _ in range(3)]
        await stage.settled()

        failed = 1 if operation == "seal" else 3
        assert [sent.code for sent in sick[:failed]] == [FailureCode.DATABASE_ERROR] * failed
        assert [sent.code for sent in sick[failed:]] == [None] * (3 - failed)
        assert await stage.ask(refresh(_SICK)) == Success(None)
        assert [sent.reply for sent in sound] == [Success(None)] * 3
        assert stage.stored(_SICK).generation == 1 + (3 - failed) + 1
        assert stage.journal.counts["crashed"] == 1
        assert isinstance(stage.journal.errors[0], BugError)


async def test_what_a_crash_answers_holds_nothing_of_the_error() -> None:
    def leak(operation: str, _: UUID) -> None:
        if operation == "add":
            raise RuntimeError("the token is abc")

    stage = Stage()
    async with stage.opened():
        stage.ledger.before = leak
        reply = await stage.ask(connect(_SICK))

    assert isinstance(reply, Failure)
    assert reply.message == "Database error occurred: internal error"


async def test_an_entry_that_cannot_be_written_is_void_with_all_that_was_decided_on_it() -> None:
    disease = _Disease(times=0)
    stage = Stage()
    async with stage.opened():
        await _with_disease(stage, disease)
        disease.times_left = 1
        failed = [stage.send(refresh(_SICK)) for _ in range(EVENTS_MAX)]
        sound = stage.send(refresh(_SOUND))
        await stage.settled()

        assert {one.code for one in failed} == {FailureCode.DATABASE_ERROR}
        assert sound.reply == Success(None)
        assert await stage.ask(refresh(_SICK)) == Success(None)

    assert stage.stored(_SICK).generation == 2


async def _sent(stage: Stage, command: Refresh) -> Sent:
    sent = stage.send(command)
    await sent.answered.wait()
    return sent


async def test_too_many_crashes_end_in_quarantine_and_a_sound_connection_never_notices() -> None:
    disease = _Disease(times=1000)
    limits = Limits(restarts_max=2, quarantine_s=30.0)
    stage = Stage(limits=limits)
    async with stage.opened():
        await _with_disease(stage, disease)

        sick = [await _sent(stage, refresh(_SICK)) for _ in range(6)]
        sound = stage.send(refresh(_SOUND))
        await stage.settled()
        refused = stage.send(refresh(_SICK))

        assert [sent.code for sent in sick] == [FailureCode.DATABASE_ERROR] * 6
        assert stage.journal.counts["crashed"] == limits.restarts_max + 1
        assert stage.journal.counts["quarantined"] == 1
        assert isinstance(refused.reply, Failure)
        assert refused.reply.code is FailureCode.DATABASE_ERROR
        assert refused.reply.retry_after_s == 30.0
        assert sound.reply == Success(None)
        assert stage.directory.resident_actors == 1


async def test_a_quarantined_connection_is_served_again_when_its_time_is_over() -> None:
    disease = _Disease(times=3)
    stage = Stage(limits=Limits(restarts_max=2, quarantine_s=30.0))
    async with stage.opened():
        await _with_disease(stage, disease)
        for _ in range(3):
            await stage.ask(refresh(_SICK))

        await anyio.sleep(29.0)
        assert isinstance(await stage.ask(refresh(_SICK)), Failure)
        await anyio.sleep(1.5)
        assert await stage.ask(refresh(_SICK)) == Success(None)

        assert stage.stored(_SICK).generation == 2


@pytest.mark.parametrize("idle_s", [0.1, 100_000.0])
async def test_a_quarantine_ends_by_itself_or_with_the_next_command(idle_s: float) -> None:
    disease = _Disease(times=2)
    limits = Limits(restarts_max=1, quarantine_s=30.0, idle_s=idle_s)
    stage = Stage(limits=limits)
    async with stage.opened():
        await _with_disease(stage, disease)
        for _ in range(2):
            await stage.ask(refresh(_SICK))
        await anyio.sleep(31.0)

        assert await stage.ask(refresh(_SICK)) == Success(None)
        assert stage.directory._crashes._quarantined_until_s == {}


async def test_crashes_that_are_far_apart_do_not_add_up() -> None:
    disease = _Disease(times=20)
    limits = Limits(restarts_max=2, restarts_period_s=60.0, idle_s=10.0)
    stage = Stage(limits=limits)
    async with stage.opened():
        await _with_disease(stage, disease)
        for _ in range(10):
            # The command's entry, and the one that tells that it failed.
            await stage.ask(refresh(_SICK))
            await anyio.sleep(61.0)

        assert stage.journal.counts["crashed"] == 20
        assert stage.journal.counts["quarantined"] == 0
        assert await stage.ask(refresh(_SICK)) == Success(None)


async def test_past_crashes_and_quarantines_are_forgotten() -> None:
    disease = _Disease(times=2 * 3 + 1)
    limits = Limits(restarts_max=1, restarts_period_s=60.0, quarantine_s=30.0, idle_s=10.0)
    stage = Stage(limits=limits)
    async with stage.opened():
        await _with_disease(stage, disease)
        for _ in range(3):
            await stage.ask(refresh(_SICK))
            await stage.ask(refresh(_SICK))
            await anyio.sleep(100.0)
        await stage.ask(refresh(_SICK))
        await anyio.sleep(100.0)

        assert stage.journal.counts["crashed"] == 7
        assert stage.directory._crashes._crashes_s == {}
        assert stage.directory._crashes._quarantined_until_s == {}


async def _flown_into_a_bug(
    scene: Scene, operation: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Sent], Sent]:
    """Return three callers of a flight that met a bug of the sealer, and a command behind it."""

    def bug(*_: Any, **__: Any) -> None:
        raise BugError

    stage = scene.stage
    await stage.ask(scene.connect())
    asked = [stage.send(GetToken(connection_id=ID)) for _ in range(3)]
    await anyio.sleep(0.01)
    held = stage.send(Refresh(connection_id=ID, credentials=None))
    monkeypatch.setattr(type(stage.directory.world.sealer), operation, bug)
    await stage.settled()
    monkeypatch.undo()
    return asked, held


async def test_a_bug_while_a_flight_is_answered_is_told_to_its_callers_and_hurts_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    stage = scene.stage
    async with stage.opened():
        asked, held = await _flown_into_a_bug(scene, "unseal", monkeypatch)

        assert {one.code for one in asked} == {FailureCode.DATABASE_ERROR}
        assert held.code is FailureCode.INVALID_CREDENTIALS
        assert stage.journal.counts["crashed"] == 1
        assert await scene.fresh() == "a2"
        assert isinstance(await stage.ask(connect(_SOUND)), Success)

    assert scene.provider.presented == ["r1"]


async def test_a_bug_while_the_outcome_is_sealed_answers_everybody_and_leaves_the_intent_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    stage = scene.stage
    async with stage.opened():
        asked, held = await _flown_into_a_bug(scene, "seal", monkeypatch)

        assert {one.code for one in [*asked, held]} == {FailureCode.DATABASE_ERROR}
        assert stage.journal.counts["crashed"] == 1
        assert stage.stored(ID).intent is not None
        ended = await stage.ask(Disconnect(connection_id=ID, user_id=USER))

    assert isinstance(ended, Success)
    assert stage.stored(ID).status is ConnectionStatus.DISCONNECTED


async def test_an_open_intent_whose_end_cannot_be_written_answers_commands_and_is_tried_again() -> (
    None
):
    again = await Scene().cut_amid_a_flight()
    adds = 0

    def poison(operation: str, _: UUID) -> None:
        nonlocal adds
        if operation == "add":
            adds += 1
            raise BugError

    async with again.opened():
        again.ledger.before = poison
        asked = again.send(GetToken(connection_id=ID))
        held = [again.send(Disconnect(connection_id=ID, user_id=USER)) for _ in range(3)]
        await again.settled()
        # The end of the intent, and then the events of those that were refused for it.
        assert adds == 2
        replies = [one.reply for one in held]
        told = {one.message for one in replies if isinstance(one, Failure)}
        assert told == {f"{DATABASE_ERROR}: an open refresh cannot be closed"}
        again.ledger.before = None
        ended = await again.ask(Disconnect(connection_id=ID, user_id=USER))

    assert isinstance(ended, Success)
    assert asked.code is FailureCode.DATABASE_ERROR
    laws.everybody_was_answered_once(again)


async def test_a_quarantine_that_begins_amid_a_queue_refuses_the_rest_of_it() -> None:
    disease = _Disease(times=0, operation="seal")
    stage = Stage(sealer=_SickSealer(disease), limits=Limits(restarts_max=1))
    async with stage.opened():
        await _with_disease(stage, disease)
        stage.directory._actors.clear()
        disease.times_left = 2
        sent = [stage.send(refresh(_SICK)) for _ in range(5)]
        await stage.settled()

    assert [one.code for one in sent] == [FailureCode.DATABASE_ERROR] * 5
    assert stage.journal.counts["quarantined"] == 1
    assert stage.stored(_SICK).generation == 1


async def test_a_bug_in_what_is_recalled_answers_the_command() -> None:
    disease = _Disease(times=0, operation="recall")
    stage = Stage()
    async with stage.opened():
        await _with_disease(stage, disease)
        stage.directory._actors.clear()
        disease.times_left = 1
        failed = stage.send(refresh(_SICK))

        assert failed.code is FailureCode.DATABASE_ERROR
        assert stage.journal.counts["crashed"] == 1
        assert await stage.ask(refresh(_SICK)) == Success(None)
