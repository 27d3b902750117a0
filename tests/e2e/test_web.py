"""Health and metrics of a daemon: what they say is so, and asking costs the commands nothing."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.fake_provider.grants import RevocationCause
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from runtime.web.metrics import METRICS
from tests.fakes.daemon_process import (
    DaemonProcess,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import connect, token, write_config

pytestmark = pytest.mark.anyio
ANYWHERE = {"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
MADE_BY_TROUBLE = {"circuits", "troubles"}
"""Metrics that have no sample before there is something to tell."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scene(NamedTuple):
    daemon: DaemonProcess
    caller: PlainCaller
    provider: FakeProvider
    web: httpx2.AsyncClient

    async def metrics(self) -> Samples:
        """Return all of them, by Prometheus's own parser."""
        answer = await self.web.get("/metrics")
        assert answer.status_code == 200
        return {
            (sample.name.removeprefix("refreshd_"), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float | None:
        return (await self.metrics()).get((name, frozenset(labels.items())))

    async def becomes(self, value: float, name: str, **labels: str) -> None:
        """Return when a metric has a value; they are a second old at most."""
        async with asyncio.timeout(20):
            while await self.metric(name, **labels) != value:
                pass


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    folder = tmp_path_factory.mktemp("web")
    async with running_fake_provider() as provider:
        config = write_config(folder, provider)
        async with (
            daemon_process(
                folder / "data", "--config", str(config), environment=ANYWHERE
            ) as daemon,
            plain_caller(**daemon.context) as caller,
            httpx2.AsyncClient(base_url=daemon.http) as web,
        ):
            yield Scene(daemon, caller, provider, web)


async def test_a_daemon_that_is_in_order_lives_and_is_ready(scene: Scene) -> None:
    lives, ready = await scene.web.get("/livez"), await scene.web.get("/readyz")
    verbose = await scene.web.get("/readyz?verbose")

    assert (lives.status_code, lives.text) == (ready.status_code, ready.text) == (200, "ok\n")
    lines = verbose.text.splitlines()
    assert [line.partition(" ")[0] for line in lines[:-1]] == [
        f"[+]{name}" for name in ("commands", "nats", "ledger", "views", "keys", "disk")
    ]
    assert lines[-1] == "readyz check passed"
    assert max(map(len, lines)) <= 80


async def test_what_is_done_is_counted(scene: Scene) -> None:
    before = await scene.metrics()
    good, _ = await connect(scene.caller, scene.provider)
    bad, issued = await connect(scene.caller, scene.provider)
    grant = scene.provider.book.get(issued.grant_id)
    assert grant is not None
    scene.provider.book.revoke(grant, RevocationCause.ADMIN)

    assert (await token(scene.caller, good)).code == "ok"
    assert (await token(scene.caller, bad)).code == "REAUTH_REQUIRED"

    def more(name: str, by: float, **labels: str) -> tuple[float, str, dict[str, str]]:
        return before[name, frozenset(labels.items())] + by, name, labels

    for value, name, labels in (
        more("commands_total", 2, verb="connect", outcome="ok"),
        more("commands_total", 1, verb="token", outcome="ok"),
        more("refreshes_total", 1, provider="fake", outcome="succeeded"),
        more("refreshes_total", 1, provider="fake", outcome="user"),
        more("needs_reauth_total", 1, provider="fake"),
        more("connections", 1, provider="fake", status="active"),
        more("connections", 1, provider="fake", status="expired"),
        more("grants_needing_reauth", 1, provider="fake"),
    ):
        await scene.becomes(value, name, **labels)
    now = await scene.metrics()
    reauth = frozenset({("verb", "token"), ("outcome", "REAUTH_REQUIRED")})
    assert now["commands_total", reauth] == 1
    life = frozenset({("provider", "fake"), ("le", "0.0")})
    assert now["refresh_life_left_seconds_bucket", life] == 2
    assert now["ready", frozenset()] == 1


async def test_every_metric_that_is_described_is_there_and_no_other(scene: Scene) -> None:
    connection_id, _ = await connect(scene.caller, scene.provider)
    assert (await token(scene.caller, connection_id)).code == "ok"
    await scene.becomes(4, "partitions")
    told = {name for name, _ in await scene.metrics() if not name.startswith("process_")}

    expected: set[str] = set()
    for kind, name, _, _ in METRICS:
        if kind == "histogram":
            expected |= {f"{name}_{end}" for end in ("bucket", "count", "sum")}
        elif name not in MADE_BY_TROUBLE:
            expected.add(f"{name}_total" if kind == "counter" else name)

    assert told - {"troubles_total", "circuits"} == expected


async def test_a_page_of_another_site_cannot_read_it_by_a_name_of_its_own(scene: Scene) -> None:
    for path in ("/metrics", "/readyz?verbose", "/livez"):
        answer = await scene.web.get(path, headers={"host": "evil.example"})
        assert answer.status_code == 400

    assert (await scene.web.get("/nothing")).status_code == 404
    assert (await scene.web.post("/metrics")).status_code == 405


async def test_a_flood_of_requests_leaves_commands_their_time(scene: Scene) -> None:
    connection_id, _ = await connect(scene.caller, scene.provider, lives_s=3600)

    async def flood() -> None:
        while True:
            with contextlib.suppress(httpx2.TransportError):
                await scene.web.get("/metrics")

    floods = [asyncio.create_task(flood()) for _ in range(20)]
    try:
        answers = [await token(scene.caller, connection_id) for _ in range(200)]
    finally:
        for one in floods:
            one.cancel()
        await asyncio.gather(*floods, return_exceptions=True)

    assert {answer.code for answer in answers} == {"ok"}


async def test_it_lives_but_is_not_ready_while_nats_is_away(tmp_path: Path) -> None:
    async with external_nats(tmp_path) as server:
        nowhere = ("--nats", server.url)
        async with (
            daemon_process(tmp_path / "data", *nowhere, environment=ANYWHERE) as daemon,
            httpx2.AsyncClient(base_url=daemon.http) as web,
        ):
            assert (await web.get("/readyz")).status_code == 200
            await server.stop(signal.SIGKILL)

            async def is_not_ready() -> bool:
                return (await web.get("/readyz")).status_code == 503

            await eventually(is_not_ready)
            assert "[-]nats failed: not connected" in (await web.get("/readyz")).text
            assert (await web.get("/livez")).status_code == 200
            assert "refreshd_ready 0.0" in (await web.get("/metrics")).text


async def test_a_port_that_is_taken_stops_only_who_was_told_to_listen_there(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        there = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = await refreshd("serve", "--data-dir", str(tmp_path), REFRESHD_HTTP_LISTEN=there)

    assert refused.code == 2
    assert f"http.listen: {there} cannot be listened on" in refused.stderr


async def test_two_daemons_of_one_machine_start_and_one_of_them_has_the_usual_port(
    tmp_path: Path,
) -> None:
    async with (
        daemon_process(tmp_path / "one") as one,
        daemon_process(tmp_path / "two") as two,
        daemon_process(tmp_path / "three", environment={"REFRESHD_HTTP_LISTEN": ""}) as three,
    ):
        at = [daemon.ready_line["http"] for daemon in (one, two, three)]

    # Another program may have it, and then neither of the two does.
    assert sorted(at[:2]) in (["127.0.0.1:9377", "off"], ["off", "off"])
    assert at[2] == "off"
    for daemon, where in zip((one, two), at, strict=False):
        told = [json.loads(line) for line in daemon.said if line.startswith("{")]
        off = [line for line in told if line["event"] == "http_off"]
        assert bool(off) == (where == "off")
        assert all(line["level"] == "warning" and "[http] listen" in line["remedy"] for line in off)


async def test_while_it_starts_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    with socket.socket() as silent, socket.socket() as free:
        for one in (silent, free):
            one.bind(("127.0.0.1", 0))
        silent.listen()
        nats, there = (f"127.0.0.1:{one.getsockname()[1]}" for one in (silent, free))
        free.close()
        starting = asyncio.create_task(
            refreshd(
                *("serve", "--data-dir", str(tmp_path), "--nats", f"nats://{nats}"),
                REFRESHD_HTTP_LISTEN=there,
                REFRESHD_NATS_LINK_CONNECT_TIMEOUT_S="2",
            )
        )
        async with httpx2.AsyncClient(base_url=f"http://{there}") as web:

            async def answers() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    return (await web.get("/livez")).text == "ok\n"
                return False

            await eventually(answers)
            ready, page = await web.get("/readyz"), await web.get("/")
        ended = await starting

    assert (ready.status_code, page.status_code) == (503, 503)
    assert ready.text == "[-]start failed: the daemon has not started yet\nreadyz check failed\n"
    assert "The daemon is starting." in page.text
    assert ended.code == 69


async def test_while_it_stops_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with running_fake_provider() as provider:
        provider.quirks.set({"delay_before_s": 2.0})
        config = write_config(tmp_path, provider)
        async with (
            daemon_process(
                tmp_path / "data", "--config", str(config), environment=ANYWHERE
            ) as daemon,
            plain_caller(**daemon.context) as caller,
            httpx2.AsyncClient(base_url=daemon.http) as web,
        ):
            connection_id, _ = await connect(caller, provider)
            asked = asyncio.create_task(token(caller, connection_id))
            await eventually(lambda: provider.stats.calls == 1)
            stopping = asyncio.create_task(daemon.stop())

            async def is_not_ready() -> bool:
                return "[-]commands failed: it is stopping" in (await web.get("/readyz")).text

            await eventually(is_not_ready)
            assert (await web.get("/livez")).text == "ok\n"
            assert (await asked).code == "ok"
            assert await stopping == 0
