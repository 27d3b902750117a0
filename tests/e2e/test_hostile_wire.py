"""Bytes that no client library sends, and reply subjects that aim at something, harm nothing."""

import json
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from runtime.nats.link import Login
from tests.fakes.daemon_process import DaemonProcess, PlainCaller
from tests.fakes.plain_contract import Subject, events_of, stored, tell
from tests.fakes.raw_nats import RawNats, hostile_publish, raw_nats

HEADERS = {
    "no utf-8": b"NATS/1.0\r\nRefreshd-Timeout-Ms: \xff\xfe\r\n\r\n",
    "no utf-8 in the name": b"NATS/1.0\r\n\xc3\x28: 1\r\n\r\n",
    "no utf-8 in the status": b"NATS/1.0 \xff\xff\r\n\r\n",
    "a status": b"NATS/1.0 503 No Responders\r\n\r\n",
    "a heartbeat": b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    "no end": b"NATS/1.0\r\nRefreshd-Timeout-Ms: 4000",
    "no colon": b"NATS/1.0\r\nRefreshd-Timeout-Ms\r\n\r\n",
    "no version": b"\r\n\r\n",
    "another version": b"HTTP/1.1 200 OK\r\nHost: x\r\n\r\n",
    "only noise": bytes(range(256)),
    "a name of ours twice": b"NATS/1.0\r\nRefreshd-Timeout-Ms: 1\r\nRefreshd-Timeout-Ms: x\r\n\r\n",
    "a continued line": b"NATS/1.0\r\nX: a\r\n b\r\n\r\n",
    "null bytes": b"NATS/1.0\r\nX\x00: \x00\r\n\r\n",
    "ten thousand lines": b"NATS/1.0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
}
TOKENS = {
    "a vertical tab": b"a\x0b7",
    "a form feed": b"a\x0c1\x0b2",
    "no utf-8": b"\xff\xfe\xfd",
    "half a character": b"abc\xc3",
    "overlong": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "control characters": b"\x01\x02\x7f\x1b[2J",
    "a null byte": b"a\x00b",
    "very long": b"\xff" * 3000,
}


@pytest.fixture
async def wire(daemon: DaemonProcess) -> AsyncGenerator[RawNats]:
    context = daemon.context
    login = Login(url=context["url"], user=context["user"], password=context["password"])
    async with raw_nats(login) as raw:
        yield raw


@pytest.fixture
async def survivor(daemon: DaemonProcess, caller: PlainCaller) -> AsyncGenerator[Subject]:
    """A connection that is there before and after whatever a test does, in the same daemon."""
    subject = await stored(caller)
    before = await caller.get(subject.id)
    yield subject
    assert await caller.get(subject.id) == before
    assert (await tell(caller, subject, "refresh")).body == {"ok": None}
    assert (await caller.ask("connections.list", {"limit": 1})).code == "ok"
    assert daemon.process.returncode is None
    assert not [line for line in daemon.said if "Traceback" in line or "crashed" in line]


async def reconnects(caller: PlainCaller) -> int:
    return (await caller.ask("status")).body["ok"]["nats_reconnects"]


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
async def test_a_subject_that_is_no_text_is_answered_and_the_link_stays(
    caller: PlainCaller, survivor: Subject, wire: RawNats, token: bytes
):
    inbox = caller.client.new_inbox()
    answers = await caller.client.subscribe(inbox)
    await caller.client.flush()
    subject = b"refreshd.v1.connection.%s.refresh" % token

    await wire.send(hostile_publish(subject, reply=inbox.encode()))
    answer = await answers.next_msg(timeout=5)
    await answers.unsubscribe()

    assert json.loads(answer.data)["error"]["code"] == "INVALID_COMMAND"
    assert await reconnects(caller) == 0


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("verb", ["get", "refresh"])
async def test_a_header_that_cannot_be_read_is_answered_and_the_link_stays(
    caller: PlainCaller, survivor: Subject, wire: RawNats, header: bytes, verb: str
):
    inbox = caller.client.new_inbox()
    answers = await caller.client.subscribe(inbox)
    await caller.client.flush()
    subject = f"refreshd.v1.connection.{survivor.id}.{verb}".encode()

    await wire.send(hostile_publish(subject, reply=inbox.encode(), header=header))
    answer = await answers.next_msg(timeout=5)
    await answers.unsubscribe()

    body = json.loads(answer.data)
    assert body.get("error", {}).get("code", "ok") in ("ok", "INVALID_COMMAND", "OVERLOADED")
    assert await reconnects(caller) == 0


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
async def test_a_reply_subject_that_is_no_text_harms_nobody(
    caller: PlainCaller, survivor: Subject, wire: RawNats, token: bytes
):
    subject = f"refreshd.v1.connection.{survivor.id}.get".encode()

    await wire.send(hostile_publish(subject, reply=token) * 3)

    assert await reconnects(caller) == 0


