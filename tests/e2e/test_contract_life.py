"""What was answered outlives the daemon, however it ends; and NATS tells who serves what."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from tests.fakes.daemon_process import PlainCaller, daemon_process, plain_caller
from tests.fakes.plain_contract import (
    STATUSES,
    VERBS,
    events_of,
    is_refused,
    nobody,
    stored,
    tell,
)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_keeps_every_connection_and_goes_on_counting(
    tmp_path: Path, end: signal.Signals
):
    async with daemon_process(tmp_path) as first, plain_caller(**first.context) as caller:
        subjects = [await stored(caller, status) for status in STATUSES]
        active = subjects[1]
        await asyncio.gather(*(tell(caller, active, "refresh") for _ in range(30)))
        before = [await caller.get(subject.id) for subject in subjects]
        events = await events_of(caller, active.id)
        await first.stop(end)
    async with daemon_process(tmp_path) as second, plain_caller(**second.context) as caller:
        after = [await caller.get(subject.id) for subject in subjects]
        refreshed = await tell(caller, active, "refresh")
        disconnected = await tell(caller, subjects[-1], "connect")
        got = await caller.get(active.id)
        events_after = await events_of(caller, active.id)

    assert after == before
    assert refreshed.body == {"ok": None}
    assert is_refused(disconnected, "INVALID_TRANSITION")
    assert got["generation"] == 32
    assert events_after[:-2] == events
    assert [event.step for event in events_after[-2:]] == [
        "token_refresh.attempted",
        "token_refresh.succeeded",
    ]
    assert second.context == first.context
    assert any(line.startswith("ready ") and " connections=6 " in line for line in second.said)


async def test_status_counts_the_connections_of_each_status_through_changes_and_kills(
    tmp_path: Path,
):
    async with daemon_process(tmp_path) as first, plain_caller(**first.context) as caller:
        empty = await caller.by_status()
        subjects = [await stored(caller, status) for status in STATUSES for _ in range(2)]
        two_each = await caller.by_status()
        answers = await asyncio.gather(
            tell(caller, subjects[0], "fail"),
            tell(caller, subjects[2], "expire"),
            *(tell(caller, subject, "refresh") for subject in subjects for _ in range(5)),
            tell(caller, subjects[1], "connect"),
            tell(caller, subjects[1], "disconnect"),
        )
        changed = await caller.by_status()
        await first.stop(signal.SIGKILL)
    async with daemon_process(tmp_path) as second, plain_caller(**second.context) as caller:
        again = await caller.by_status()
        await tell(caller, subjects[3], "revoke")
        revoked = await caller.by_status()

    assert empty == dict.fromkeys(STATUSES, 0)
    assert two_each == dict.fromkeys(STATUSES, 2)
    assert {answers[0].code, answers[1].code, answers[-1].code} == {"ok"}
    expected = two_each | {"pending": 0, "active": 1, "expired": 3, "failed": 3, "disconnected": 3}
    assert changed == again == expected
    assert revoked == expected | {"active": 0, "revoked": 3}


async def test_killed_in_the_middle_it_has_lost_nothing_that_it_acknowledged(tmp_path: Path):
    acknowledged = 0
    async with daemon_process(tmp_path) as first, plain_caller(**first.context) as caller:
        subject = await stored(caller)

        async def refresh_until_killed() -> None:
            nonlocal acknowledged
            while first.process.returncode is None:
                try:
                    answer = await tell(caller, subject, "refresh", timeout_s=0.5)
                except (nats.errors.Error, OSError, TimeoutError):
                    # The server is gone with the daemon.
                    return
                acknowledged += answer.code == "ok"
                if acknowledged == 100:
                    first.process.kill()

        await asyncio.gather(*(refresh_until_killed() for _ in range(16)))
        await first.stop(signal.SIGKILL)
    async with daemon_process(tmp_path) as second, plain_caller(**second.context) as caller:
        generation = (await caller.get(subject.id))["generation"]
        answer = await tell(caller, subject, "refresh")

    assert acknowledged >= 100
    assert generation >= 1 + acknowledged
    assert answer.body == {"ok": None}


async def discovered(caller: PlainCaller, verb: str) -> dict[str, Any]:
    answer = await caller.client.request(f"$SRV.{verb}.refreshd", b"", timeout=5)
    return json.loads(answer.data)


async def test_nats_service_discovery_tells_the_endpoints_and_their_queue_group(
    caller: PlainCaller,
):
    info = await discovered(caller, "INFO")
    ping = await discovered(caller, "PING")

    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["name"] == ping["name"] == "refreshd"
    assert info["id"] == ping["id"]
    endpoints = {endpoint["subject"]: endpoint for endpoint in info["endpoints"]}
    assert set(endpoints) >= {
        "refreshd.v1.connect",
        "refreshd.v1.connections.list",
        *(f"refreshd.v1.connection.*.{verb}" for verb in VERBS),
    }
    assert {endpoint["queue_group"] for endpoint in info["endpoints"]} == {"refreshd"}


async def test_the_statistics_count_requests_and_refusals(caller: PlainCaller):
    async def refreshes() -> dict[str, Any]:
        stats = await discovered(caller, "STATS")
        subject = "refreshd.v1.connection.*.refresh"
        return next(e for e in stats["endpoints"] if e["subject"] == subject)

    before = await refreshes()
    for _ in range(3):
        await tell(caller, nobody(), "refresh")
    await tell(caller, await stored(caller), "refresh")
    after = await refreshes()

    assert after["num_requests"] - before["num_requests"] == 4
    assert after["num_errors"] - before["num_errors"] == 3
    assert after["last_error"] == "CONNECTION_NOT_FOUND"
    assert after["processing_time"] > before["processing_time"]
