"""Each step is an event of section 4 in the stream REFRESHD_EVENTS, exact, and in order."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.fakes.daemon_process import DaemonProcess, PlainCaller
from tests.fakes.plain_contract import (
    StoredEvent,
    Subject,
    events_of,
    is_refused,
    nobody,
    stored,
    tell,
)

TYPES = {
    ("connection", "attempted"): "ProviderConnectionAttempted",
    ("connection", "succeeded"): "ProviderConnectionSucceeded",
    ("connection", "failed"): "ProviderConnectionFailed",
    ("disconnection", "attempted"): "ProviderDisconnectionAttempted",
    ("disconnection", "succeeded"): "ProviderDisconnectionSucceeded",
    ("disconnection", "failed"): "ProviderDisconnectionFailed",
    ("token_refresh", "attempted"): "ProviderTokenRefreshAttempted",
    ("token_refresh", "succeeded"): "ProviderTokenRefreshSucceeded",
    ("token_refresh", "failed"): "ProviderTokenRefreshFailed",
    ("status", "changed"): "ProviderConnectionStatusChanged",
}
REFRESHED = ["token_refresh.attempted", "token_refresh.succeeded"]
CONNECTED = ["connection.attempted", "connection.succeeded"]


def is_exact(event: StoredEvent, subject: Subject, step: str, **extra: object) -> bool:
    """Assert that all of an event but its id, time and source is this."""
    workflow, outcome = step.split(".")
    assert event.subject == (
        f"refreshd.v1.event.{subject.provider_slug}.{subject.id}.{workflow}.{outcome}"
    )
    event_id = UUID(event.body["id"])
    assert event_id.version == 7
    assert event.headers["Nats-Msg-Id"] == event.body["id"] == str(event_id)
    assert event.body == {
        "specversion": "1.0",
        "id": event.body["id"],
        "source": event.body["source"],
        "type": TYPES[workflow, outcome],
        "subject": subject.id,
        "time": event.body["time"],
        "datacontenttype": "application/json",
        "data": subject.event_data() | extra,
    }
    at = datetime.fromisoformat(event.body["time"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    return True


async def test_the_workflows_that_succeed_leave_attempted_and_succeeded(
    daemon: DaemonProcess, caller: PlainCaller
):
    subject = await stored(caller)
    for verb in ("refresh", "synced", "get", "disconnect"):
        assert (await tell(caller, subject, verb)).code == "ok"

    events = await events_of(caller, subject.id)

    disconnected = ["disconnection.attempted", "disconnection.succeeded"]
    assert [event.step for event in events] == [*CONNECTED, *REFRESHED, *disconnected]
    assert all(is_exact(event, subject, event.step) for event in events)
    ids = [event.body["id"] for event in events]
    assert ids == sorted(set(ids))
    assert len({event.body["source"] for event in events}) == 1
    ready = next(line for line in daemon.said if line.startswith("ready "))
    assert events[0].body["source"].removeprefix("/refreshd/") in ready


async def test_the_reference_sdk_of_cloudevents_reads_them(caller: PlainCaller):
    from cloudevents.core.formats.json import JSONFormat  # noqa: PLC0415 -- only here
    from cloudevents.core.v1.event import CloudEvent  # noqa: PLC0415

    subject = await stored(caller)
    for event in await events_of(caller, subject.id):
        read = JSONFormat().read(CloudEvent, json.dumps(event.body))

        assert read.get_id() == event.body["id"]
        assert read.get_data() == subject.event_data()


@pytest.mark.parametrize(
    ("verb", "from_status", "to_status"),
    [
        ("expire", "active", "expired"),
        ("revoke", "active", "revoked"),
        ("fail", "pending", "failed"),
    ],
)
async def test_a_status_that_no_workflow_names_is_told_with_its_reason(
    caller: PlainCaller, verb: str, from_status: Any, to_status: str
):
    subject = await stored(caller, from_status)

    told = await caller.ask(f"connection.{subject.id}.{verb}", {"reason": "said so"})
    again = await tell(caller, subject, verb)
    *_, event = await events_of(caller, subject.id)

    assert told.body == {"ok": None}
    assert is_refused(again, "INVALID_TRANSITION")
    extra = {"from_status": from_status, "to_status": to_status, "reason": "said so"}
    assert is_exact(event, subject, "status.changed", **extra)
    assert len(await events_of(caller, subject.id)) == 3


async def test_an_unknown_connection_stands_in_for_its_user_and_provider(caller: PlainCaller):
    unknown = str(uuid4())
    stand_in = Subject(unknown, unknown, unknown, "unknown")

    await tell(caller, stand_in, "refresh")
    await tell(caller, stand_in, "disconnect")
    events = await events_of(caller, unknown)

    reason = {"reason": "Connection not found"}
    assert is_exact(events[0], stand_in, "token_refresh.attempted")
    no = {"needs_user_action": False}
    assert is_exact(events[1], stand_in, "token_refresh.failed", **reason, **no)
    assert is_exact(events[2], stand_in, "disconnection.attempted")
    assert is_exact(events[3], stand_in, "disconnection.failed", **reason)
    assert len(events) == 4


async def test_a_refused_refresh_tells_why_and_whether_the_user_must_act(caller: PlainCaller):
    subject = await stored(caller, "revoked")

    await caller.ask(f"connection.{subject.id}.refresh", {"credentials": None})
    await tell(caller, subject, "refresh")
    events = (await events_of(caller, subject.id))[3:]

    steps = ["token_refresh.attempted", "token_refresh.failed"]
    assert [event.step for event in events] == 2 * steps
    why = {"reason": "Invalid or missing credentials", "needs_user_action": False}
    assert is_exact(events[1], subject, "token_refresh.failed", **why)
    why = {"reason": "Connection is not active", "needs_user_action": True}
    assert is_exact(events[3], subject, "token_refresh.failed", **why)


async def test_a_refused_connect_and_disconnect_tell_why_and_name_the_stored_owner(
    caller: PlainCaller,
):
    subject = await stored(caller)
    stranger = subject._replace(user_id=str(uuid4()))

    await tell(caller, subject, "connect")
    await tell(caller, stranger, "disconnect")
    events = (await events_of(caller, subject.id))[2:]

    why = {"reason": "Cannot transition to ACTIVE from current state"}
    assert is_exact(events[0], subject, "connection.attempted")
    assert is_exact(events[1], subject, "connection.failed", **why)
    assert is_exact(events[2], subject, "disconnection.attempted")
    why = {"reason": "Connection not owned by user"}
    assert is_exact(events[3], subject, "disconnection.failed", **why)
    assert len(events) == 4


async def test_a_malformed_command_is_no_attempt(caller: PlainCaller):
    subject = await stored(caller)

    for body in (b"", b"{}", b"nonsense", b'{"credentials": 1}'):
        answer = await caller.ask(f"connection.{subject.id}.refresh", body)

        assert is_refused(answer, "INVALID_COMMAND")
    assert len(await events_of(caller, subject.id)) == 2


async def test_400_refreshes_at_once_of_one_connection_all_succeed_one_after_another(
    caller: PlainCaller,
):
    subject = await stored(caller)

    answers = await asyncio.gather(*(tell(caller, subject, "refresh") for _ in range(400)))
    got = await caller.get(subject.id)
    events = await events_of(caller, subject.id)

    assert [answer.body for answer in answers] == [{"ok": None}] * 400
    assert got["generation"] == 401
    assert [event.step for event in events] == CONNECTED + 400 * REFRESHED
    assert len({event.body["id"] for event in events}) == 802


async def test_of_fifty_connects_at_once_of_one_new_id_one_makes_it(caller: PlainCaller):
    subject = nobody()

    answers = await asyncio.gather(*(tell(caller, subject, "connect") for _ in range(50)))
    steps = [event.step for event in await events_of(caller, subject.id)]

    assert sorted(answer.code for answer in answers) == ["INVALID_TRANSITION"] * 49 + ["ok"]
    assert (await caller.get(subject.id))["generation"] == 1
    assert steps == CONNECTED + 49 * ["connection.attempted", "connection.failed"]


async def test_commands_at_once_on_one_connection_leave_the_events_of_some_order(
    caller: PlainCaller,
):
    subject = await stored(caller)
    verbs = [*("refresh", "expire", "connect", "refresh", "revoke", "refresh", "connect")] * 6

    answers = await asyncio.gather(*(tell(caller, subject, verb) for verb in verbs))
    got = await caller.get(subject.id)
    steps = [event.step for event in await events_of(caller, subject.id)]

    asked = list(zip(verbs, (answer.code for answer in answers), strict=True))
    stored_by = [verb for verb, code in asked if code == "ok" and verb in ("refresh", "connect")]
    assert got["generation"] == 1 + len(stored_by)
    assert steps.count("token_refresh.attempted") == verbs.count("refresh")
    assert steps.count("token_refresh.succeeded") == stored_by.count("refresh")
    assert steps.count("connection.succeeded") == 1 + stored_by.count("connect")
    assert steps.count("status.changed") == sum(
        code == "ok" and verb in ("expire", "revoke") for verb, code in asked
    )
    ends = [(a, b) for a, b in pairwise(steps) if a.endswith(".attempted")]
    assert all(
        b in (a.replace("attempted", end) for end in ("succeeded", "failed")) for a, b in ends
    )


async def test_events_reach_whoever_subscribes_without_jetstream(caller: PlainCaller):
    subject = nobody()
    heard = await caller.client.subscribe(f"refreshd.v1.event.schwab.{subject.id}.>")

    await tell(caller, subject, "connect")
    messages = [await heard.next_msg(timeout=5) for _ in range(2)]

    await heard.unsubscribe()
    assert [".".join(message.subject.split(".")[-2:]) for message in messages] == CONNECTED


async def test_a_trace_goes_from_a_command_into_its_events(caller: PlainCaller):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    connection_id = await caller.connect()
    trace = {"traceparent": parent, "tracestate": 'a="1"'}

    assert (await caller.refresh(connection_id, headers=trace)).code == "ok"
    await caller.refresh(connection_id, headers={"traceparent": "no such thing"})

    events = [
        one
        for one in (await caller.stories())[connection_id]
        if ".token_refresh." in one["_subject"]
    ]
    for event in events[:2]:
        assert trace.items() <= event.items()
        assert trace.items() <= event["_headers"].items()
    for event in events[2:]:
        assert not trace.keys() & (event.keys() | event["_headers"].keys())
    assert len(events) == 4
