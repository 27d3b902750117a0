"""Each trap of nats-py that could silence the daemon: sprung on the plain client, not on ours."""

from collections.abc import AsyncGenerator

import anyio
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime.nats.errors import NoAnswerError, NotSentError
from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from tests.fakes.clients import (
    PATIENT,
    leave_unsent,
    plain_client,
    proxied_client,
    proxied_link,
)
from tests.fakes.eventually import eventually
from tests.fakes.raw_nats import hostile_publish, raw_nats
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS, Weather

pytestmark = ABANDONS_SOCKETS


HOSTILE = {
    "subject is not UTF-8": hostile_publish(b"hostile.\xff\xfe"),
    "reply is not UTF-8": hostile_publish(b"hostile.x", reply=b"\xff\xfe"),
    "status is not UTF-8": hostile_publish(b"hostile.x", header=b"NATS/1.0 \xff\xff\xff\r\n\r\n"),
    "description is not UTF-8": hostile_publish(
        b"hostile.x", header=b"NATS/1.0 503 \xff\xff\xff\r\n\r\n"
    ),
    "header block ends after its version": hostile_publish(b"hostile.x", header=b"NATS/1.0"),
}


@pytest.fixture
async def patient_link(nats_login: Login) -> AsyncGenerator[NatsLink]:
    async with open_link(nats_login, name="patient", limits=PATIENT) as link:
        yield link


ENDED = b"-ERR 'User Authentication Revoked'\r\n"


async def echo(client: Client, subject: str) -> None:
    """Answer requests on ``subject`` with their own bytes."""

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await client.subscribe(subject, cb=answer)


async def answers(link: NatsLink) -> bool:
    """Whether a request through the server and back still works."""
    await echo(link.client, "echo")
    await link.flush()
    return (await link.request("echo", b"again", timeout_s=2.0)).data == b"again"


def read_loop_has_ended(client: Client) -> bool:
    assert client._reading_task is not None
    return client._reading_task.done()


async def test_a_cancelled_flush_ends_the_plain_clients_read_loop(nats_login: Login):
    async with plain_client(nats_login) as client:
        with anyio.move_on_after(0):
            await client.flush()

        await eventually(lambda: read_loop_has_ended(client))
        assert client.is_connected


async def test_a_cancelled_flush_is_survived(patient_link: NatsLink):
    with anyio.move_on_after(0):
        await patient_link.client.flush()
    with anyio.move_on_after(0):
        await patient_link.flush()

    assert await answers(patient_link)
    assert not read_loop_has_ended(patient_link.client)


async def test_a_flush_that_timed_out_is_survived(nats_login: Login):
    async with proxied_link(nats_login) as (proxy, link):
        proxy.weather = Weather.STALLING
        with pytest.raises(nats.errors.FlushTimeoutError):
            await link.client.flush(0.05)  # type: ignore[arg-type]
        proxy.weather = Weather.FAIR

        assert await answers(link)
        assert link.reconnects == 0


async def test_a_flush_of_the_plain_client_overtakes_what_it_should_confirm(nats_login: Login):
    async with proxied_client(nats_login) as (proxy, client):
        proxy.recorded = bytearray()
        await client.subscribe("subject")
        await client.flush()
        await client.flush()

        assert proxy.recorded.index(b"PING") < proxy.recorded.index(b"SUB subject")


async def test_a_flush_confirms_what_was_sent_before_it(nats_login: Login):
    async with proxied_link(nats_login) as (proxy, link):
        proxy.recorded = bytearray()
        await link.client.subscribe("subject")
        link.publish_now("subject", b"")
        await link.client.flush()

        assert [line.split()[0] for line in proxy.recorded.splitlines() if line] == [
            b"SUB",
            b"PUB",
            b"PING",
        ]


async def test_an_error_callback_that_raises_ends_the_plain_clients_read_loop(nats_login: Login):
    async def raising(_error: Exception) -> None:
        raise RuntimeError

    async with plain_client(nats_login, error_cb=raising) as client:
        await cause_a_slow_consumer(client)

        await eventually(lambda: read_loop_has_ended(client))
        assert client.is_connected


