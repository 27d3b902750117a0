"""Any member of a cluster lists all connections, and tells how the whole cluster is."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.daemon_process import (
    DaemonProcess,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.refreshd_command import refreshd

PARTITIONS = 4
# Buckets and events lag as far as they can: nothing is there by chance.
LAZY = {
    "REFRESHD_STATE_LIMITS_CHECKPOINT_S": "3600",
    "REFRESHD_STATE_LIMITS_EVENTS_GATHER_S": "0.5",
}


@contextlib.asynccontextmanager
async def two_daemons(
    folder: Path, **environment: str
) -> AsyncGenerator[tuple[DaemonProcess, DaemonProcess, PlainCaller]]:
    """Yield two members that own two partitions each, and a caller."""
    settings = LAZY | environment
    keys = {"REFRESHD_KEYS_FILE": str(folder / "one" / "keyring.json")}
    async with (
        external_nats(folder) as server,
        plain_caller(server.url) as caller,
        daemon_process(folder / "one", "--nats", server.url, environment=settings) as one,
        daemon_process(folder / "two", "--nats", server.url, environment=settings | keys) as two,
    ):
        await balanced(caller, shares=[2, 2])
        yield one, two, caller


async def status(caller: PlainCaller) -> dict[str, Any]:
    """Return what some member says; what one got before it was killed is asked again."""
    while True:
        with contextlib.suppress(TimeoutError):
            answer = await caller.ask("status", timeout_s=3)
            assert answer.code == "ok", answer
            return answer.body["ok"]


async def balanced(caller: PlainCaller, *, shares: list[int]) -> None:
    """Return when each member owns so many partitions."""
    async with asyncio.timeout(15):
        while True:
            members = (await status(caller))["cluster"]["members"]
            if sorted(len(one["partitions"]) for one in members) == shares:
                return
            await asyncio.sleep(0.05)


async def from_each(caller: PlainCaller, daemons: set[str]) -> dict[str, dict[str, Any]]:
    """Return what each daemon says, whom the queue group asks at random."""
    said: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(15):
        while said.keys() != daemons:
            one = await status(caller)
            said[one["daemon"]] = one
    return said


async def listed(caller: PlainCaller, **query: object) -> dict[str, dict[str, Any]]:
    """Follow the cursors, each page from whoever it may be, to the end."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        answer = await caller.ask("connections.list", {**query, "cursor": cursor})
        assert answer.code == "ok", answer
        found |= {one["id"]: one for one in answer.body["ok"]["connections"]}
        cursor = answer.body["ok"]["cursor"]
        if cursor is None:
            return found


async def test_a_listing_shows_what_was_acknowledged_before_whoever_owns_the_partition(
    tmp_path: Path,
):
    async with two_daemons(tmp_path) as (_, _, caller):
        for number in range(1, 9):
            ids = [await caller.connect() for _ in range(4)]
            for one in ids[:2]:
                assert (await caller.refresh(one)).code == "ok"

            found = await listed(caller, limit=7)

            assert len(found) == 4 * number
            assert [found[one]["generation"] for one in ids] == [2, 2, 1, 1]


async def test_a_listing_shows_what_was_acknowledged_before_while_partitions_move(
    tmp_path: Path,
):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with (
        external_nats(tmp_path) as server,
        plain_caller(server.url) as caller,
        daemon_process(tmp_path / "one", "--nats", server.url, environment=LAZY),
    ):
        ids: list[str] = []
        refreshed: set[str] = set()
        listings, enough = 0, -1
        is_over, is_enough = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            while not is_over.is_set():
                ids.append(await caller.connect())
                answer = await caller.refresh(ids[-1])
                assert answer.code == "ok", answer
                refreshed.add(ids[-1])

        async def look() -> None:
            nonlocal listings
            while not is_over.is_set():
                before = set(refreshed)
                found = await listed(caller, limit=1000)
                assert {one for one in before if found[one]["generation"] < 2} == set()
                listings += 1
                if listings == enough:
                    is_enough.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work())
            tasks.create_task(look())
            two = daemon_process(tmp_path / "two", "--nats", server.url, environment=LAZY | keys)
            async with two as second:
                await balanced(caller, shares=[2, 2])
                seen = listings
                await second.stop()
            await balanced(caller, shares=[4])
            enough = listings + 2
            await is_enough.wait()
            is_over.set()

    assert seen > 0


