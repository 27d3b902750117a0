"""Callers wait for what ends within their time, and are told at once of what does not."""

from typing import Any

import anyio
import msgspec
import pytest

from actors.world import Limits
from domain.commands import Disconnect, Get, GetToken, MarkSynced, Refresh
from domain.decision import AccessToken
from domain.profile import NON_ROTATING
from domain.result import Failure, FailureCode, Success
from tests.fakes.commands import USER, connection_number
from tests.fakes.crowd import Crowd
from tests.fakes.providers import VirtualClock, providers
from tests.fakes.stage import Sent, Stage
from tests.fakes.tenants import Fault, TenantProvider, connect, shared
from tests.fakes.token_scene import HASTY_S, ID, Scene

OTHER = connection_number(2)


async def cooled(scene: Scene, retry_after_s: int) -> None:
    """Connect two, and let the other one's refresh cool the host."""
    await scene.stage.ask(scene.connect())
    await scene.stage.ask(msgspec.structs.replace(scene.connect(), connection_id=OTHER))
    scene.provider.before = lambda _: scene.provider.answered(
        429, {"error": "slow_down"}, retry_after=str(retry_after_s)
    )
    await scene.stage.ask(GetToken(connection_id=OTHER), patience_s=HASTY_S)
    scene.provider.before = None


def failure_of(sent: Sent) -> Failure:
    """Return what a caller was refused with."""
    assert isinstance(sent.reply, Failure)
    return sent.reply


async def test_a_caller_waits_out_a_cool_down_that_ends_within_its_time() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await cooled(scene, 3)
        asked_s = anyio.current_time()

        assert await scene.fresh(patience_s=10.0) == "a2"

        assert 2.9 <= anyio.current_time() - asked_s < 4.0
        assert scene.story == ["attempted", "succeeded"]


async def test_a_longer_one_is_told_at_once_with_the_time_that_is_left() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await cooled(scene, 50)
        await anyio.sleep(30.0)
        asked_s = anyio.current_time()

        refused = await scene.refused(patience_s=10.0)

        assert anyio.current_time() == asked_s
        assert refused.code is FailureCode.PROVIDER_UNAVAILABLE
        assert refused.retry_after_s is not None
        assert 19.0 < refused.retry_after_s <= 20.0
        assert scene.story == []


async def test_who_backs_off_while_the_client_is_paused_for_longer_is_told_the_longer_wait() -> (
    None
):
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        own = await scene.refused(patience_s=1.0)
        await cooled(scene, 50)

        refused = await scene.refused(patience_s=1.0)

        assert own.retry_after_s is not None
        assert refused.retry_after_s is not None
        assert own.retry_after_s < 40.0
        assert 45.0 < refused.retry_after_s <= 50.0
        assert refused.message == own.message
        await anyio.sleep(refused.retry_after_s)
        assert await scene.fresh(patience_s=1.0) == "a2"


async def test_whoever_fails_into_a_short_cool_down_is_told_its_own_longer_back_off() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        for _ in range(6):
            refused = await scene.refused(patience_s=1.0)
            assert refused.retry_after_s is not None
            await anyio.sleep(refused.retry_after_s)
        scene.provider.before = lambda _: scene.provider.answered(
            429, {"error": "slow_down"}, retry_after="2"
        )

        refused = await scene.refused(patience_s=1.0)

        trouble = scene.stage.stored(ID).trouble
        assert trouble is not None
        assert trouble.retry_at is not None
        own_s = (trouble.retry_at - scene.clock.now()).total_seconds()
        assert own_s > 2.0
        assert refused.retry_after_s == pytest.approx(own_s, abs=0.2)
        assert len(scene.provider.presented) == 7


async def test_a_caller_waits_out_its_connections_own_back_off_and_gets_the_token() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        await scene.refused()
        scene.provider.before = None
        asked_s = anyio.current_time()

        callers = [scene.stage.send(GetToken(connection_id=ID), patience_s=4.0) for _ in range(9)]
        assert isinstance(await scene.stage.ask(MarkSynced(connection_id=ID)), Success)
        assert scene.stage.directory.token_callers == {scene.profile.slug: 9}
        for one in callers:
            await one.answered.wait()

        assert {one.code for one in callers} == {None}
        assert 0.5 <= anyio.current_time() - asked_s < 1.5
        assert scene.provider.presented == ["r1", "r1"]
        assert scene.story == ["attempted", "failed", "attempted", "succeeded"]