async def test_a_background_error_that_cannot_even_be_logged_is_survived(
    nats_login: Login, monkeypatch: pytest.MonkeyPatch
):
    def raising(event: str, **_fields: object) -> None:
        if event == "nats_error":
            raise RuntimeError

    monkeypatch.setattr("runtime.nats.link.log.warning", raising, raising=False)

    async with proxied_link(nats_login) as (proxy, link):
        await cause_a_slow_consumer(link.client)
        assert await answers(link)
        assert not read_loop_has_ended(link.client)

        await proxy.cut()
        await eventually(lambda: link.reconnects == 1)
        assert await answers(link)


async def cause_a_slow_consumer(client: Client) -> None:
    await client.subscribe("slow", pending_msgs_limit=1)
    for _ in range(5):
        await client.publish("slow", b"")


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_message_ends_the_plain_clients_read_loop(
    nats_login: Login, hostile: bytes
):
    async with plain_client(nats_login) as client, raw_nats(nats_login) as attacker:
        await client.subscribe("hostile.>")
        await client.flush()
        await client.flush()

        await attacker.send(hostile)

        await eventually(lambda: read_loop_has_ended(client))
        assert client.is_connected


@pytest.mark.parametrize("hostile", [*HOSTILE.values(), hostile_publish(b"hostile.\x0b7")])
async def test_a_hostile_message_is_survived(
    patient_link: NatsLink, nats_login: Login, hostile: bytes
):
    subscription = await patient_link.client.subscribe("hostile.>")
    await patient_link.flush()

    async with raw_nats(nats_login) as attacker:
        await attacker.send(hostile)
        await attacker.send(hostile_publish(b"hostile.after"))

    received = [await subscription.next_msg(timeout=5) for _ in range(2)]
    assert received[0].subject.startswith("hostile.")
    assert received[1].subject == "hostile.after"
    assert await answers(patient_link)
    assert not read_loop_has_ended(patient_link.client)


async def test_whatever_else_a_message_breaks_is_survived(
    patient_link: NatsLink, monkeypatch: pytest.MonkeyPatch
):
    def raising(*_arguments: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(patient_link.client, "_build_message", raising)
        await patient_link.client.subscribe("subject")
        patient_link.publish_now("subject", b"")
        await eventually(lambda: patient_link.bad_messages == 1)

    assert await answers(patient_link)


async def test_the_plain_client_applies_a_write_of_the_outage_after_it(nats_login: Login):
    async with (
        proxied_client(nats_login) as (proxy, client),
        plain_client(nats_login) as watcher,
    ):
        seen = await watcher.subscribe("zombie")
        await watcher.flush()
        await watcher.flush()
        proxy.weather = Weather.REFUSING
        await proxy.cut()
        await eventually(lambda: not client.is_connected)

        await client.publish("zombie", b"")
        proxy.weather = Weather.FAIR

        await seen.next_msg(timeout=5)


async def test_a_publish_while_disconnected_fails_at_once_and_stays_unsent(nats_login: Login):
    async with (
        proxied_link(nats_login) as (proxy, link),
        plain_client(nats_login) as watcher,
    ):
        seen = await watcher.subscribe("zombie")
        await watcher.flush()
        await watcher.flush()
        proxy.weather = Weather.REFUSING
        await proxy.cut()
        await eventually(lambda: not link.is_connected)

        with pytest.raises(NotSentError):
            link.publish_now("zombie", b"of the outage")
        with anyio.fail_after(0.5), pytest.raises(NotSentError):
            await link.request("zombie", b"of the outage", timeout_s=30.0)
        proxy.weather = Weather.FAIR
        await eventually(lambda: link.is_connected)
        link.publish_now("zombie", b"after it")

        assert (await seen.next_msg(timeout=5)).data == b"after it"


async def test_the_plain_client_lets_a_request_wait_on_a_lost_connection(nats_login: Login):
    async with proxied_client(nats_login) as (proxy, client):
        await client.subscribe("silence")
        await client.flush()
        await client.flush()
        started_s = anyio.current_time()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy.cut)
            with pytest.raises(nats.errors.TimeoutError):
                await client.request("silence", b"", timeout=0.8)

        assert anyio.current_time() - started_s >= 0.8