async def test_a_partition_whose_owner_is_silent_is_waited_for_and_then_a_database_error(
    tmp_path: Path,
):
    patience = {"REFRESHD_CLUSTER_MEMBER_TIMEOUT_S": "60"}
    async with two_daemons(tmp_path, **patience) as (_, two, caller):
        ids = {await caller.connect() for _ in range(12)}
        two.process.send_signal(signal.SIGSTOP)

        async with asyncio.timeout(30):
            cursor: str | None = None
            while True:
                # The queue group may choose the one that is stopped: that one says nothing.
                with contextlib.suppress(TimeoutError):
                    answer = await caller.ask(
                        "connections.list",
                        {"limit": 1000, "cursor": cursor},
                        headers={"Refreshd-Timeout-Ms": "600"},
                        timeout_s=1,
                    )
                    if answer.code != "ok":
                        break
                    # A page that got somewhere says where to go on.
                    cursor = answer.body["ok"]["cursor"]
                    assert cursor is not None
        two.process.send_signal(signal.SIGCONT)
        found = await listed(caller)

    assert answer.code == "DATABASE_ERROR"
    assert answer.body["error"]["retry_after_s"] == 1.0
    assert found.keys() == ids


async def test_every_member_tells_the_same_of_the_whole_cluster(tmp_path: Path):
    async with two_daemons(tmp_path) as (_, _, caller):
        ids = [await caller.connect() for _ in range(20)]
        for one in ids[:5]:
            assert (await caller.ask(f"connection.{one}.expire", {})).code == "ok"
        await caller.by_status()
        await caller.events_caught_up()
        members = (await status(caller))["cluster"]["members"]

        said = await from_each(caller, {one["daemon"] for one in members})

    for one in said.values():
        assert one["connections"] == 20
        assert one["connections_by_status"]["active"] == 15
        assert one["connections_by_status"]["expired"] == 5
        assert one["connections_without_profile"] == {"schwab": 15}
        assert one["ledger"]["events_lacking"] == 0
        assert one["due"]["next_minute"] == 0
        assert one["ledger"]["partitions"] == one["cluster"]["partitions"]
        members = {each["daemon"]: each for each in one["cluster"]["members"]}
        assert members.keys() == said.keys()
        assert [each["partition"] for each in one["cluster"]["partitions"]] == [0, 1, 2, 3]
        for each in one["cluster"]["partitions"]:
            assert each["events_lag"] == 0
            assert each["troubles"] == {}
            owner = members[each["owner"]]
            assert owner["partitions"][str(each["partition"])] == each["claim_seq"]
        for each in members.values():
            assert each["heard_s"] <= 1.5
            assert each["is_leaving"] is False
            assert each["version"] == one["version"]


async def test_events_are_not_said_to_have_caught_up_before_they_have(tmp_path: Path):
    async with two_daemons(tmp_path) as (_, _, caller):
        for number in range(1, 7):
            for _ in range(8):
                await caller.connect()

            stories = await caller.stories()

            assert len(stories) == 8 * number
            for story in stories.values():
                assert [one["type"] for one in story] == [
                    "ProviderConnectionAttempted",
                    "ProviderConnectionSucceeded",
                ]


async def test_a_member_that_is_stopped_is_told_with_how_long_ago_it_was_heard(tmp_path: Path):
    patience = {"REFRESHD_CLUSTER_MEMBER_TIMEOUT_S": "60"}
    async with two_daemons(tmp_path, **patience) as (_, two, caller):
        two.process.send_signal(signal.SIGSTOP)

        heard_s: list[float] = []
        async with asyncio.timeout(20):
            while not heard_s or heard_s[-1] <= 1.0:
                # The queue group may choose the one that is stopped: that one says nothing.
                with contextlib.suppress(TimeoutError):
                    answer = await caller.ask("status", timeout_s=1)
                    members = answer.body["ok"]["cluster"]["members"]
                    heard_s = [one["heard_s"] for one in members]
        two.process.send_signal(signal.SIGCONT)

    assert len(heard_s) == 2
    assert heard_s[0] == 0


@pytest.mark.parametrize("output", ["table", "json"])
async def test_refreshd_status_shows_members_and_partitions(tmp_path: Path, output: str):
    async with two_daemons(tmp_path) as (one, _, caller):
        daemons = {each["daemon"] for each in (await status(caller))["cluster"]["members"]}
        assert caller.client.connected_url is not None

        shown = await refreshd(
            *("status", "-o", output, "--data-dir", str(one.data_dir)),
            *("--nats", caller.client.connected_url.geturl()),
            COLUMNS="80",
        )

    assert shown.code == 0, shown.stderr
    if output == "json":
        said = json.loads(shown.stdout)
        assert {each["daemon"] for each in said["cluster"]["members"]} == daemons
        return
    assert max(map(len, shown.stdout.splitlines())) <= 80
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert {row[0] for row in rows if row and row[0].startswith("d-")} == daemons
    partitions = {row[0]: row[1] for row in rows if len(row) > 1 and row[1].startswith("d-")}
    assert partitions.keys() >= {"0", "1", "2", "3"}
    assert set(partitions.values()) >= daemons
