"""Daemon, server, network and disk fail under load, and what is acknowledged holds to the letter."""

import asyncio
import contextlib
import gc
import json
import random
import signal
import socket
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.chaos.scene import LENGTH, SEEDS, Scene, chaos_scene
from tests.fakes.daemon_process import DaemonProcess, ExternalNats, external_nats
from tests.fakes.eventually import eventually
from tests.fakes.small_disk import fill, small_disk
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS, TcpProxy, Weather, tcp_proxy

pytestmark = [
    *(ABANDONS_SOCKETS, pytest.mark.timeout(300)),
    # nats-py leaves a socket to the collector where it is closed while it connects again.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.parametrize("seed", SEEDS),
]
HASTY = {"timeout_s": "1"}
"""A provider's answer is waited for, and an intent open, for a second."""


@pytest.fixture(autouse=True)
def collected() -> Generator[None]:
    """Collect that socket here, where the warning is expected, and not in the next module."""
    yield
    gc.collect()


async def test_a_daemon_that_is_killed_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, seed: int
):
    dice = random.Random(seed)
    async with (
        external_nats(tmp_path) as server,
        chaos_scene(tmp_path, server.url, profile=HASTY) as scene,
        contextlib.AsyncExitStack() as last,
    ):
        async with scene.daemon():
            await scene.connect(connections=20, grants=6)
        async with scene.under_load():
            for _ in range(2 * LENGTH):
                async with scene.daemon() as daemon:
                    await scene.goes_on(times=dice.randrange(1, 4))
                    await daemon.stop(signal.SIGKILL)
            await last.enter_async_context(scene.daemon())
            await scene.goes_on()

        await scene.history.check(scene.caller, cuts_max=6)


async def test_a_daemon_that_stands_still_while_providers_answer_stores_what_they_said(
    tmp_path: Path, seed: int
):
    """For longer than it would have waited for them."""
    still_s = (2.0, 8.0, 30.0)[seed % 3 if LENGTH > 1 else 0]
    async with (
        external_nats(tmp_path) as server,
        chaos_scene(tmp_path, server.url, profile=HASTY) as scene,
        scene.daemon() as daemon,
    ):
        await scene.connect(connections=20, grants=12)
        async with scene.under_load():
            await scene.goes_on()
            scene.provider.quirks.set({"hang": "after"})
            await eventually(lambda: scene.provider.stats.hanging > 0)
            daemon.process.send_signal(signal.SIGSTOP)
            scene.provider.quirks.set({"hang": "no"})
            scene.provider.release()
            await asyncio.sleep(still_s)
            daemon.process.send_signal(signal.SIGCONT)
            await scene.goes_on()

        # One may have left the process unnoticed when it was stopped: it is not read on for.
        await scene.history.check(scene.caller, cuts_max=1)


async def blow(proxy: TcpProxy, daemon: DaemonProcess, fault: str, scene: Scene) -> None:
    """Let one fault of the network happen, and pass."""
    said = len(daemon.said)

    def is_noticed() -> bool:
        return any("nats_disconnected" in line for line in daemon.said[said:])

    match fault:
        case "cut":
            await proxy.cut()
        case "reset":
            await proxy.reset()
        case "delay":
            proxy.delay_s = 0.1
            await scene.goes_on(times=1)
            proxy.delay_s = 0.0
        case "refuse":
            proxy.weather = Weather.REFUSING
            await proxy.cut()
            await eventually(is_noticed)
        case "stall":
            proxy.weather = Weather.STALLING
            await eventually(is_noticed, within_s=30)
        case _:
            proxy.weather = Weather.SWALLOWING
            await eventually(is_noticed, within_s=30)
    proxy.weather = Weather.FAIR
    await scene.goes_on()


