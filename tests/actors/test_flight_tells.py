"""What a flight tells its callers and the journal, and what it looks at for that."""

from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest

from actors.client_gate import ClientGate
from actors.world import Limits
from domain.commands import GetToken, MarkSynced
from domain.decision import AccessToken
from domain.events import ProviderClientPaused, ProviderClientResumed
from domain.exchange import Exchange, ExchangeRequest, Place
from domain.profile import NON_ROTATING, AnswerPaths
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import connection_number
from tests.fakes.gates import paused
from tests.fakes.holds import HeldAppends
from tests.fakes.token_scene import HASTY_S, ID, Scene
from tests.fakes.trouble import BugError

_OTHER = connection_number(2)


async def _connected(scene: Scene) -> None:
    for one in (ID, _OTHER):
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=one))


async def test_the_journal_is_told_whose_flight_met_which_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    error = BugError()

    def bug(*_: Any, **__: Any) -> None:
        raise error

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        monkeypatch.setattr(scene.stage.directory.world.sealer, "seal", bug)
        refused = await scene.refused()

    assert refused.code is FailureCode.DATABASE_ERROR
    assert scene.stage.journal.told == [("crashed", ID, error)]


async def test_the_journal_is_told_whose_request_was_cut_off() -> None:
    scene = Scene()
    scene.provider.takes_s = 300.0
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(1.0)
        await scene.stage.directory.stop(within_s=0.0)

    assert scene.stage.journal.told == [("cut_off", ID)]


async def test_the_journal_is_told_whose_outcome_is_lost() -> None:
    scene = Scene()
    scene.stage.spill.is_full = True
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.01)
        HeldAppends(scene.stage.ledger)
        await anyio.sleep(1.0)
        await scene.stage.directory.stop(within_s=1.0)

    assert scene.stage.journal.told == [("outcome_lost", ID)]


async def test_the_journal_is_told_which_client_is_paused_and_why() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(401, {"error": "invalid_client"})
    async with scene.stage.opened():
        for number in range(1, 4):
            one = connection_number(number)
            await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=one))
            refused = await scene.stage.ask(GetToken(connection_id=one), patience_s=1.0)
            assert isinstance(refused, Failure)

    ((name, slug, code, reason),) = scene.stage.journal.told
    assert (name, slug, code) == ("client_paused", scene.profile.slug, "invalid_client")
    assert reason


async def test_a_pause_and_its_end_are_events_of_the_refreshes_that_showed_them_each_once() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(401, {"error": "invalid_client"})
    ids = [connection_number(number) for number in range(1, 7)]
    async with scene.stage.opened():
        for one in ids[:5]:
            await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=one))
            await scene.stage.ask(GetToken(connection_id=one), patience_s=HASTY_S)
            await anyio.sleep(1.0)
        scene.provider.before = None
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=ids[5]))
        await scene.stage.ask(GetToken(connection_id=ids[5]), patience_s=4.0)

    told = [event for event in scene.stage.ledger.events if "Client" in type(event).__name__]
    assert [(type(event), event.connection_id) for event in told] == [
        (ProviderClientPaused, ids[2]),
        (ProviderClientResumed, ids[5]),
    ]
    assert [name for name, *_ in scene.stage.journal.told] == ["client_paused", "client_resumed"]
    for event in told:
        (entry,) = [one for one in scene.stage.ledger.history if event in one.events]
        assert [type(one).__name__ for one in entry.events][-2:] == [
            "ProviderTokenRefreshFailed"
            if isinstance(event, ProviderClientPaused)
            else "ProviderTokenRefreshSucceeded",
            type(event).__name__,
        ]


async def test_the_gate_is_told_whose_flight_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    told: list[tuple[str, UUID]] = []

    def noting(name: str) -> None:
        method = getattr(ClientGate, name)

        def noted(gate: ClientGate, connection_id: UUID, *args: Any) -> Any:
            told.append((name, connection_id))
            return method(gate, connection_id, *args)

        monkeypatch.setattr(ClientGate, name, noted)

    for name in ("slot", "succeeded", "failed"):
        noting(name)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.fresh(force=True)
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        await scene.refused(if_generation=2)

    assert told == [("slot", ID), ("succeeded", ID), ("slot", ID), ("failed", ID)]


