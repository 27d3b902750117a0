"""A look that nobody has asked for: what is due is done, and nothing else, by the newest state."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest

from actors.later import Later
from actors.looks import LookEnvelope
from actors.waker import Waker
from actors.world import Limits
from domain.commands import Disconnect, GetToken
from domain.connection import ConnectionStatus
from domain.decision import Reply
from domain.exchange import Exchange
from domain.profile import NON_ROTATING, RefreshMode
from domain.result import Failure, Success
from tests.fakes.commands import USER
from tests.fakes.stage import Stage
from tests.fakes.token_scene import ID, LIVES_S, Scene


async def looked(stage: Stage, *, acts: bool = True) -> tuple[Reply, LookEnvelope]:
    """Look at the connection, and return what that came to."""
    replies: list[Reply] = []
    answered = anyio.Event()

    def reply(one: Reply) -> None:
        replies.append(one)
        answered.set()

    envelope = LookEnvelope(ID, Later(), reply=reply, acts=acts)
    stage.directory.submit(envelope)
    await answered.wait()
    assert len(replies) == 1
    return replies[0], envelope


async def connected(scene: Scene, **fields: Any) -> None:
    """Connect, and let so much time pass that the provider may be asked."""
    await scene.stage.ask(scene.connect(**fields))
    await anyio.sleep(2.0)


async def due_s(stage: Stage, scene: Scene) -> float | None:
    """Return in how many seconds the stored connection is to be looked at next."""
    next_due = stage.ledger.records[ID].next_due
    return None if next_due is None else (next_due - scene.clock.now()).total_seconds()


async def test_what_is_due_is_refreshed_without_a_caller_and_its_actor_forgotten() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=100.0))
    stage = scene.restarted()
    async with stage.opened():
        await anyio.sleep(99.0)

        reply, look = await looked(stage)

        assert reply == Success(None)
        assert scene.provider.presented == ["r1"]
        stored = stage.ledger.records[ID]
        assert stored.connection is not None
        assert (stored.connection.generation, stored.connection.intent) == (2, None)
        assert look.next_due == stored.next_due
        assert 0.7 * LIVES_S < (await due_s(stage, scene) or 0) < LIVES_S
        await stage.settled()
        assert stage.directory.resident_actors == 0


async def test_a_look_that_comes_too_early_or_again_changes_nothing() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await connected(scene, lives_s=1000.0)
        groups = len(scene.stage.ledger.groups)

        for _ in range(3):
            reply, look = await looked(scene.stage)
            assert reply == Success(None)
            assert look.next_due == scene.stage.ledger.records[ID].next_due

        assert len(scene.stage.ledger.groups) == groups
        assert scene.provider.presented == []


async def test_a_look_during_a_callers_flight_waits_for_it_and_asks_nobody_again() -> None:
    scene = Scene()
    scene.provider.takes_s = 5.0
    async with scene.stage.opened():
        await connected(scene)
        ask = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(1.0)

        reply, _ = await looked(scene.stage)

        assert reply == Success(None)
        assert ask.code is None
        assert scene.provider.presented == ["r1"]


async def test_callers_share_the_flight_of_a_look() -> None:
    scene = Scene()
    scene.provider.takes_s = 2.0
    async with scene.stage.opened(), anyio.create_task_group() as tasks:
        await connected(scene)
        tasks.start_soon(looked, scene.stage)
        await anyio.sleep(1.0)

        assert await scene.fresh() == "a2"
        assert scene.provider.presented == ["r1"]


@pytest.mark.parametrize(
    ("profile", "presented"),
    [({"refresh": RefreshMode.ON_DEMAND}, "r1"), ({}, None)],
    ids=["on_demand", "no_refresh_token"],
)
async def test_who_is_not_to_be_refreshed_unasked_is_let_be(
    profile: dict[str, Any], presented: str | None
) -> None:
    scene = Scene(**profile)
    async with scene.stage.opened():
        await connected(scene, presented=presented)

        reply, _ = await looked(scene.stage)

        assert reply == Success(None)
        assert scene.provider.presented == []
        assert scene.stage.stored(ID).status is ConnectionStatus.ACTIVE


async def test_whoever_is_disconnected_or_unknown_is_never_looked_at_again() -> None:
    scene = Scene()
    async with scene.stage.opened():
        reply, look = await looked(scene.stage)
        assert (reply, look.next_due) == (Success(None), None)
        await connected(scene)
        await scene.stage.ask(Disconnect(connection_id=ID, user_id=USER))

        reply, look = await looked(scene.stage)

        assert (reply, look.next_due) == (Success(None), None)
        assert scene.stage.ledger.records[ID].next_due is None
        assert scene.provider.presented == []


async def test_a_refresh_that_fails_is_due_again_when_its_pause_is_over() -> None:
    scene = Scene()

    def unavailable(_token: str) -> Exchange:
        return scene.provider.answered(503, {})

    scene.provider.before = unavailable
    async with scene.stage.opened():
        await connected(scene)

        await looked(scene.stage)

        trouble = scene.stage.stored(ID).trouble
        assert trouble is not None
        next_due = scene.stage.ledger.records[ID].next_due
        assert next_due is not None
        assert next_due >= trouble.at + timedelta(milliseconds=1)
        scene.provider.before = None
        await anyio.sleep(400.0)
        await looked(scene.stage)
        assert len(scene.provider.presented) == 2


async def test_where_the_client_must_not_ask_the_connection_is_put_off_and_nobody_asked() -> None:
    scene = Scene()
    answers = [scene.provider.answered(429, {}, retry_after="600")]
    scene.provider.before = lambda _token: answers.pop() if answers else None
    async with scene.stage.opened():
        await connected(scene)
        await looked(scene.stage)
        asked = len(scene.provider.presented)
        assert (await due_s(scene.stage, scene) or 0) > 500

        reply, _ = await looked(scene.stage)

        assert reply == Success(None)
        assert len(scene.provider.presented) == asked


async def test_while_nothing_can_be_stored_the_look_is_to_come_again() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await connected(scene)
        scene.stage.ledger.has_room = False

        reply, _ = await looked(scene.stage)

        assert isinstance(reply, Failure)
        assert scene.provider.presented == []


async def test_an_attempt_that_a_crash_left_open_is_ended_and_made_up_for() -> None:
    scene = Scene(reuse_policy=NON_ROTATING)
    stage = await scene.cut_amid_a_flight()
    async with stage.opened():
        scene.provider.live, scene.provider.is_revoked = "r1", False
        reply, _ = await looked(stage)

        assert reply == Success(None)
        connection = stage.stored(ID)
        assert connection.intent is None
        assert connection.generation == 2


async def test_a_note_says_when_it_is_due_and_does_nothing() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await connected(scene)
        records = scene.stage.ledger.records
        records[ID] = records[ID]._replace(next_due=None)
    stage = scene.restarted()
    async with stage.opened():
        reply, look = await looked(stage, acts=False)

        assert reply == Success(None)
        assert look.next_due is not None
        assert stage.ledger.records[ID].next_due == look.next_due <= scene.clock.now()
        assert scene.provider.presented == []


def test_looks_are_begun_a_few_at_a_time_the_most_urgent_first_and_no_provider_has_them_all():
    begun: list[LookEnvelope] = []
    limits = Limits(looks_max=3, looks_per_provider_max=2)
    waker = Waker(begun.append, limits)  # type: ignore[arg-type]
    told: list[int] = []
    urgent = {number: UUID(int=number) for number in (5, 1, 4, 2, 3)}
    for number, connection_id in urgent.items():
        waker.wake(
            connection_id,
            slug="slow",
            urgent_s=number,
            told=lambda _reply, _due, number=number: told.append(number),
        )
    waker.wake(UUID(int=9), slug="other", urgent_s=99.0, told=lambda _reply, _due: None)
    assert not begun

    waker.begin()

    assert [one.command.connection_id.int for one in begun] == [1, 2, 9]
    assert (waker.under_way, waker.waiting) == (3, 3)
    for position in range(6):
        begun[position].answer(Success(None))
    assert [one.command.connection_id.int for one in begun] == [1, 2, 9, 3, 4, 5]
    assert told == [1, 2, 3, 4, 5]
    assert (waker.under_way, waker.waiting) == (0, 0)


def test_however_many_providers_are_slow_another_has_room():
    begun: list[LookEnvelope] = []
    waker = Waker(begun.append, Limits())  # type: ignore[arg-type]
    waker.begin()
    for number in range(100 * 20):
        waker.wake(
            UUID(int=number + 1),
            slug=f"slow-{number % 20}",
            urgent_s=0.0,
            told=lambda _reply, _due: None,
        )
    assert 200 < len(begun) < Limits().looks_max

    waker.wake(UUID(int=9999), slug="other", urgent_s=99.0, told=lambda _reply, _due: None)

    assert begun[-1].command.connection_id == UUID(int=9999)
