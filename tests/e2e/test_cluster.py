"""Several daemons on one prefix: members come, leave and are killed, and callers go on."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator

import pytest

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.cluster import BALANCED_S, Cluster, cluster_of
from tests.fakes.daemon_process import PlainCaller
from tests.fakes.eventually import eventually
from tests.fakes.steady_callers import REFRESHED, SteadyCallers

MEMBER_TIMEOUT_S = 5.0
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
async def provider() -> AsyncGenerator[FakeProvider]:
    async with running_fake_provider() as running:
        yield running


@pytest.fixture(scope="module")
async def cluster(
    tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider
) -> AsyncGenerator[Cluster]:
    """Members that share server, configuration and data folder; each test says how many."""
    async with cluster_of(tmp_path_factory.mktemp("cluster"), provider) as cluster:
        yield cluster


@pytest.fixture
async def callers(cluster: Cluster, provider: FakeProvider) -> SteadyCallers:
    """Callers for connections of their own."""
    provider.quirks.clear()
    return SteadyCallers(cluster.caller, provider)


def say(text: str) -> None:
    """Show a figure to who runs the tests by hand (``-s``, ``-rP``)."""
    sys.stdout.write(f"{text}\n")


async def told_types(caller: PlainCaller, connection_id: str, events: int) -> list[str]:
    """Return what is told of a connection, when there are so many events at least."""
    types: list[str] = []

    async def are_told() -> bool:
        types[:] = [event["type"] for event in await caller.told(connection_id)]
        return len(types) >= events

    await eventually(are_told)
    return types


async def test_daemons_that_are_started_together_on_an_empty_server_are_one_cluster(
    cluster: Cluster,
):
    members = await cluster.of(3)

    connections = await asyncio.gather(*(cluster.caller.connect() for _ in range(12)))
    assert {cluster.owner_of(one).daemon_id for one in connections} <= {
        one.daemon_id for one in members
    }
    assert cluster.said("partition_lost") == []


async def test_members_that_come_get_their_share_and_nobody_sees_an_error(
    cluster: Cluster, callers: SteadyCallers
):
    await cluster.of(1)
    await callers.prepare(connections=12, grants=4)
    took_s: list[float] = []
    async with callers.busy():
        for _ in range(2):
            await cluster.joined_by(1)
            took_s.append(await cluster.balanced())

    say(f"balanced in {took_s} s, longest gap {callers.gap}")
    assert callers.errors == []
    assert callers.gap.took_s < 3
    await callers.check()


async def test_a_member_that_is_stopped_hands_over_and_nobody_sees_an_error(
    cluster: Cluster, callers: SteadyCallers
):
    members = await cluster.of(2)
    await callers.prepare(connections=12, grants=4)
    async with callers.busy():
        code = await cluster.left_by(members[0])
        took_s = await cluster.balanced()

    say(f"balanced in {took_s:.1f} s, longest gap {callers.gap}")
    assert code == 0
    assert callers.errors == []
    assert callers.gap.took_s < 3
    await callers.check()


async def test_all_members_are_replaced_one_by_one_and_nobody_sees_an_error(
    cluster: Cluster, callers: SteadyCallers
):
    members = await cluster.of(2)
    await callers.prepare(connections=12, grants=4)
    async with callers.busy():
        for one in members:
            await cluster.joined_by(1)
            assert await cluster.left_by(one) == 0
        await cluster.balanced()

    say(f"longest gap {callers.gap}")
    assert callers.errors == []
    assert callers.gap.took_s < 3
    await callers.check()


async def test_what_is_handed_over_is_done_once_by_who_has_its_partition_again(cluster: Cluster):
    await cluster.of(2)
    (third,) = await cluster.joined_by(1)
    await cluster.balanced()
    await cluster.left_by(third)
    await cluster.balanced()

    # Without a message id: whatever is done twice is told twice.
    ids = await asyncio.gather(*(cluster.caller.connect() for _ in range(24)))

    for one in ids:
        assert (await cluster.caller.refresh(one)).code == "ok"
        types = await told_types(cluster.caller, one, 4)
        assert types == ["ProviderConnectionAttempted", "ProviderConnectionSucceeded", *REFRESHED]


async def test_a_killed_member_s_partitions_have_owners_when_it_counts_as_gone(
    cluster: Cluster, callers: SteadyCallers
):
    members = await cluster.of(2)
    await callers.prepare(connections=12)
    async with callers.busy():
        await cluster.left_by(members[0], signal.SIGKILL)
        took_s = await cluster.balanced(within_s=MEMBER_TIMEOUT_S + BALANCED_S)

    say(f"balanced in {took_s:.1f} s, longest gap {callers.gap}, {callers.errors}")
    assert callers.gap.took_s < MEMBER_TIMEOUT_S + 5
    await callers.check()


async def test_what_cannot_be_handed_over_is_refused_and_holds_nothing_up(cluster: Cluster):
    await cluster.of(2)
    caller = cluster.caller
    connection_id = await caller.connect()

    large = {
        (await caller.ask(f"connection.{connection_id}.refresh", b" " * 900_000)).code
        for _ in range(8)
    }
    odd = {
        (await caller.ask(f"connection.{connection_id}.get", headers={"": "no name"})).code
        for _ in range(8)
    }

    assert large == {"TOO_LARGE"}
    assert odd == {"ok"}
    assert (await caller.refresh(connection_id)).code == "ok"
