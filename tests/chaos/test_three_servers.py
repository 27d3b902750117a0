"""On three nats-servers any one may be killed or stand still at any time, and callers go on."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from runtime.nats.link import LinkLimits, Login, open_link
from tests.chaos.scene import LENGTH, SEEDS, Scene, chaos_scene
from tests.fakes.eventually import eventually
from tests.fakes.nats_cluster import PASSWORD, USER, ClusterServer, NatsCluster
from tests.fakes.refreshd_command import refreshd
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS

pytestmark = [ABANDONS_SOCKETS, pytest.mark.timeout(300)]

LEDGER, BUCKET = "REFRESHD_LEDGER_fewer", "KV_refreshd_connections_fewer"
EVENTS = "REFRESHD_EVENTS_fewer"
CONNECTIONS, GRANTS = 20, 6


def scene_on(cluster: NatsCluster, folder: Path, prefix: str, **settings: object):
    """Return a scene whose streams have a replica on each server."""
    given: dict[str, Any] = {"nats_replicas": 3, "state_partitions": 2} | settings
    return chaos_scene(
        folder,
        cluster.url,
        caller_urls=cluster.urls,
        user=USER,
        password=PASSWORD,
        prefix=prefix,
        **given,
    )


async def victim_of(cluster: NatsCluster, which: str, dice: random.Random) -> ClusterServer:
    """Return the server that a fault is for."""
    match which:
        case "connected":
            return await cluster.connected("refreshd d-")
        case "anyone":
            return dice.choice(cluster.servers)
        case stream:
            return await cluster.leader_of(stream)


async def strike(scene: Scene, cluster: NatsCluster, fault: str, victim: ClusterServer) -> None:
    """Let a fault happen and callers go on without that server; then it comes back."""
    await strike_down(victim, fault)
    await scene.goes_on()
    await cluster.heal()


async def strike_down(victim: ClusterServer, fault: str) -> None:
    """Kill a server, or let it stand still."""
    if fault == "kill":
        await victim.kill()
    else:
        victim.pause()


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_server_may_be_killed_or_paused_while_credentials_rotate(
    cluster: NatsCluster, tmp_path: Path, seed: int
):
    dice, prefix = random.Random(seed), f"three.s{seed}"
    tag = prefix.replace(".", "--")
    faults = [
        ("kill", "connected"),
        ("pause", "connected"),
        ("kill", f"REFRESHD_LEDGER_{tag}_00"),
        ("pause", f"REFRESHD_LEDGER_{tag}_01"),
        ("kill", f"REFRESHD_EVENTS_{tag}"),
        ("pause", "anyone"),
    ]
    dice.shuffle(faults)
    del faults[2 * LENGTH :]
    async with scene_on(cluster, tmp_path, prefix) as scene, scene.daemon() as daemon:
        await scene.connect(connections=CONNECTIONS, grants=GRANTS)
        async with scene.under_load():
            await scene.goes_on()
            for fault, which in faults:
                victim = await victim_of(cluster, which, dice)
                await strike(scene, cluster, fault, victim)

        await scene.history.check(scene.caller)
        assert await daemon.stop() == 0


@pytest.mark.skipif(LENGTH == 1, reason="an election takes ten seconds: `make chaos` alone")
@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_a_daemon_that_starts_amid_an_election_waits_for_its_end(
    cluster: NatsCluster, tmp_path: Path, fault: str
):
    prefix = f"election.{fault}"
    async with scene_on(cluster, tmp_path, prefix) as scene:
        async with scene.daemon():
            await scene.connect(connections=CONNECTIONS, grants=0)
        victim = await cluster.leader_of(f"REFRESHD_LEDGER_election--{fault}_00")
        await strike_down(victim, fault)
        async with scene.daemon() as daemon:
            await cluster.heal()
            await scene.history.check(scene.caller)

            assert any("jetstream_does_not_answer" in line for line in daemon.said)


async def test_a_server_that_another_tells_of_lets_us_in_when_that_one_is_lost(
    cluster: NatsCluster,
):
    first, *_ = given = [url.replace("://", f"://{USER}:{PASSWORD}@") for url in cluster.urls]
    with capture_logs() as logs:
        async with open_link(Login(url=first), name="link", limits=LinkLimits()) as link:
            assert sorted(one.geturl() for one in link.client.servers) == sorted(given)

            await cluster.servers[0].kill()
            await eventually(lambda: link.is_connected and link.reconnects > 0)

    assert not [entry for entry in logs if "uthorization" in str(entry)]


async def test_status_names_the_streams_with_fewer_replicas_until_they_have_them(
    cluster: NatsCluster, tmp_path: Path
):
    async def fewer() -> object:
        return (await scene.caller.ask("status")).body["ok"]["streams_with_fewer_replicas"]

    async with scene_on(cluster, tmp_path, "fewer", nats_replicas=1) as scene, scene.daemon():
        await scene.is_heard()
        assert await fewer() == {}
    async with scene_on(cluster, tmp_path, "fewer") as scene, scene.daemon() as daemon:
        await scene.is_heard()
        names = {f"{kind}_0{n}" for kind in (LEDGER, BUCKET) for n in (0, 1)} | {EVENTS}
        assert await fewer() == dict.fromkeys(names, 1)
        shown = await refreshd("status", *scene.flags, "-o", "json", **scene.environment)
        assert json.loads(shown.stdout)["streams_with_fewer_replicas"] == await fewer()
        streams = scene.caller.client.jetstream()
        for name in names - {EVENTS}:
            config = (await streams.stream_info(name)).config
            await streams.update_stream(config.evolve(num_replicas=3))

        assert await fewer() == {EVENTS: 1}
        assert sum("replicas_differ" in line for line in daemon.said) == len(names)
