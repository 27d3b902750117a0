"""Tokens are refreshed before anybody asks: nobody reads, and each connection has a fresh one."""

import contextlib
import signal
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks, Rotation
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import PlainCaller, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, write_config

pytestmark = pytest.mark.anyio
CONNECTIONS = 40
LIFETIME_S = 4


class Grants:
    """The connections of a test, and the provider's view of them."""

    def __init__(self, provider: FakeProvider) -> None:
        self.provider = provider
        self.issued: dict[str, Issued] = {}
        self.cut = 0
        """How many requests a kill cut off before they were read."""

    async def connect(self, caller: PlainCaller, *, lives_s: float = LIFETIME_S) -> None:
        """Connect one more."""
        connection_id, issued = await connect(caller, self.provider, lives_s=lives_s)
        self.issued[connection_id] = issued

    @property
    def rotations(self) -> list[int]:
        """How often each grant was refreshed."""
        grants = [self.provider.book.get(one.grant_id) for one in self.issued.values()]
        return [0 if grant is None else grant.generation for grant in grants]

    async def rotated(self, times: int) -> None:
        """Return when each was refreshed so often."""
        await eventually(lambda: min(self.rotations) >= times, within_s=120)

    async def ended(self) -> None:
        """Return when no access token lives any more."""
        grants = [self.provider.book.get(one.grant_id) for one in self.issued.values()]
        ends_s = [grant.expires_at for grant in grants if grant is not None]
        await eventually(lambda: max(ends_s) < self.provider.clock(), within_s=30)

    async def killed(self) -> None:
        """Know what the kill of a daemon has cut off."""
        await eventually(lambda: self.provider.stats.in_flight == 0, within_s=10)
        self.cut = self.provider.stats.calls - sum(self.rotations)

    async def all_fresh(self, caller: PlainCaller) -> None:
        """Check that each has a token that lives, and that no refresh token was wasted."""
        for connection_id in self.issued:
            await eventually(partial(_is_fresh, caller, connection_id), within_s=30)
        stats = self.provider.stats
        await eventually(lambda: stats.in_flight == 0, within_s=10)
        assert stats.calls - self.cut == sum(self.rotations)
        assert stats.concurrent_presentations == stats.families_revoked == 0


async def _is_fresh(caller: PlainCaller, connection_id: str) -> bool:
    connection = await caller.get(connection_id)
    ends_at = datetime.fromisoformat(connection["credentials"]["expires_at"])
    return connection["status"] == "active" and ends_at > datetime.now(UTC)


@contextlib.asynccontextmanager
async def _provider(rotation: Rotation = Rotation.STRICT) -> AsyncGenerator[FakeProvider]:
    quirks = Quirks(lifetime_s=LIFETIME_S, rotation=rotation, grace_answer="new")
    async with running_fake_provider(quirks=quirks) as provider:
        yield provider


@contextlib.asynccontextmanager
async def _running(
    folder: Path, config: Path, *, until: signal.Signals = signal.SIGTERM
) -> AsyncGenerator[PlainCaller]:
    """Run a daemon beside the body, and end it by a signal."""
    async with (
        daemon_process(folder / "data", "--config", str(config)) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        yield caller
        await daemon.stop(until)


async def test_with_nobody_reading_each_connection_is_refreshed_once_a_lifetime(tmp_path: Path):
    async with _provider() as provider:
        config = write_config(tmp_path, provider)
        grants = Grants(provider)
        async with _running(tmp_path, config) as caller:
            for _ in range(CONNECTIONS):
                await grants.connect(caller)

            await grants.rotated(3)

            await grants.all_fresh(caller)
            due = (await caller.ask("status")).body["ok"]["due"]
            assert due["next_minute"] == CONNECTIONS
            assert due["latest_s"] < LIFETIME_S
            assert max(grants.rotations) <= min(grants.rotations) + 2
            assert provider.stats.double_presentations == 0


async def test_a_daemon_that_is_killed_goes_on_where_it_was_and_wastes_no_refresh_token(
    tmp_path: Path,
):
    async with _provider(Rotation.GRACE) as provider:
        config = write_config(tmp_path, provider, timeout_s="1", reuse_policy='"grace:30"')
        grants = Grants(provider)
        async with _running(tmp_path, config, until=signal.SIGKILL) as caller:
            for _ in range(CONNECTIONS):
                await grants.connect(caller)
            await grants.rotated(1)
        await grants.killed()
        async with _running(tmp_path, config, until=signal.SIGKILL):
            await grants.rotated(2)
        await grants.killed()

        async with _running(tmp_path, config) as caller:
            await grants.rotated(3)

            await grants.all_fresh(caller)


async def test_what_came_due_during_a_stop_is_made_up_for_after_it(tmp_path: Path):
    async with _provider() as provider:
        config = write_config(tmp_path, provider)
        grants = Grants(provider)
        async with _running(tmp_path, config) as caller:
            for number in range(CONNECTIONS):
                await grants.connect(caller, lives_s=LIFETIME_S + number % 3)
        before = grants.rotations
        await grants.ended()
        assert grants.rotations == before

        async with _running(tmp_path, config) as caller:
            await grants.all_fresh(caller)

            assert min(grants.rotations) > min(before)


async def test_connections_that_were_left_to_their_callers_are_found_when_the_profile_changes(
    tmp_path: Path,
):
    async with _provider() as provider:
        config = write_config(tmp_path, provider, refresh='"on_demand"')
        grants = Grants(provider)
        async with _running(tmp_path, config) as caller:
            for _ in range(CONNECTIONS):
                await grants.connect(caller, lives_s=0.5)
            await grants.ended()
            assert sum(grants.rotations) == 0

        config = write_config(tmp_path, provider)
        async with _running(tmp_path, config) as caller:
            await grants.rotated(1)

            await grants.all_fresh(caller)