async def test_a_caller_whose_own_refresh_failed_waits_for_the_next_one_while_it_has_time() -> None:
    scene = Scene(reuse_policy=NON_ROTATING)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {})

        refused = await scene.refused(patience_s=20.0)

        assert refused.code is FailureCode.PROVIDER_UNAVAILABLE
        assert refused.retry_after_s is not None
        assert anyio.current_time() < 19.85 < anyio.current_time() + refused.retry_after_s
        assert len(scene.provider.presented) > 4
        assert scene.stage.directory.token_callers == {}
        hasty = scene.stage.send(GetToken(connection_id=ID), patience_s=1.0)
        assert failure_of(hasty).retry_after_s == refused.retry_after_s
        scene.provider.before = None
        assert await scene.fresh(patience_s=20.0) == "a2"


async def test_our_own_fault_is_told_at_once_however_soon_it_is_looked_at_again() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(401, {"error": "invalid_client"})
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())

        first = await scene.refused(patience_s=60.0)
        second = await scene.refused(patience_s=60.0)

        assert first.code is second.code is FailureCode.PROVIDER_MISCONFIGURED
        assert anyio.current_time() < 1.0


@pytest.mark.parametrize("step_s", [-86_400.0, -0.4, 86_400.0])
async def test_a_clock_that_is_set_makes_nobody_wait_longer_for_a_back_off(step_s: float) -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=-2 * 86_400.0))
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        await scene.refused()
        scene.provider.before = None
        asked_s = anyio.current_time()
        waits = scene.stage.send(GetToken(connection_id=ID), patience_s=60.0)
        await anyio.sleep(0.2)
        scene.clock.ahead_s = step_s
        await waits.answered.wait()

        assert waits.code is None
        assert anyio.current_time() - asked_s < 3.5


async def test_credentials_that_are_brought_end_the_wait_for_a_back_off_at_once() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {}, retry_after="30")
        await scene.refused()
        waits = scene.stage.send(GetToken(connection_id=ID), patience_s=60.0)
        await anyio.sleep(1.0)
        brought = scene.connect(lives_s=3000.0).credentials
        await scene.stage.ask(Refresh(connection_id=ID, credentials=brought))
        await anyio.sleep(0.1)

        assert waits.code is None
        assert scene.provider.presented == ["r1"]


async def test_who_may_not_wait_is_told_the_back_off() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        await scene.refused()

        told = scene.stage.send(GetToken(connection_id=ID), patience_s=60.0, can_wait=False)

        assert told.code is FailureCode.PROVIDER_UNAVAILABLE


async def test_an_open_circuit_is_waited_out_by_who_has_time_and_told_to_the_others() -> None:
    crowd = Crowd()
    async with crowd.stage.opened():
        for number in range(6):
            await crowd.connect(number)
        crowd.provider.faults["everybody"] = Fault.UNREACHABLE
        for number in range(3):
            await crowd.ask(number, patience_s=HASTY_S).answered.wait()
        del crowd.provider.faults["everybody"]

        hasty, patient = crowd.ask(4, patience_s=HASTY_S), crowd.ask(5, patience_s=4.0)
        await patient.answered.wait()

        told = failure_of(hasty)
        assert told.code is FailureCode.PROVIDER_UNAVAILABLE
        assert told.detail == "so it was told to others, and the provider was not asked now"
        assert patient.code is None
        assert crowd.stage.providers.gates.circuits == []


async def test_each_caller_of_one_flight_waits_by_its_own_time() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await cooled(scene, 10)
        patient = [scene.stage.send(GetToken(connection_id=ID), patience_s=30.0)]
        await anyio.sleep(1.0)
        hasty = scene.stage.send(GetToken(connection_id=ID), patience_s=4.0)
        patient.append(scene.stage.send(GetToken(connection_id=ID), patience_s=30.0))

        assert failure_of(hasty).code is FailureCode.PROVIDER_UNAVAILABLE
        assert failure_of(hasty).retry_after_s == pytest.approx(9.0, abs=0.2)
        for one in patient:
            await one.answered.wait()
        assert [isinstance(one.reply, Success) for one in patient] == [True, True]
        assert len(scene.provider.presented) == 2


async def test_a_caller_without_time_to_wait_is_served_the_token_that_still_lives() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await cooled(scene, 10)
        await scene.stage.ask(Disconnect(connection_id=ID, user_id=USER))
        third = connection_number(3)
        living = msgspec.structs.replace(scene.connect(lives_s=30.0), connection_id=third)
        await scene.stage.ask(living)
        patient = scene.stage.send(GetToken(connection_id=third), patience_s=60.0)
        await anyio.sleep(1.0)

        served = await scene.stage.ask(GetToken(connection_id=third), patience_s=4.0)

        assert isinstance(served, Success)
        assert isinstance(served.value, AccessToken)
        assert served.value.stale
        assert not patient.replies


