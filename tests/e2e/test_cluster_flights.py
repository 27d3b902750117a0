"""Requests that providers have while their connection's owner leaves, dies or stands still."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator

import pytest

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.cluster import PARTITIONS, Cluster, cluster_of, paused
from tests.fakes.daemon_process import (
    CREDENTIALS,
    Answer,
    DaemonProcess,
)
from tests.fakes.eventually import eventually
from tests.fakes.long_tests import LONG
from tests.fakes.steady_callers import SteadyCallers
from tests.fakes.token_daemon import connect

PATIENCE_S = 40
HELD = 4
MEMBER_TIMEOUT_S = 5
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
async def provider() -> AsyncGenerator[FakeProvider]:
    async with running_fake_provider() as running:
        yield running


@pytest.fixture(scope="module")
async def cluster(
    tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider
) -> AsyncGenerator[Cluster]:
    async with cluster_of(tmp_path_factory.mktemp("cluster"), provider, timeout_s="50") as cluster:
        yield cluster


class Held:
    """Grants of one member whose refreshes hang at the provider, processed and not answered."""

    def __init__(self, cluster: Cluster, provider: FakeProvider) -> None:
        self.cluster = cluster
        self.provider = provider
        self.ids: list[str] = []
        self.asked: list[asyncio.Task[Answer]] = []

    async def by(self, owner: DaemonProcess) -> None:
        """Have some, and somebody who waits for each."""
        self.provider.reset()
        caller = self.cluster.caller
        # Their tokens have ended: what nobody asks for is refreshed, too.
        self.provider.quirks.set({"hang": "after"})
        for _ in range(HELD):
            connection_id = self.cluster.id_of(owner)
            await connect(caller, self.provider, connection_id=connection_id)
            self.ids.append(connection_id)
        self.ask()
        await eventually(lambda: self.provider.stats.hanging == HELD)
        self.provider.quirks.set({"hang": "no"})

    def ask(self) -> None:
        """Let one more wait for each."""
        self.asked += [
            asyncio.create_task(
                self.cluster.caller.ask(
                    f"connection.{one}.token",
                    headers={"Refreshd-Timeout-Ms": str(PATIENCE_S * 1000)},
                    timeout_s=PATIENCE_S,
                )
            )
            for one in self.ids
        ]

    def forget(self) -> None:
        """Wait no more for answers of daemons that are dead."""
        for one in self.asked:
            one.cancel()
        self.asked.clear()

    async def check(self, *, may_be_told_to_repeat: bool = False) -> None:
        """Check that all got the one token that their grant's one refresh brought.

        Args:
            may_be_told_to_repeat: Whether ``DATABASE_ERROR`` may come first, as from a member that
                went on when its callers' append had long been refused.
        """
        answers = await asyncio.gather(*self.asked)
        if may_be_told_to_repeat and {answer.code for answer in answers} - {"ok"}:
            assert {answer.code for answer in answers} <= {"ok", "DATABASE_ERROR"}
            self.asked.clear()
            self.ask()
            answers = await asyncio.gather(*self.asked)
        assert [answer.code for answer in answers] == ["ok"] * len(self.asked)
        assert {answer.body["ok"]["generation"] for answer in answers} == {2}
        stats = self.provider.stats
        assert (stats.calls, stats.successes, stats.double_presentations) == (HELD, HELD, 0)
        for one in self.ids:
            assert (await self.cluster.caller.get(one))["generation"] == 2
            await eventually(lambda one=one: self._is_told_once(one))

    async def _is_told_once(self, one: str) -> bool:
        told = [event["type"] for event in await self.cluster.caller.told(one)]
        return told[2:] == ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]


@pytest.fixture
def held(cluster: Cluster, provider: FakeProvider) -> Held:
    return Held(cluster, provider)


async def test_a_member_that_leaves_hands_over_at_once_and_delivers_what_its_providers_answer(
    cluster: Cluster, provider: FakeProvider, held: Held
):
    first, _ = await cluster.of(2)
    await held.by(first)

    leaving = asyncio.create_task(cluster.left_by(first))
    await eventually(lambda: first not in cluster.members)
    await cluster.balanced()
    held.ask()
    assert not leaving.done()
    assert provider.release() == HELD

    await held.check()
    assert await leaving == 0


async def test_what_killed_members_have_spilled_the_next_starts_deliver(
    cluster: Cluster, provider: FakeProvider, held: Held
):
    first, second = await cluster.of(2)
    await held.by(first)
    first.process.send_signal(signal.SIGTERM)
    await eventually(lambda: cluster.ear.owned(second.daemon_id) == set(range(PARTITIONS)))
    second.process.send_signal(signal.SIGSTOP)
    provider.release()
    await eventually(lambda: len([one for one in first.said if "outcome_spilled" in one]) == HELD)
    await cluster.left_by(first, signal.SIGKILL)
    await cluster.left_by(second, signal.SIGKILL)
    assert len(cluster.spilled()) == HELD
    held.forget()

    # Both may find what was spilled, and either may own what it is for.
    await cluster.joined_by(2)
    held.ask()

    await held.check()
    await eventually(lambda: cluster.spilled() == [])


@pytest.mark.parametrize("pause_s", [2.0, 8.0, pytest.param(30.0, marks=LONG)])
async def test_a_member_that_stands_still_loses_nothing_and_shows_nothing_old(
    cluster: Cluster, provider: FakeProvider, held: Held, pause_s: float
):
    first, second = await cluster.of(2)
    caller, shown = cluster.caller, cluster.id_of(first)
    await caller.connect(connection_id=shown)
    await held.by(first)
    callers = SteadyCallers(caller)
    await callers.prepare(connections=8)
    generation = 1
    async with callers.busy():
        with paused(first):
            ends_s = time.monotonic() + pause_s
            asked = asyncio.create_task(
                cluster.ask_alone(first, "get", shown, timeout_s=PATIENCE_S)
            )
            if pause_s > MEMBER_TIMEOUT_S:
                await eventually(lambda: cluster.ear.are_balanced([second.daemon_id]))
                body = {"credentials": CREDENTIALS}
                refreshed = await cluster.ask_alone(second, "refresh", shown, body)
                assert refreshed.code == "ok"
                generation = 2
                held.ask()
            await asyncio.sleep(ends_s - time.monotonic())
            provider.release()
        answer = await asked
        await cluster.balanced(within_s=10)

    # It may say that it cannot tell; what it must not is show what was true before.
    if answer.code not in ("DATABASE_ERROR", "TIMED_OUT"):
        assert answer.body["ok"]["generation"] == generation
    assert (await caller.get(shown))["generation"] == generation
    await held.check(may_be_told_to_repeat=True)
    await callers.check()
    # Whoever stood still takes nothing from those who did not.
    assert [line for line in second.said if "partition_lost" in line] == []
