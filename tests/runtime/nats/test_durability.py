"""The operator is warned unless the server is known to sync each write."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime.nats.durability import Durable, warn_unless_durable
from tests.fakes.nats_process import nats_process

WARNING = "store_may_lose_acknowledged_writes"


async def told_about(monitoring_url: str | None) -> tuple[Durable, list[str]]:
    """Return the verdict, and what each warning says of the setting."""
    with capture_logs() as logs:
        is_durable = await warn_unless_durable(monitoring_url)
    assert all(entry["event"] == WARNING and entry["log_level"] == "warning" for entry in logs)
    return is_durable, [entry["sync_always"] for entry in logs]


@pytest.mark.parametrize("tail", ["", "/"])
async def test_a_server_that_syncs_each_write_is_fine(tmp_path: Path, tail: str):
    jetstream = {"store_dir": str(tmp_path), "sync_interval": "always"}

    async with nats_process(tmp_path, {"jetstream": jetstream}) as server:
        assert await told_about(server.monitoring_url + tail) == (True, [])


@pytest.mark.parametrize("sync", [{}, {"sync_interval": "10s"}])
async def test_a_server_that_syncs_now_and_then_is_warned_of(tmp_path: Path, sync: dict[str, str]):
    jetstream = {"store_dir": str(tmp_path), **sync}

    async with nats_process(tmp_path, {"jetstream": jetstream}) as server:
        assert await told_about(server.monitoring_url) == (False, ["no"])


async def test_a_server_without_jetstream_is_warned_of(tmp_path: Path):
    async with nats_process(tmp_path, {}) as server:
        assert await told_about(server.monitoring_url) == (False, ["no"])


async def test_not_knowing_is_warned_of_with_the_remedy():
    is_durable, [told] = await told_about(None)

    assert is_durable == "unknown"
    assert "set nats.monitoring_url" in told


async def test_the_port_for_clients_is_no_monitoring_address(tmp_path: Path):
    async with nats_process(tmp_path, {}) as server:
        url = server.login.url.replace("nats://", "http://")

        is_durable, [told] = await told_about(url)

    assert is_durable == "unknown"
    assert told.startswith("unknown")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:8222",
        "",
        "file:///etc/passwd",
        "http://127.0.0.1:port",
        "http://[",
        "http://a b/",
    ],
)
async def test_an_address_that_gives_nothing_is_warned_of_and_stops_nobody(url: str):
    is_durable, [told] = await told_about(url)

    assert is_durable == "unknown"
    assert told.startswith("unknown")
