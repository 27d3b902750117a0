"""What a replaced daemon's flight brings ends its intent, once, and nothing is presented again."""

import anyio
import msgspec
import pytest

from actors.ports import Outcome
from domain.commands import Disconnect, Get, GetToken
from domain.decision import AccessToken
from domain.result import FailureCode, Success
from tests.fakes import laws
from tests.fakes.commands import USER, refresh
from tests.fakes.stage import Stage
from tests.fakes.token_scene import ID, Scene


async def _left_open(scene: Scene) -> tuple[Stage, Outcome]:
    """Return a daemon that finds an open intent, and what the former one's flight came to."""
    again = await scene.cut_amid_a_flight()
    intent = again.stored(ID).intent
    assert intent is not None
    last = scene.stage.ledger.changes_of(ID)[-1]
    assert last.connection is not None
    return again, Outcome(intent.attempt_id, intent.generation, last.connection, last.events)


class _Told:
    """Counts how often it was told that the outcome is stored."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def _took_in(stage: Stage, outcome: Outcome) -> int:
    """Bring an outcome, and return how often it is told within a second that it is stored."""
    told = _Told()
    stage.directory.take_in(outcome, told)
    await anyio.sleep(1.0)
    return told.times


async def test_it_is_stored_at_once_and_serves_everybody_who_waited() -> None:
    scene = Scene()
    again, outcome = await _left_open(scene)
    async with again.opened():
        asked = again.send(GetToken(connection_id=ID), patience_s=200.0)
        forced = again.send(GetToken(connection_id=ID, force=True), patience_s=200.0)
        await anyio.sleep(1.0)

        assert await _took_in(again, outcome) == 1

        for one in (asked, forced):
            assert isinstance(one.reply, Success)
            assert isinstance(one.reply.value, AccessToken)
            assert one.reply.value.access_token == "a2"
        assert again.stored(ID) == outcome.connection
        assert again.story_of(ID) == ["token_refresh.succeeded"]
    assert scene.provider.presented == ["r1"]
    laws.everybody_was_answered_once(again)


async def test_it_needs_nobody_who_asks() -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        assert await _took_in(again, outcome) == 1
        assert await _took_in(again, outcome) == 1

        assert again.stored(ID).generation == 2
        assert len(again.ledger.changes_of(ID)) == 1
        assert again.directory.flights == 0


async def test_it_is_stored_once_although_it_comes_again_before_it_is() -> None:
    again, outcome = await _left_open(Scene())
    first, second = _Told(), _Told()
    async with again.opened():
        again.ledger.before = lambda name, _: anyio.sleep(0.5) if name == "append" else None
        again.directory.take_in(outcome, first)
        await anyio.sleep(0.1)
        again.directory.take_in(outcome, second)
        await anyio.sleep(5.0)

        assert (first.times, second.times) == (1, 1)
        assert len(again.ledger.changes_of(ID)) == 1


async def test_commands_that_waited_for_the_intent_see_it() -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        ended = again.send(Disconnect(connection_id=ID, user_id=USER), patience_s=200.0)
        await anyio.sleep(1.0)

        assert await _took_in(again, outcome) == 1

        assert ended.code is None
        assert again.story_of(ID)[0] == "token_refresh.succeeded"
        # It was ended for good meanwhile: nothing is lost.
        assert await _took_in(again, outcome) == 1


@pytest.mark.parametrize(("generation", "times"), [(2, 1), (1, 0)])
async def test_a_failure_of_a_connection_that_was_never_stored_is_done_with(
    generation: int, times: int
) -> None:
    _, outcome = await _left_open(Scene())
    elsewhere = Stage()
    async with elsewhere.opened():
        # With its generation the presented one's it gave no tokens.
        assert await _took_in(elsewhere, outcome._replace(generation=generation)) == times

    assert elsewhere.ledger.groups == []


async def test_a_failure_is_stored_as_one() -> None:
    scene = Scene()
    scene.provider.is_revoked = True
    again, outcome = await _left_open(scene)
    async with again.opened():
        asked = again.send(GetToken(connection_id=ID), patience_s=200.0)
        await anyio.sleep(1.0)

        assert await _took_in(again, outcome) == 1

        assert asked.code is FailureCode.REAUTH_REQUIRED
        assert again.stored(ID) == outcome.connection
        assert again.story_of(ID) == ["token_refresh.failed", "status.changed", "status.changed"]


@pytest.mark.parametrize("change", [{"attempt_id": ID}, {"generation": 7}])
async def test_another_attempts_outcome_is_not_stored(change: dict[str, object]) -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        assert await _took_in(again, outcome._replace(**change)) == 0

        assert again.ledger.changes_of(ID) == []


async def test_what_an_older_attempt_gave_is_stored_when_a_later_one_brings_nothing() -> None:
    scene = Scene()
    again, outcome = await _left_open(scene)
    told = _Told()
    async with again.opened():
        asked = again.send(GetToken(connection_id=ID), patience_s=200.0)
        await anyio.sleep(1.0)
        again.directory.take_in(outcome._replace(attempt_id=USER), told)
        await anyio.sleep(1.0)
        assert again.stored(ID).intent is not None

        await anyio.sleep(80.0)

        assert told.times == 1
        assert again.stored(ID).generation == 2
        assert isinstance(asked.reply, Success)
        assert isinstance(asked.reply.value, AccessToken)
        assert asked.reply.value.access_token == "a2"
    assert scene.provider.presented == ["r1"]
    assert again.story_of(ID) == [
        "token_refresh.failed",
        "token_refresh.attempted",
        "token_refresh.succeeded",
    ]


async def test_what_an_older_attempt_gave_is_nothing_beside_what_the_later_one_brings() -> None:
    again, outcome = await _left_open(Scene())
    told = _Told()
    async with again.opened():
        again.directory.take_in(outcome._replace(attempt_id=USER), told)
        assert await _took_in(again, outcome) == 1
        assert told.times == 0
        assert await _took_in(again, outcome._replace(attempt_id=USER)) == 1

    assert again.story_of(ID) == ["token_refresh.succeeded"]


async def test_what_comes_when_the_attempt_was_taken_for_unknown_is_all_that_works() -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        again.send(GetToken(connection_id=ID), patience_s=10.0)
        await anyio.sleep(80.0)
        assert again.stored(ID).intent is None
        assert again.stored(ID).doubted_at is not None

        assert await _took_in(again, outcome) == 1

        assert again.stored(ID).generation == 2
        assert again.stored(ID).doubted_at is None
        fresh = await again.ask(GetToken(connection_id=ID))
    assert isinstance(fresh, Success)
    assert isinstance(fresh.value, AccessToken)
    assert fresh.value.access_token == "a2"
    assert again.story_of(ID) == [
        "token_refresh.failed",
        "token_refresh.attempted",
        "token_refresh.succeeded",
    ]
    events = again.events_of(ID)[1:]
    assert len({getattr(event, "attempt_id", None) for event in events}) == 1


async def test_what_comes_when_newer_credentials_are_stored_is_done_with() -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        again.send(GetToken(connection_id=ID), patience_s=10.0)
        await anyio.sleep(80.0)
        await again.ask(refresh(ID))

        assert await _took_in(again, outcome) == 1

        assert again.stored(ID).generation == 2
        assert again.stored(ID).credentials != outcome.connection.credentials


async def test_the_failure_of_an_attempt_that_was_never_stored_changes_nothing() -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        again.send(GetToken(connection_id=ID), patience_s=10.0)
        await anyio.sleep(80.0)
        before = again.stored(ID)
        given = msgspec.structs.replace(outcome.connection, generation=outcome.generation)

        assert await _took_in(again, outcome._replace(connection=given)) == 1

        assert again.stored(ID) == before


async def test_a_daemon_that_drains_takes_nothing_in() -> None:
    again, outcome = await _left_open(Scene())
    async with again.opened():
        await again.ask(Get(connection_id=ID))
        assert await again.directory.drain(1.0)

        assert await _took_in(again, outcome) == 0

    assert again.ledger.changes_of(ID) == []
