"""The server ends and comes back while a group is being stored: it is stored once, and in order."""

import signal
from pathlib import Path

import anyio
import pytest

from runtime.ledger.groups import decode_group
from runtime.ledger.streams import ensure_streams
from runtime.nats.link import Login, open_link
from runtime.world import Uuid7Ids
from tests.fakes.connections import active
from tests.fakes.daemon_process import external_nats
from tests.fakes.faulty_streams import Fate
from tests.fakes.ledger_worlds import (
    RealWorld,
    caught_up,
    followed,
    store_refreshes,
    taken,
)
from tests.fakes.stream_settings import settings_of

SETTINGS = settings_of(1, event_duplicate_window_s=1)
ids = Uuid7Ids()


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("fates", [[], [Fate.ANSWER_LOST], [Fate.REQUEST_LOST, Fate.ANSWER_LOST]])
async def test_a_group_that_a_restart_cuts_off_is_stored_once(
    stop: signal.Signals, fates: list[Fate], tmp_path: Path
):
    one = next(ids)
    async with (
        external_nats(tmp_path) as server,
        open_link(Login(url=server.url), name="test") as link,
    ):
        await ensure_streams(link, SETTINGS)
        world = RealWorld(link, 0)
        streams = world.streams()
        ledger = await taken(streams)
        await store_refreshes(ledger, one, first=1, last=5)

        async def restart() -> None:
            await server.stop(stop)
            await server.start()

        streams.append_fates.extend(fates)
        streams.before_append = restart
        async with followed(ledger):
            with anyio.fail_after(20):
                await store_refreshes(ledger, one, first=6, last=10)
                await caught_up(ledger)

        groups = [decode_group(found.data) async for found in streams.tail(1)]
        assert [len(group.entries) for group in groups] == [0, *([1] * 10)]
        types = [event["type"] for event in await world.events(one)]
        assert types == ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"] * 10
        assert (await ledger.read(one)).connection == active(one, generation=10)