async def state_of(caller: PlainCaller) -> list[Any]:
    """Return what the streams hold: everything that a hostile answer could change."""
    await caller.events_caught_up()
    await caller.ask("connections.list", {"limit": 1})
    stream = caller.client.jetstream()
    names = ["REFRESHD_EVENTS", *(f"KV_refreshd_connections_{n:02d}" for n in range(4))]
    infos = [await stream.stream_info(name, subjects_filter=">") for name in names]
    return [info.state.subjects for info in infos]


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.API.STREAM.DELETE.REFRESHD_EVENTS",
        "$JS.API.STREAM.PURGE.KV_refreshd_connections_00",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.ACK.REFRESHD_EVENTS.a.1.1.1.1.1",
        "$KV.refreshd_connections_00.{id}",
        "$KV.refreshd_connections_{partition}.{id}",
        "$SYS.REQ.SERVER.PING",
        "$SRV.PING",
        "refreshd.v1.connection.{id}.refresh",
        "refreshd.v1.connection.{id}.disconnect",
        "refreshd.v1.connection.{id}.get",
        "refreshd.v1.connect",
        "refreshd.v1.event.schwab.{id}.token_refresh.succeeded",
        "refreshd.v1.event.>",
        "refreshd_ledger.{partition}",
        "refreshd_mark.{partition}",
        "refreshd_owner.{partition}.refresh.{id}",
        "refreshd_cluster.d-1",
        "_INBOX_refreshd.x.1",
        "*",
        ">",
        "a.*.>",
        "..",
        ".",
        "a..b",
        "x" * 3000,
    ],
)
async def test_a_reply_subject_that_aims_at_something_hits_nothing(
    caller: PlainCaller, survivor: Subject, wire: RawNats, reply: str
):
    partition = f"{zlib.crc32(survivor.id.encode()) % 4:02d}"
    aim = reply.format(id=survivor.id, partition=partition).encode()
    before = await state_of(caller)
    events = await events_of(caller, survivor.id)

    for verb in ("get", "synced.x", "refresh", "connect"):
        subject = f"refreshd.v1.connection.{survivor.id}.{verb}".encode()
        await wire.send(hostile_publish(subject, reply=aim))
    for _ in range(3):
        await caller.get(survivor.id)

    assert await state_of(caller) == before
    assert await events_of(caller, survivor.id) == events
    assert await reconnects(caller) == 0


async def test_nobody_borrows_the_right_of_the_daemon_to_publish_to_others(
    caller: PlainCaller, survivor: Subject, wire: RawNats
):
    """Another program on the same NATS takes commands there that the caller may not give."""
    others = await caller.client.subscribe("billing.>")
    await caller.client.flush()
    refused = (await caller.ask("status")).body["ok"]["replies_refused"]
    subject = f"refreshd.v1.connection.{survivor.id}.get".encode()

    await wire.send(hostile_publish(subject, reply=b"billing.refund"))
    await caller.get(survivor.id)
    status = (await caller.ask("status")).body["ok"]

    assert status["replies_refused"] == refused + 1
    assert others.pending_msgs == 0
    await others.unsubscribe()


async def test_a_thousand_hostile_messages_in_a_row_stop_no_answer(
    caller: PlainCaller, survivor: Subject, wire: RawNats
):
    hostile = b"".join(
        hostile_publish(b"refreshd.v1.connection.%s.refresh" % token, reply=token, header=header)
        for token in TOKENS.values()
        for header in HEADERS.values()
        if len(token) + len(header) < 2000
    )

    for _ in range(14):
        await wire.send(hostile)

    assert hostile.count(b"HPUB") * 14 > 1000
    assert (await caller.get(survivor.id))["id"] == survivor.id
