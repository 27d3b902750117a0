"""Beyond its limits the daemon says so at once, answers each request once, and serves on."""

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import pytest
from nats.aio.msg import Msg

from tests.fakes.daemon_process import (
    CREDENTIALS,
    PlainCaller,
    daemon_process,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.plain_contract import events_of, stored, tell

REFRESH = json.dumps({"credentials": CREDENTIALS}).encode()


class Burst(NamedTuple):
    """All the answers to messages that were sent without waiting for any."""

    codes: Counter[str]
    refusals: list[Msg]
    slowest_refusal_s: float


async def burst(caller: PlainCaller, subjects: list[str], body: bytes = REFRESH) -> Burst:
    """Send one request to each subject, and return when each is answered; asserts: once."""
    inbox = caller.client.new_inbox()
    answers: list[list[Msg]] = [[] for _ in subjects]
    slowest_s = 0.0
    started_s = time.monotonic()

    async def note(message: Msg) -> None:
        nonlocal slowest_s
        answers[int(message.subject.rpartition(".")[2])].append(message)
        if b"OVERLOADED" in message.data:
            slowest_s = time.monotonic() - started_s

    subscription = await caller.client.subscribe(f"{inbox}.*", cb=note)
    for number, subject in enumerate(subjects):
        await caller.client.publish(f"refreshd.v1.{subject}", body, reply=f"{inbox}.{number}")
    await eventually(lambda: all(answers), within_s=10)
    await caller.client.request("$SRV.PING.refreshd", timeout=5)  # what were doubled is here too
    await subscription.unsubscribe()
    assert [len(given) for given in answers] == [1] * len(subjects)
    bodies = [json.loads(given[0].data) for given in answers]
    return Burst(
        Counter("ok" if "ok" in body else body["error"]["code"] for body in bodies),
        [given[0] for given in answers if b"OVERLOADED" in given[0].data],
        slowest_s,
    )


@contextlib.asynccontextmanager
async def limited(folder: Path, limit: str, most: int) -> AsyncGenerator[PlainCaller]:
    """Yield a caller of a daemon that has room for little in one respect."""
    environment = {f"REFRESHD_{limit}": str(most)}
    async with (
        daemon_process(folder, environment=environment) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        yield caller


@pytest.mark.parametrize(
    ("limit", "most", "connections"),
    [
        ("ACTORS_MAILBOX_COMMANDS_MAX", 8, 1),
        ("ACTORS_RESIDENT_ACTORS_MAX", 8, 60),
        ("SERVICE_LIMITS_COMMANDS_MAX", 32, 1),
        ("SERVICE_LIMITS_COMMANDS_MAX", 32, 60),
        ("SERVICE_LIMITS_BYTES_MAX", 4000, 60),
    ],
)
async def test_a_burst_is_taken_as_far_as_there_is_room_and_the_rest_refused_at_once(
    tmp_path: Path, limit: str, most: int, connections: int
):
    async with limited(tmp_path, limit, most) as caller:
        ids = [(await stored(caller)).id for _ in range(connections)]

        result = await burst(caller, [f"connection.{i}.refresh" for i in ids] * (900 // len(ids)))

        generations = [(await caller.get(i))["generation"] for i in ids]
        events = [len(await events_of(caller, i)) for i in ids]
        status = (await caller.ask("status")).body["ok"]

    assert set(result.codes) == {"ok", "OVERLOADED"}
    assert sum(generations) - connections == result.codes["ok"]
    assert events == [2 * generation for generation in generations]
    assert result.slowest_refusal_s < 3
    for message in result.refusals:
        error = json.loads(message.data)["error"]
        assert set(error) == {"code", "message", "retry_after_s"}
        assert error["retry_after_s"] > 0
        assert (message.headers or {})["Nats-Service-Error-Code"] == "429"
    assert status["commands_in_flight"] == 1, "the status itself"
    assert status["answers_dropped"] == status["nats_reconnects"] == 0


@pytest.mark.parametrize("endpoint", ["connections.list", "status"])
async def test_a_crowd_of_questions_is_taken_as_far_as_there_is_room_and_holds_up_no_refresh(
    tmp_path: Path, endpoint: str
):
    async with limited(tmp_path, "SERVICE_LIMITS_LISTS_MAX", 1) as caller:
        subject = await stored(caller)
        asking = asyncio.create_task(burst(caller, [endpoint] * 5000, b"{}"))

        refreshes = [await tell(caller, subject, "refresh") for _ in range(20)]

        result = await asking
        again = await caller.ask(endpoint)

    assert [answer.code for answer in refreshes] == ["ok"] * 20
    assert set(result.codes) == {"ok", "OVERLOADED"}
    assert result.codes["ok"] >= 5
    assert again.code == "ok"


async def test_commands_in_a_hurry_are_told_what_is_known_and_counted_once(tmp_path: Path):
    hurry = {"Refreshd-Timeout-Ms": "1"}
    async with daemon_process(tmp_path) as daemon, plain_caller(**daemon.context) as caller:
        subject = await stored(caller)

        answers = await asyncio.gather(
            *(tell(caller, subject, "refresh", headers=hurry) for _ in range(400)),
            *(tell(caller, subject, "refresh") for _ in range(40)),
        )

        generation = (await caller.get(subject.id))["generation"]
        events = await events_of(caller, subject.id)
        status = (await caller.ask("status")).body["ok"]

    codes = Counter(answer.code for answer in answers)
    assert set(codes) <= {"ok", "TIMED_OUT", "DATABASE_ERROR"}
    assert [answer.code for answer in answers[400:]] == ["ok"] * 40
    assert 1 + codes["ok"] <= generation <= 1 + codes["ok"] + codes["DATABASE_ERROR"]
    assert len(events) == 2 * generation
    assert status["troubles"].get("dropped", 0) == codes["TIMED_OUT"]


async def test_commands_that_lay_unread_while_the_daemon_stood_still_are_not_executed_late(
    tmp_path: Path,
):
    """Their callers have given up, and may have had them done by another daemon."""
    async with daemon_process(tmp_path) as daemon, plain_caller(**daemon.context) as caller:
        subject = await stored(caller)
        daemon.process.send_signal(signal.SIGSTOP)
        hurry = {"Refreshd-Timeout-Ms": "1000"}
        late = [
            asyncio.create_task(tell(caller, subject, "refresh", headers=hurry)) for _ in range(20)
        ]
        await asyncio.sleep(2.0)
        daemon.process.send_signal(signal.SIGCONT)
        codes = Counter([(await one).code for one in late])
        answer = await tell(caller, subject, "refresh")
        generation = (await caller.get(subject.id))["generation"]
        events = await events_of(caller, subject.id)
        status = (await caller.ask("status")).body["ok"]

    assert codes == {"TIMED_OUT": 20}
    assert (answer.code, generation, len(events)) == ("ok", 2, 4)
    assert status["troubles"]["dropped"] == 20
    assert any("stood_still" in line for line in daemon.said)