async def test_a_stop_whose_time_ends_before_the_intent_is_stored_presents_nothing() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        HeldAppends(scene.stage.ledger)
        asked = scene.stage.send(GetToken(connection_id=ID), patience_s=500.0)
        await anyio.sleep(0.5)
        began_s = anyio.current_time()
        await scene.stage.directory.stop(within_s=1.0)

    assert anyio.current_time() - began_s < 2.0
    assert asked.code is FailureCode.SHUTTING_DOWN
    assert scene.provider.presented == []
    assert scene.stage.journal.errors == []


async def test_who_comes_to_a_flight_that_a_stop_has_just_ended_shares_its_end() -> None:
    scene = Scene(max_concurrency=1)
    async with scene.stage.opened():
        await _connected(scene)
        scene.provider.takes_s = 5.0
        scene.stage.send(GetToken(connection_id=_OTHER))
        await anyio.sleep(0.5)
        asked = [scene.stage.send(GetToken(connection_id=ID))]
        await anyio.sleep(0.5)
        scene.stage.directory.refrain()
        asked.append(scene.stage.send(GetToken(connection_id=ID)))
        await anyio.sleep(0.5)

        for one in asked:
            assert isinstance(one.reply, Failure)
            assert one.reply.code is FailureCode.SHUTTING_DOWN
            assert one.reply.retry_after_s == 1.0
    assert len(scene.provider.presented) == 1


async def test_who_comes_to_a_flight_that_may_not_begin_is_told_to_ask_again_soon() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.directory.refrain()
        asked = [scene.stage.send(GetToken(connection_id=ID)) for _ in range(2)]
        await anyio.sleep(0.5)

    for one in asked:
        assert isinstance(one.reply, Failure)
        assert (one.code, one.reply.retry_after_s) == (FailureCode.SHUTTING_DOWN, 1.0)
    assert scene.stage.journal.errors == []


@pytest.mark.parametrize(("after_s", "told_s"), [(0.34, 9.7), (9.98, 0.1)])
async def test_the_time_that_is_left_is_told_in_tenths_of_a_second_and_never_as_none(
    after_s: float, told_s: float
) -> None:
    scene = Scene()
    async with scene.stage.opened():
        await _connected(scene)
        scene.provider.before = lambda _: scene.provider.answered(
            429, {"error": "slow_down"}, retry_after="10"
        )
        await scene.stage.ask(GetToken(connection_id=_OTHER), patience_s=4.0)
        scene.provider.before = None
        scene.stage.send(GetToken(connection_id=ID), patience_s=30.0)
        await anyio.sleep(after_s)

        hasty = await scene.stage.ask(GetToken(connection_id=ID), patience_s=0.01)

        assert isinstance(hasty, Failure)
        assert hasty.retry_after_s == pytest.approx(told_s, abs=1e-9)


async def test_whoever_waits_for_the_end_of_an_open_intent_is_then_asked_for_at_the_provider() -> (
    None
):
    scene = Scene(reuse_policy=NON_ROTATING)
    again = await scene.cut_amid_a_flight()
    scene.provider.before = lambda _: scene.provider.answered(
        200, {"access_token": "a9", "expires_in": 3600}
    )
    async with again.opened():
        asked = await again.ask(GetToken(connection_id=ID), patience_s=500.0)

    assert isinstance(asked, Success)
    assert isinstance(asked.value, AccessToken)
    assert asked.value.access_token == "a9"
    assert again.story_of(ID) == [
        "token_refresh.failed",
        "token_refresh.attempted",
        "token_refresh.succeeded",
    ]


async def test_a_request_is_made_with_what_the_grant_says_and_its_intent_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(answer=AnswerPaths(endpoint_base="instance_url"), scope="read")
    base, params = "https://eu.example.com", {"shop": "x"}
    places: list[tuple[object, ...]] = []
    place = scene.provider.place

    def noted(*asked: Any) -> Place:
        places.append(asked)
        return place(*asked)

    monkeypatch.setattr(scene.provider, "place", noted)
    scene.provider.after = lambda _: scene.provider.answered(
        200, {"access_token": "a2", "expires_in": 60, "instance_url": base}
    )
    async with scene.stage.opened():
        await scene.stage.ask(msgspec.structs.replace(scene.connect(), params=params))
        await scene.token(force=True)
        scene.stage.send(GetToken(connection_id=ID, force=True))
        await anyio.sleep(0.05)
        intent = scene.stage.stored(ID).intent
        await scene.stage.settled()
        scene.provider.after = lambda _: scene.provider.answered(503, {})
        for _ in range(2):
            assert (await scene.refused(if_generation=3)).retry_after_s

    assert intent is not None
    assert isinstance(intent.attempt_id, UUID)
    assert intent.owner == scene.stage.providers.owner
    assert [of for _, _, of in places] == sorted((of for _, _, of in places), key=bool)
    assert all(asked[:2] == (scene.profile, params) for asked in places)
    assert places[-1][2] == base
    for request, of in zip(scene.provider.requests, [None, base, base], strict=True):
        assert (request.profile, request.params) == (scene.profile, params)
        assert (request.endpoint_base, request.secret_index, request.with_scope) == (of, 0, True)


