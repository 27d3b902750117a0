"""However the clock is set, it blocks nobody for longer than was meant, and ends no grant."""

from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.commands import GetToken, MarkSynced, Refresh
from domain.connection import ConnectionStatus
from domain.credentials import Secret, Unsealed
from domain.decision import AccessToken
from domain.exchange import Answered, Exchange, Lost, NotSent
from domain.profile import AnswerPaths
from domain.refreshing import attempt_s_max
from domain.result import Failure, FailureCode, Success
from tests.fakes.examples import examples
from tests.fakes.schedule import run_seeded
from tests.fakes.token_scene import HASTY_S, ID, LIVES_S, Scene

DAY_S = 86_400.0


async def _told_over(scene: Scene) -> None:
    refused = await scene.refused(force=True)
    assert refused.code is FailureCode.REAUTH_REQUIRED
    assert refused.needs_user_action
    assert refused.message == "By the calendar the provider's grant has ended"
    assert scene.stage.stored(ID).status is ConnectionStatus.ACTIVE


NEVER_TRIED: dict[str, Any] = {"grant_lifetime_s": 7 * DAY_S, "grant_trial_interval_s": 0.0}


async def test_an_end_by_the_calendar_is_told_and_not_stored_and_undone_by_the_right_time() -> None:
    scene = Scene(**NEVER_TRIED)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.clock.ahead_s = 8 * DAY_S
        for _ in range(3):
            await _told_over(scene)
        assert scene.provider.presented == []
        assert scene.story == []
        assert scene.stage.stored(ID).trouble is None
        scene.clock.ahead_s = 0.0

        assert await scene.fresh() == "a2"


async def test_an_end_by_the_calendar_is_undone_by_new_credentials() -> None:
    scene = Scene(**NEVER_TRIED)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.clock.ahead_s = 8 * DAY_S
        await _told_over(scene)
        again = scene.connect().credentials
        assert isinstance(again, Unsealed)

        await scene.stage.ask(Refresh(connection_id=ID, credentials=again))

        assert await scene.fresh() == "a2"


async def test_an_end_by_the_calendar_is_undone_by_the_provider_who_still_gives_tokens() -> None:
    scene = Scene(grant_lifetime_s=7 * DAY_S)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.clock.ahead_s = 8 * DAY_S

        assert await scene.fresh() == "a2"
        assert await scene.fresh(force=True) == "a3"
        await anyio.sleep(LIVES_S)
        assert await scene.fresh() == "a4"


async def test_a_grant_that_is_over_costs_one_request_and_is_dead_by_the_providers_word() -> None:
    scene = Scene(grant_lifetime_s=7 * DAY_S)
    scene.provider.is_revoked = True
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.clock.ahead_s = 8 * DAY_S
        for _ in range(3):
            refused = await scene.refused()
            assert refused.code is FailureCode.REAUTH_REQUIRED
            assert refused.message == "The provider no longer accepts the refresh token"

        assert scene.provider.presented == ["r1"]
        assert scene.stage.stored(ID).status is ConnectionStatus.EXPIRED


async def test_a_trial_that_does_not_reach_the_provider_is_repeated_once_an_hour() -> None:
    scene = Scene(grant_lifetime_s=7 * DAY_S)
    scene.provider.before = lambda _: NotSent(code="connect_failed")
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.clock.ahead_s = 8 * DAY_S
        first = await scene.refused()
        assert first.code is FailureCode.PROVIDER_UNAVAILABLE
        for _ in range(10 * 60 - 1):
            await anyio.sleep(60.0)
            await scene.token(HASTY_S)
        assert scene.provider.presented == ["r1"] * 10
        await _told_over(scene)
        scene.provider.before = None
        await anyio.sleep(3600.0)

        assert await scene.fresh() == "a2"


async def test_the_grant_of_a_token_in_doubt_is_not_tried_past_its_end() -> None:
    scene = Scene(grant_lifetime_s=7 * DAY_S)
    scene.provider.after = lambda _: Lost(code="timeout")
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.refused()
        scene.provider.after = None
        scene.clock.ahead_s = 8 * DAY_S

        await _told_over(scene)
        assert scene.provider.presented == ["r1"]


@pytest.mark.parametrize("is_date_told", [True, False])
async def test_a_grant_outlives_a_clock_that_was_slow_during_one_refresh(
    is_date_told: bool,
) -> None:
    scene = Scene(answer=AnswerPaths(refresh_token_expiry="refresh_expires_in"))

    def told(exchange: Exchange) -> Exchange:
        assert isinstance(exchange, Answered)
        body = msgspec.json.decode(exchange.body.reveal()) | {"refresh_expires_in": 1800}
        date = scene.clock.now() + timedelta(hours=1)
        return replace(
            exchange,
            body=Secret(msgspec.json.encode(body)),
            date=date if is_date_told else None,
            received_at=scene.clock.now(),
        )

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.clock.ahead_s = -3600.0
        scene.provider.after = told
        assert await scene.fresh(force=True) == "a2"
        scene.clock.ahead_s, scene.provider.after = 0.0, None
        await anyio.sleep(60.0)

        assert await scene.fresh(force=True) == "a3"
        assert await scene.fresh() == "a3"


async def test_a_connection_without_a_refresh_token_outlives_a_clock_that_was_wrong() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0, presented=None))
        scene.clock.ahead_s = DAY_S
        refused = await scene.refused()
        assert refused.code is FailureCode.REAUTH_REQUIRED
        assert "no refresh token" in refused.message
        scene.clock.ahead_s = 0.0

        assert await scene.fresh() == "a1"
        assert scene.story == []