async def test_a_network_that_cuts_delays_and_swallows_loses_and_doubles_nothing(
    tmp_path: Path, seed: int
):
    faults = ["cut", "reset", "delay", "refuse", "stall", "black hole"]
    random.Random(seed).shuffle(faults)
    async with (
        external_nats(tmp_path) as server,
        tcp_proxy(server.url) as proxy,
        chaos_scene(tmp_path, proxy.url, caller_urls=[server.url]) as scene,
        scene.daemon() as daemon,
    ):
        await scene.connect(connections=20, grants=6)
        async with scene.under_load():
            for fault in faults[: 2 * LENGTH]:
                await blow(proxy, daemon, fault, scene)

        await scene.history.check(scene.caller)


async def test_a_server_that_is_killed_amid_a_burst_has_it_done_once_all_the_same(
    tmp_path: Path, seed: int
):
    dice = random.Random(seed)
    async with (
        external_nats(tmp_path) as server,
        chaos_scene(tmp_path, server.url) as scene,
        scene.daemon(),
    ):
        await scene.connect(connections=200, grants=0)
        history = scene.history
        for _ in range(2):
            wanted = history.acknowledged.total() + dice.randrange(1, 1000)
            async with asyncio.TaskGroup() as bursting:
                bursting.create_task(scene.burst(10))
                await eventually(lambda n=wanted: history.acknowledged.total() >= n, within_s=30)
                await server.stop(signal.SIGKILL)
                await server.start()

        await history.check(scene.caller)
        assert history.acknowledged.total() == 2 * 10 * 200


async def test_a_full_disk_under_load_loses_and_doubles_nothing(tmp_path: Path, seed: int):
    dice = random.Random(seed)
    with small_disk(tmp_path, "32m") as disk:
        async with (
            chaos_scene(
                disk, None, nats_free_bytes_min=256 * 1024, nats_write_silent_s=1.0
            ) as scene,
            scene.daemon() as daemon,
        ):
            await scene.connect(connections=20, grants=6)
            async with scene.under_load():
                for _ in range(LENGTH):
                    await scene.goes_on(times=dice.randrange(1, 4))
                    ballast = fill(disk)
                    await eventually(lambda: _is_unclear(daemon), within_s=30)
                    ballast.unlink()
                    daemon.said.clear()
                    await scene.goes_on()

            await scene.history.check(scene.caller)


def _is_unclear(daemon: DaemonProcess) -> bool:
    return any("append_unclear" in line for line in daemon.said)


async def test_twenty_thousand_commands_at_once_are_each_done_once(tmp_path: Path, seed: int):
    """An append's answer comes in behind all of them, which is no reason to refuse any."""
    async with (
        external_nats(tmp_path) as server,
        chaos_scene(tmp_path, server.url, actors_unclear_s=10.0) as scene,
        scene.daemon(),
    ):
        await scene.connect(connections=1250, grants=0)

        await scene.burst(16, timeout_s=60.0)

        await scene.history.check(scene.caller)
        assert scene.history.acknowledged.total() == 20_000


async def test_event_consumers_that_stand_still_hold_nobody_up(tmp_path: Path, seed: int):
    """One that reads nothing at all, and one that comes back for all that it has missed."""
    async with (
        external_nats(tmp_path) as server,
        chaos_scene(tmp_path, server.url) as scene,
        scene.daemon(),
    ):
        await scene.connect(connections=200, grants=6)
        stream = scene.caller.client.jetstream()
        worker = await stream.pull_subscribe("refreshd.v1.event.>", "worker")
        with never_reading(server, "refreshd.v1.event.>"):
            await scene.burst(5)
            async with scene.under_load():
                await scene.goes_on(times=10)

        await scene.history.check(scene.caller)
        stories = (await scene.caller.stories()).values()
        told = [event["id"] for story in stories for event in story]
        heard: list[str] = []
        while len(heard) < len(told):
            messages = await worker.fetch(500, timeout=10)
            heard += [json.loads(message.data)["id"] for message in messages]
            for message in messages:
                await message.ack()
        assert sorted(heard) == sorted(told)


@contextlib.contextmanager
def never_reading(server: ExternalNats, subject: str) -> Generator[None]:
    """Subscribe, and let everything that comes lie."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(f"CONNECT {{}}\r\nSUB {subject} 1\r\n".encode())
        yield