async def test_commands_go_on_while_a_flight_waits_and_no_intent_is_stored() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await cooled(scene, 10)
        waits = scene.stage.send(GetToken(connection_id=ID), patience_s=60.0)
        await anyio.sleep(1.0)

        assert isinstance(await scene.stage.ask(MarkSynced(connection_id=ID)), Success)
        assert scene.stage.stored(ID).intent is None
        ended = await scene.stage.ask(Disconnect(connection_id=ID, user_id=USER))

        assert isinstance(ended, Success)
        assert anyio.current_time() < 5.0
        await waits.answered.wait()
        assert waits.code is FailureCode.NOT_ACTIVE
        assert scene.provider.presented == ["r1"]


async def test_a_stop_ends_the_wait_and_nothing_is_presented() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await cooled(scene, 10)
        waits = scene.stage.send(GetToken(connection_id=ID), patience_s=60.0)
        await anyio.sleep(1.0)
        await scene.stage.directory.stop()

        assert waits.code is FailureCode.SHUTTING_DOWN
        assert anyio.current_time() < 5.0
        assert len(scene.provider.presented) == 1


class Two:
    """Two providers, one of which hangs."""

    def __init__(self, limits: Limits) -> None:
        self.clock = VirtualClock()
        self.provider = TenantProvider(self.clock, lifetime_s=3600)
        self.stage = Stage(
            limits=limits,
            clock=self.clock,
            providers=providers(self.provider, shared("slow"), shared("quick")),
        )

    async def connect(self, number: int, slug: str) -> None:
        """Connect one whose access token has ended."""
        one = connection_number(number)
        await self.stage.ask(connect(one, slug, f"r{number}", shop="", clock=self.clock))

    def ask(self, number: int, **fields: Any) -> Sent:
        """Ask for a token."""
        return self.stage.send(GetToken(connection_id=connection_number(number)), **fields)


async def test_so_many_callers_wait_for_one_provider_and_another_ones_wait_all_the_same() -> None:
    two = Two(Limits(token_callers_per_provider_max=5))
    async with two.stage.opened():
        await two.connect(1, "slow")
        await two.connect(2, "slow")
        await two.connect(3, "quick")
        two.provider.takes_s = 20.0
        waiting = [two.ask(1 + number % 2, patience_s=60.0) for number in range(5)]
        over = [two.ask(1, patience_s=60.0), two.ask(2, patience_s=60.0)]
        elsewhere = two.ask(3, patience_s=60.0)

        assert [one.code for one in over] == [FailureCode.OVERLOADED] * 2
        assert two.stage.directory.token_callers == {"slow": 5, "quick": 1}
        for one in (*waiting, elsewhere):
            await one.answered.wait()
            assert isinstance(one.reply, Success)
        assert two.stage.directory.token_callers == {}
        assert isinstance(
            await two.stage.ask(GetToken(connection_id=connection_number(1))), Success
        )


async def test_where_nobody_more_may_wait_memory_still_answers() -> None:
    two = Two(Limits())
    async with two.stage.opened():
        await two.connect(1, "slow")
        await two.connect(3, "quick")
        fresh = two.ask(3)
        await fresh.answered.wait()

        assert two.ask(1, can_wait=False).code is FailureCode.OVERLOADED
        assert isinstance(two.ask(3, can_wait=False).reply, Success)
        assert two.provider.asked == {"r3": 1}
        assert isinstance(await two.stage.ask(Get(connection_id=connection_number(1))), Success)


async def test_where_nobody_more_may_wait_nobody_waits_behind_an_entry_either() -> None:
    two = Two(Limits())
    async with two.stage.opened():
        await two.connect(3, "quick")
        await two.ask(3).answered.wait()
        two.stage.ledger.before = lambda name, _: anyio.sleep(0.5) if name == "append" else None
        command = two.stage.send(MarkSynced(connection_id=connection_number(3)))

        assert two.ask(3, can_wait=False).code is FailureCode.OVERLOADED
        behind = two.ask(3)
        await behind.answered.wait()
        assert isinstance(behind.reply, Success)
        assert isinstance(command.reply, Success)


async def test_a_living_token_is_answered_at_the_next_acknowledgement_under_a_stream_of_commands() -> (
    None
):
    two = Two(Limits())
    async with two.stage.opened() as tasks:
        await two.connect(1, "quick")
        await two.ask(1).answered.wait()
        two.stage.ledger.before = lambda name, _: anyio.sleep(0.003) if name == "append" else None

        async def command_for_ever() -> None:
            while True:
                two.stage.send(MarkSynced(connection_id=connection_number(1)))
                await anyio.sleep(0.002)

        tasks.start_soon(command_for_ever)
        await anyio.sleep(1.0)
        for _ in range(10):
            asked_s = anyio.current_time()
            sent = two.ask(1, patience_s=4.0)
            await sent.answered.wait()
            assert isinstance(sent.reply, Success)
            assert anyio.current_time() - asked_s < 0.02
            await anyio.sleep(0.1)