async def test_an_intent_that_cannot_be_written_is_told_and_not_tried_again_for_that_caller() -> (
    None
):
    scene = Scene()

    def lose_one(operation: str, _: object) -> None:
        if operation == "add":
            scene.stage.ledger.before = None
            raise BugError

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.stage.ledger.before = lose_one
        refused = await scene.refused()

        assert refused.code is FailureCode.DATABASE_ERROR
        assert refused.message.endswith("could not be noted")
        assert scene.provider.presented == []
        assert await scene.fresh() == "a2"


@pytest.mark.parametrize("works", [1, 2])
async def test_each_secret_of_a_client_is_tried_once_and_the_one_that_works_is_kept(
    works: int,
) -> None:
    scene = Scene(client_secrets=3)
    working = {works}

    async def exchange(request: ExchangeRequest) -> Exchange:
        scene.provider.requests.append(request)
        if request.secret_index not in working:
            return scene.provider.answered(401, {"error": "invalid_client"})
        return scene.provider.answered(200, {"access_token": "a2", "expires_in": 3600})

    scene.provider.exchange = exchange
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.token(force=True)
        await scene.token(force=True)
        tried = [one.secret_index for one in scene.provider.requests]
        assert tried == [*range(works + 1), works]
        working.clear()
        scene.provider.requests.clear()
        assert await scene.refused(if_generation=3)

        tried = [one.secret_index for one in scene.provider.requests]
        assert tried == [works, (works + 1) % 3, (works + 2) % 3]


async def test_a_scope_that_is_refused_is_left_out_once() -> None:
    scene = Scene(scope="read")

    async def exchange(request: ExchangeRequest) -> Exchange:
        scene.provider.requests.append(request)
        return scene.provider.answered(400, {"error": "invalid_scope"})

    scene.provider.exchange = exchange
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.refused()

    assert [one.with_scope for one in scene.provider.requests] == [True, False]


@pytest.mark.parametrize("error", ["invalid_client", "invalid_scope"])
async def test_a_client_with_one_secret_and_without_a_scope_asks_once(error: str) -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(400, {"error": error})
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.refused()

    assert scene.provider.presented == ["r1"]


async def test_a_pause_that_nobody_has_the_time_for_is_not_waited_for() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        paused(
            scene.stage.providers.gates.of(
                scene.profile, scene.provider.place(scene.profile, None, None)
            )
        )
        assert await scene.refused(patience_s=1.0)
        await anyio.sleep(0.01)

        assert scene.stage.directory.flights == 0


async def test_a_flight_whose_callers_a_quarantine_has_answered_ends() -> None:
    scene = Scene(Limits(restarts_max=1))
    directory = scene.stage.directory
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        paused(
            scene.stage.providers.gates.of(
                scene.profile, scene.provider.place(scene.profile, None, None)
            )
        )
        asked = scene.stage.send(GetToken(connection_id=ID), patience_s=5000.0)
        await anyio.sleep(0.5)
        assert directory.flights == 1
        (actor,) = directory._actors.values()
        for _ in range(2):
            directory.crashed(actor, BugError())
        await anyio.sleep(1.5)

        assert asked.code is FailureCode.DATABASE_ERROR
        assert directory.flights == 0


async def test_all_commands_wait_for_the_end_of_an_open_intent_and_keep_their_order() -> None:
    again = await Scene().cut_amid_a_flight()
    async with again.opened():
        sent = [again.send(MarkSynced(connection_id=ID)) for _ in range(3)]
        await anyio.sleep(1.0)
        assert [one.replies for one in sent] == [[], [], []]
        assert again.stored(ID).intent is not None
        sent.append(again.send(MarkSynced(connection_id=ID)))
        assert sent[-1].replies == []
        for one in sent:
            await one.answered.wait()

        assert [one.code for one in sent] == [None] * 4
        assert again.ledger.history[0].connection is not None
        assert again.ledger.history[0].connection.intent is None
