"""Daemons that do not hear of each other: each takes all, in turn, and nothing is lost by it."""

import asyncio
from pathlib import Path

import pytest

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.cluster import PARTITIONS, Cluster
from tests.fakes.daemon_process import plain_caller
from tests.fakes.nats_process import nats_process
from tests.fakes.steady_callers import SteadyCallers
from tests.fakes.token_daemon import write_config

IN_TURN_S = 12.0
pytestmark = pytest.mark.timeout(120)


async def test_each_believes_to_be_alone_and_callers_get_through(tmp_path: Path):
    deaf = {"subscribe": {"deny": ["refreshd_cluster.>"]}}
    users = [
        {"user": "daemon", "password": "pw", "permissions": deaf},
        {"user": "caller", "password": "pw"},
    ]
    settings = {
        "authorization": {"users": users},
        "jetstream": {"store_dir": str(tmp_path / "js"), "sync_interval": "always"},
    }
    (tmp_path / "password").write_text("pw")
    (tmp_path / "password").chmod(0o600)
    async with (
        running_fake_provider() as provider,
        nats_process(tmp_path, settings) as server,
        plain_caller(server.login.url, user="caller", password="pw") as caller,
        Cluster(
            tmp_path / "data",
            caller,
            *("--config", str(write_config(tmp_path, provider, timeout_s="2"))),
            *("--nats", server.login.url),
        ) as cluster,
    ):
        login = {
            "REFRESHD_NATS_USER": "daemon",
            "REFRESHD_NATS_PASSWORD_FILE": str(tmp_path / "password"),
            # Thrice as long each waits for its own heartbeat before it does without.
            "REFRESHD_CLUSTER_MEMBER_TIMEOUT_S": "2",
        }
        await cluster.joined_by(1, **login)
        callers = SteadyCallers(caller, provider)
        await callers.prepare(connections=8, grants=4)
        async with callers.busy():
            await cluster.joined_by(1, **login)
            await asyncio.sleep(IN_TURN_S)
        claims = [len(one) for one in cluster.ear.claims.values()]
        await cluster.left_by(cluster.members[1])
        # What a daemon has in memory may be old until it writes, or looks at its ledger.
        await callers.check(may_be_stale=True)

    # Each leaves the other one more and more time.
    assert len(claims) == PARTITIONS
    assert all(2 <= one <= IN_TURN_S + 4 for one in claims)
    assert callers.acknowledged.total() > len(callers.acknowledged)