async def test_a_pause_ends_in_its_time_though_the_clock_is_set_back_by_a_day() -> None:
    scene = Scene()
    scene.clock.ahead_s = DAY_S
    scene.provider.before = lambda _: NotSent(code="connect_failed")
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.refused()
        scene.provider.before = None
        scene.clock.ahead_s = -DAY_S

        got = await scene.token(force=True)

        assert isinstance(got, AccessToken)
        assert (got.access_token, got.stale) == ("a2", False)


async def test_an_open_intent_holds_nobody_up_longer_though_the_clock_is_set_back() -> None:
    scene = Scene()
    again = await scene.cut_amid_a_flight()
    async with again.opened():
        scene.clock.ahead_s = -DAY_S
        started_s = anyio.current_time()
        held = await again.ask(MarkSynced(connection_id=ID), patience_s=2 * DAY_S)

        assert held == Success(None)
        assert anyio.current_time() - started_s < attempt_s_max(scene.profile) + 1.0


@pytest.mark.parametrize("ahead_s", [DAY_S, 60.0])
async def test_a_token_of_a_faster_clock_is_not_served_as_if_it_lived_longer(
    ahead_s: float,
) -> None:
    scene = Scene()
    scene.clock.ahead_s = ahead_s
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        assert await scene.fresh() == "a2"
        scene.clock.ahead_s = 0.0

        assert await scene.fresh() == "a3"
        assert await scene.fresh() == "a3"


def _seen(got: AccessToken | Failure) -> tuple[str, bool] | FailureCode:
    return got.code if isinstance(got, Failure) else (got.access_token, got.stale)


@pytest.mark.parametrize("asks_at_h", [(0.1, 0.9, 1.2, 2.0, 12.0, 24.0, 25.5), (0.5, 24.1)])
async def test_a_token_of_a_faster_clock_is_held_for_its_lifetime_while_the_other_is_in_doubt(
    asks_at_h: tuple[float, ...],
) -> None:
    scene = Scene()
    scene.clock.ahead_s = DAY_S
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        assert await scene.fresh() == "a2"
        scene.provider.after = lambda _: scene.provider.answered(500, {})
        assert _seen(await scene.token(force=True)) == ("a2", True)
        scene.provider.after, scene.clock.ahead_s = None, 0.0
        start_s = anyio.current_time()
        seen: list[tuple[str, bool] | FailureCode] = []
        for hours in asks_at_h:
            await anyio.sleep(start_s + hours * 3600 - anyio.current_time())
            seen.append(_seen(await scene.token()))

        held = sum(hours <= asks_at_h[0] + 1 for hours in asks_at_h)
        over = [FailureCode.REAUTH_REQUIRED] * (len(asks_at_h) - held)
        assert seen == [("a2", True)] * held + over
        assert scene.provider.presented == ["r1", "r2", "r2"]


async def test_a_rejected_token_of_a_faster_clock_is_replaced_at_once() -> None:
    scene = Scene()
    scene.clock.ahead_s = DAY_S
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        assert await scene.fresh() == "a2"
        scene.provider.before = lambda _: scene.provider.answered(500, {})
        await scene.token(force=True)
        scene.provider.before, scene.clock.ahead_s = None, 0.0
        assert _seen(await scene.token()) == ("a2", True)

        assert await scene.fresh(if_generation=2) == "a3"
        assert await scene.fresh() == "a3"


async def test_the_clock_is_noted_to_be_behind_once_and_across_a_restart() -> None:
    scene = Scene()
    scene.clock.ahead_s = DAY_S
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        assert await scene.fresh() == "a2"
        scene.provider.before = lambda _: scene.provider.answered(500, {})
        await scene.token(force=True)
        scene.clock.ahead_s = 0.0
        await scene.token()
        noted = scene.stage.stored(ID)
        assert noted.credentials is not None
        assert noted.credentials.redated_at == scene.clock.now()
        await anyio.sleep(1800.0)
        assert _seen(await scene.token()) == ("a2", True)
        assert scene.stage.stored(ID) == noted
    again = scene.restarted()
    async with again.opened():
        scene.provider.before = None
        await anyio.sleep(DAY_S)

        reply = await again.ask(GetToken(connection_id=ID))

        assert isinstance(reply, Success)
        assert isinstance(reply.value, AccessToken)
        assert (reply.value.access_token, reply.value.stale) == ("a3", False)


_steps = st.lists(
    st.tuples(
        st.sampled_from((-DAY_S, -100.0, -1.0, 0.0, 1.0, 100.0, DAY_S)),
        st.sampled_from((0.0, 1.0, 40.0, float(LIVES_S))),
        st.booleans(),
    ),
    max_size=8,
)


@given(seed=st.integers(0, 2**32), steps=_steps)
@settings(max_examples=examples(40))
def test_after_any_steps_of_the_clock_a_token_is_had_as_soon_as_the_provider_answers(
    seed: int, steps: list[tuple[float, float, bool]]
) -> None:
    async def story() -> None:
        scene = Scene()
        async with scene.stage.opened():
            await scene.stage.ask(scene.connect())
            for ahead_s, pause_s, fails in steps:
                scene.clock.ahead_s = ahead_s
                scene.provider.before = (
                    (lambda _: NotSent(code="connect_failed")) if fails else None
                )
                await scene.token(patience_s=5.0)
                await anyio.sleep(pause_s)
            scene.provider.before = None
            failures = sum(fails for *_, fails in steps)
            await anyio.sleep(2.0**failures)
            reply = await scene.stage.ask(GetToken(connection_id=ID))

            assert isinstance(reply, Success | Failure)
            assert isinstance(reply, Success), reply
            assert not scene.provider.is_revoked

    run_seeded(story, seed=seed)