async def test_requests_in_flight_fail_when_the_connection_is_lost(nats_login: Login):
    failed: list[str] = []

    async with proxied_link(nats_login) as (proxy, link):
        await link.client.subscribe("silence")
        await link.flush()

        async def ask() -> None:
            with pytest.raises(NoAnswerError) as error:
                await link.request("silence", b"", timeout_s=30.0)
            failed.append(str(error.value))

        with anyio.fail_after(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(ask)
                await eventually(lambda: link.requests_waiting == 20)
                await proxy.cut()

        assert failed == ["connection lost"] * 20
        assert link.requests_waiting == 0


UNSENDABLE = {
    "too large": ("subject", b"x" * (1024 * 1024 + 1), None),
    "bad header": ("subject", b"", {"a b": "c"}),
    "header that is not text": ("subject", b"", {"a": "\ud800"}),
    "bad subject": ("sub ject", b"", None),
    "empty subject": ("", b"", None),
    "subject that is not text": ("\ud800", b"", None),
}


async def test_a_request_that_cannot_be_sent_stays_in_the_plain_clients_table(nats_login: Login):
    subject, payload, headers = UNSENDABLE["too large"]
    async with plain_client(nats_login) as client:
        for _ in range(10):
            with pytest.raises(nats.errors.MaxPayloadError):
                await client.request(subject, payload, headers=headers)

        assert len(client._resp_map) == 10


@pytest.mark.parametrize(
    ("subject", "payload", "headers"), UNSENDABLE.values(), ids=UNSENDABLE.keys()
)
async def test_a_request_that_cannot_be_sent_leaves_nothing_behind(
    patient_link: NatsLink, subject: str, payload: bytes, headers: dict[str, str] | None
):
    for _ in range(10):
        with pytest.raises(NotSentError):
            await patient_link.request(subject, payload, timeout_s=30.0, headers=headers)

    assert patient_link.requests_waiting == 0
    assert not patient_link.client._resp_map
    assert await answers(patient_link)


async def test_headers_count_for_the_size_that_the_server_takes(patient_link: NatsLink):
    with pytest.raises(NotSentError):
        patient_link.publish_now("subject", b"x" * 1024 * 1024, headers={"a": "b"})

    assert await answers(patient_link)
    assert not patient_link.closed.is_set()


async def test_an_error_of_the_server_that_ends_the_connection_is_told(patient_link: NatsLink):
    await patient_link.client._send_command(b"BOGUS\r\n")
    await patient_link.client._flush_pending()

    with anyio.fail_after(2):
        await patient_link.closed.wait()
    assert not patient_link.is_connected
    with pytest.raises(NotSentError):
        await patient_link.request("subject", b"", timeout_s=30.0)


@pytest.mark.parametrize("error", ["User Authentication Expired", "Authorization Violation"])
async def test_the_end_of_our_authorization_is_told(nats_login: Login, error: str):
    async with proxied_link(nats_login) as (proxy, link):
        await proxy.inject(f"-ERR '{error}'\r\n".encode())

        with anyio.fail_after(2):
            await link.closed.wait()


async def test_requests_in_flight_fail_when_the_connection_is_closed_for_good(
    patient_link: NatsLink,
):
    await patient_link.client.subscribe("silence")
    await patient_link.flush()

    async def end() -> None:
        await eventually(lambda: patient_link.requests_waiting == 1)
        await patient_link.client._send_command(b"BOGUS\r\n")
        await patient_link.client._flush_pending()

    with anyio.fail_after(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            with pytest.raises(NoAnswerError, match="connection lost"):
                await patient_link.request("silence", b"", timeout_s=30.0)


async def test_the_plain_client_never_tells_of_its_end_while_bytes_are_unsent(nats_login: Login):
    told = anyio.Event()

    async def closed() -> None:
        told.set()

    async with proxied_client(nats_login, closed_cb=closed, pending_size=0) as (proxy, client):
        proxy.freeze()
        await leave_unsent(client, messages=40)

        await proxy.inject(ENDED)

        await eventually(lambda: client.is_closed)
        with anyio.move_on_after(0.5):
            await told.wait()
        assert not told.is_set()


async def test_the_end_of_a_connection_is_told_though_bytes_are_unsent(nats_login: Login):
    limits = LinkLimits(ping_interval_s=60, probe_interval_s=0.1, probes_missed_max=1000)
    async with proxied_link(nats_login, limits) as (proxy, link):
        proxy.freeze()
        await leave_unsent(link.client, messages=40)

        await proxy.inject(ENDED)

        with anyio.fail_after(2):
            await link.closed.wait()
