"""What is due moves with its partition: refreshed in time whoever leaves or dies, and told once."""

import signal
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks, Rotation
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.cluster import Cluster, cluster_of
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect

CONNECTIONS = 24
LIFETIME_S = 4.0
"""Of an access token: half of them are due about while a member leaves or counts as gone."""
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
async def provider() -> AsyncGenerator[FakeProvider]:
    async with running_fake_provider(quirks=Quirks(lifetime_s=LIFETIME_S)) as running:
        yield running


@pytest.fixture(scope="module")
async def cluster(
    tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider
) -> AsyncGenerator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    async with cluster_of(folder, provider, timeout_s="1", reuse_policy='"grace:30"') as cluster:
        yield cluster


class Due:
    """Connections that nobody asks for, and the provider's view of them."""

    def __init__(self, cluster: Cluster, provider: FakeProvider, rotation: Rotation) -> None:
        provider.reset()
        provider.quirks.set({"lifetime_s": LIFETIME_S, "rotation": rotation, "grace_answer": "new"})
        self.cluster = cluster
        self.provider = provider
        self.issued: dict[str, Issued] = {}

    async def connect(self) -> None:
        ends_at = datetime.now(UTC) + timedelta(days=3)
        for _ in range(CONNECTIONS):
            one, issued = await connect(
                self.cluster.caller,
                self.provider,
                lives_s=LIFETIME_S,
                grant_expires_at=ends_at.isoformat(),
            )
            self.issued[one] = issued

    @property
    def rotations(self) -> list[int]:
        """How often each grant was refreshed."""
        grants = [self.provider.book.get(one.grant_id) for one in self.issued.values()]
        return [0 if grant is None else grant.generation for grant in grants]

    async def rotated(self, times: int) -> None:
        """Return when each was refreshed so often more."""
        before = self.rotations
        await eventually(
            lambda: all(
                now >= was + times for was, now in zip(before, self.rotations, strict=True)
            ),
            within_s=times * LIFETIME_S + 5,
        )

    async def check(self) -> None:
        """Check that all live, that none was refreshed needlessly, and what was told of them."""
        assert self.provider.stats.families_revoked == 0
        # Those of a killed member wait for its time-out, longer than a token lives here.
        assert max(self.rotations) - min(self.rotations) <= 3
        for one in self.issued:
            # The provider counts a refresh before its outcome is stored, and what is due next told.
            await eventually(partial(self._is_fresh_and_told, one))

    async def _is_fresh_and_told(self, one: str) -> bool:
        told = Counter(event["type"] for event in await self.cluster.caller.told(one))
        assert told["ProviderGrantExpiring"] <= 1
        connection = await self.cluster.caller.get(one)
        assert connection["status"] == "active"
        ends_at = datetime.fromisoformat(connection["credentials"]["expires_at"])
        return told["ProviderGrantExpiring"] == 1 and ends_at > datetime.now(UTC)


async def test_while_a_member_comes_and_another_leaves_each_is_refreshed_in_time_and_once(
    cluster: Cluster, provider: FakeProvider
):
    due = Due(cluster, provider, Rotation.STRICT)
    (first,) = await cluster.of(1)
    await due.connect()

    await cluster.joined_by(1)
    await due.rotated(1)
    await cluster.left_by(first)
    await due.rotated(1)

    await due.check()
    assert provider.stats.double_presentations == 0


async def test_while_a_member_is_killed_what_was_its_own_is_refreshed_by_the_others(
    cluster: Cluster, provider: FakeProvider
):
    # What a kill cuts off is presented again, within the provider's grace.
    due = Due(cluster, provider, Rotation.GRACE)
    first, _ = await cluster.of(2)
    await due.connect()
    await due.rotated(1)

    await cluster.left_by(first, signal.SIGKILL)
    await cluster.balanced(within_s=8)
    await due.rotated(1)

    await due.check()
    assert provider.stats.double_presentations <= CONNECTIONS // 4
