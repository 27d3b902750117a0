"""Two daemons share one NATS account under two prefixes, and neither meets the other's."""

import json
import signal
from pathlib import Path

from tests.fakes.daemon_process import (
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.refreshd_command import refreshd

OTHER = {"REFRESHD_SERVICE_PREFIX": "acme.tokens"}


async def listed(url: str, folder: Path, **environment: str) -> list[str]:
    shown = await refreshd(
        "list", "-o", "json", "--nats", url, "--data-dir", str(folder), **environment
    )
    assert shown.code == 0, shown.stderr
    return [connection["connection_id"] for connection in json.loads(shown.stdout)]


async def told(url: str, folder: Path, **environment: str) -> set[str]:
    """Return whom the events are about."""
    shown = await refreshd(
        "events", "-o", "json", "--nats", url, "--data-dir", str(folder), **environment
    )
    assert shown.code == 0, shown.stderr
    return {json.loads(line)["subject"] for line in shown.stdout.splitlines()}


async def test_two_prefixes_live_in_one_account_and_see_nothing_of_each_other(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        theirs = PlainCaller(caller.client, prefix="acme.tokens")
        async with (
            daemon_process(one, "--nats", server.url) as first,
            daemon_process(other, "--nats", server.url, environment=OTHER) as second,
        ):
            mine = await caller.connect()
            foreign = await theirs.connect()
            # The same id under both: two connections.
            assert (await caller.ask(f"connection.{foreign}.get")).code == "CONNECTION_NOT_FOUND"
            shared = await theirs.connect(connection_id=mine, alias="theirs")
            assert shared == mine
            for _ in range(3):
                assert (await theirs.refresh(mine)).code == "ok"
            assert (await caller.get(mine))["generation"] == 1
            assert (await theirs.get(mine))["generation"] == 4
            await caller.events_caught_up()
            await theirs.events_caught_up()

            assert await listed(server.url, one) == [mine]
            assert sorted(await listed(server.url, other, **OTHER)) == sorted([mine, foreign])
            assert await told(server.url, one) == {mine}
            assert await told(server.url, other, **OTHER) == {mine, foreign}
            assert (await first.stop(), await second.stop(signal.SIGKILL)) == (0, -signal.SIGKILL)

        async with (
            daemon_process(one, "--nats", server.url) as first,
            daemon_process(other, "--nats", server.url, environment=OTHER) as second,
        ):
            assert "connections=1 " in first.said[-1]
            assert "connections=2 " in second.said[-1]
            assert (await caller.get(mine))["alias"] is None
            assert (await theirs.get(mine))["alias"] == "theirs"
            assert (await theirs.refresh(foreign)).code == "ok"
