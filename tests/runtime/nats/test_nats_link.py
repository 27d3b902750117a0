"""A link tells at once what was sent, lost or unanswered, and heals whatever can heal."""

import contextlib
import io
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest
import structlog
from anyio.abc import SocketAttribute, SocketStream
from nats.aio.msg import Msg

from runtime.logs import configure_logs
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.errors import LinkError, NoAnswerError, NoRespondersError, NotSentError
from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from tests.fakes import clients
from tests.fakes.eventually import eventually
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS, TcpProxy, Weather, tcp_proxy

pytestmark = ABANDONS_SOCKETS

BY_PING = LinkLimits(
    ping_interval_s=1, pings_outstanding_max=1, probe_interval_s=60.0, reconnect_wait_s=0.02
)
BY_PROBE = LinkLimits(ping_interval_s=60, probe_interval_s=0.1, reconnect_wait_s=0.02)
EAGER = LinkLimits(reconnect_wait_s=0.02)


@contextlib.asynccontextmanager
async def proxied_link(
    login: Login, limits: LinkLimits
) -> AsyncGenerator[tuple[TcpProxy, NatsLink]]:
    async with clients.proxied_link(login, limits) as (proxy, link):
        await echo(link)
        yield proxy, link


async def echo(link: NatsLink) -> None:
    """Answer requests on ``echo`` with their own bytes."""

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await link.client.subscribe("echo", cb=answer)
    await link.flush()


async def answers(link: NatsLink) -> bool:
    try:
        return (await link.request("echo", b"again", timeout_s=0.5)).data == b"again"
    except LinkError:
        return False


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path, server_bin=None, port=None)
    try:
        yield server
    finally:
        if server.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGCONT)
        await server.stop()


async def test_a_request_without_a_responder_fails_at_once(link: NatsLink):
    with anyio.fail_after(1), pytest.raises(NoRespondersError):
        await link.request("nobody", b"", timeout_s=30.0)


async def test_a_request_without_an_answer_fails_when_its_time_is_up(link: NatsLink):
    await link.client.subscribe("silence")
    await link.flush()

    with anyio.fail_after(1), pytest.raises(NoAnswerError, match="no answer in time"):
        await link.request("silence", b"", timeout_s=0.05)

    assert link.requests_waiting == 0


async def test_an_answer_that_comes_too_late_is_nobody_elses(link: NatsLink):
    asked: list[Msg] = []

    async def keep(message: Msg) -> None:
        asked.append(message)

    await link.client.subscribe("slow", cb=keep)
    await echo(link)
    with pytest.raises(NoAnswerError):
        await link.request("slow", b"", timeout_s=0.05)
    link.publish_now(asked[0].reply, b"late")

    assert (await link.request("echo", b"mine", timeout_s=2.0)).data == b"mine"


async def test_cancel_storms_around_requests_leave_a_working_link(link: NatsLink):
    random_draws = random.Random(1)
    await echo(link)
    completed = 0

    async def ask(scope: anyio.CancelScope) -> None:
        nonlocal completed
        with scope:
            await link.request("echo", b"x" * 100, timeout_s=5.0)
            completed += 1

    for _ in range(20):
        scopes = [anyio.CancelScope() for _ in range(50)]
        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(ask, scope)
            for _ in range(random_draws.randrange(6)):
                await anyio.lowlevel.checkpoint()
            for scope in random_draws.sample(scopes, 40):
                scope.cancel()

    assert completed >= 200
    assert await answers(link)
    assert link.requests_waiting == 0
    assert not link.client._resp_map
    assert link.reconnects == 0


async def test_requests_beyond_the_bound_are_not_sent(nats_login: Login):
    limits = LinkLimits(requests_waiting_max=2)
    async with open_link(nats_login, name="test", limits=limits) as link:
        await link.client.subscribe("silence")
        await link.flush()

        async def ask() -> None:
            with pytest.raises(NoAnswerError):
                await link.request("silence", b"", timeout_s=0.2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await eventually(lambda: link.requests_waiting == 2)
            with pytest.raises(NotSentError, match="too many"):
                await link.request("silence", b"", timeout_s=0.2)


async def test_a_black_hole_is_left_by_ping(nats_login: Login):
    async with proxied_link(nats_login, BY_PING) as (proxy, link):
        proxy.weather = Weather.SWALLOWING

        assert await eventually(lambda: not link.is_connected, within_s=4) < 3.5
        proxy.weather = Weather.FAIR
        assert await eventually(lambda: answers(link), within_s=6) < 4


async def test_a_black_hole_is_left_by_probe(nats_login: Login):
    async with proxied_link(nats_login, BY_PROBE) as (proxy, link):
        proxy.weather = Weather.SWALLOWING

        assert await eventually(lambda: not link.is_connected, within_s=4) < 1.5
        proxy.weather = Weather.FAIR
        assert await eventually(lambda: answers(link), within_s=6) < 4


async def test_a_stalled_connection_with_much_unsent_is_left_as_well(nats_login: Login):
    async with proxied_link(nats_login, BY_PROBE) as (proxy, link):
        proxy.freeze()
        await clients.leave_unsent(link, messages=40)

        await eventually(lambda: not link.is_connected, within_s=4)
        assert await eventually(lambda: answers(link), within_s=6) < 4


async def test_too_much_unsent_is_refused_and_not_kept(nats_login: Login):
    limits = LinkLimits(ping_interval_s=60, probe_interval_s=60.0, unsent_bytes_max=1_000_000)
    async with proxied_link(nats_login, limits) as (proxy, link):
        proxy.weather = Weather.STALLING

        with pytest.raises(NotSentError, match="too much is unsent"):
            await clients.leave_unsent(link, messages=100)

        assert link.client.unsent_bytes < 2_000_000
        proxy.weather = Weather.FAIR


async def test_what_the_socket_holds_is_unsent_too(nats_login: Login):
    limits = LinkLimits(ping_interval_s=60, probe_interval_s=60.0, unsent_bytes_max=1_000_000)
    async with proxied_link(nats_login, limits) as (proxy, link):
        proxy.weather = Weather.STALLING
        link.publish_batch([("big", b"", b"x" * 1_000_000)] * 30)  # More than the system takes.
        assert not link.client.pending_data_size
        with pytest.raises(NotSentError, match="too much is unsent"):
            link.publish_now("small", b"")

        proxy.weather = Weather.FAIR


async def test_a_paused_server_is_left_and_works_again_when_it_goes_on(server: EmbeddedNats):
    async with open_link(await server.start(), name="test", limits=BY_PROBE) as link:
        await echo(link)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)

        await eventually(lambda: not link.is_connected, within_s=4)
        os.kill(server.pid, signal.SIGCONT)

        assert await eventually(lambda: answers(link), within_s=6) < 4
        assert not link.closed.is_set()


async def test_slow_is_not_dead(nats_login: Login):
    async with proxied_link(nats_login, BY_PROBE) as (proxy, link):
        proxy.delay_s = 0.03

        for _ in range(8):
            assert await answers(link)

        assert link.reconnects == 0


async def test_a_server_that_was_killed_and_started_again_is_found(server: EmbeddedNats):
    login = await server.start()
    async with open_link(login, name="test", limits=EAGER) as link:
        await echo(link)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.exited()
        await eventually(lambda: not link.is_connected)

        assert await server.start() == login

        await eventually(lambda: answers(link))
        assert link.reconnects == 1
        assert not link.closed.is_set()


async def test_a_connection_cut_again_and_again_comes_back_each_time(nats_login: Login):
    async with proxied_link(nats_login, EAGER) as (proxy, link):
        for lost in range(1, 11):
            await proxy.cut()
            await eventually(lambda lost=lost: link.reconnects == lost)
            assert await answers(link)


async def test_losing_the_connection_with_a_log_nobody_reads_is_survived(
    nats_login: Login, monkeypatch: pytest.MonkeyPatch
):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stderr", _text_to(writer))
    configure_logs()
    try:
        async with proxied_link(nats_login, EAGER) as (proxy, link):
            await proxy.cut()

            await eventually(lambda: link.reconnects == 1)
            assert await answers(link)
    finally:
        structlog.reset_defaults()
        os.close(writer)


async def test_whoever_waits_for_a_connection_is_told_when_it_is_back(nats_login: Login):
    async with proxied_link(nats_login, EAGER) as (proxy, link):
        with anyio.fail_after(1):
            await link.wait_connected()
        proxy.weather = Weather.REFUSING
        await proxy.cut()
        await eventually(lambda: not link.is_connected)

        with anyio.move_on_after(0.05) as waiting:
            await link.wait_connected()
        assert waiting.cancelled_caught
        proxy.weather = Weather.FAIR
        with anyio.fail_after(5):
            await link.wait_connected()

        link.publish_now("echo", b"")


async def test_waiting_in_the_instant_between_loss_and_notice_blocks_nobody(nats_login: Login):
    async with proxied_link(nats_login, EAGER) as (_, link):
        await link.client.force_reconnect()
        assert not link.is_connected

        with anyio.fail_after(5):
            await link.wait_connected()

        assert link.is_connected


async def test_no_server_is_an_error_within_the_limit():
    limits = LinkLimits(connect_timeout_s=0.3)

    with (
        anyio.fail_after(1),
        pytest.raises(LinkError, match=r"nats://127\.0\.0\.1:1\b.*refused|:1"),
    ):
        async with open_link(Login(url="nats://127.0.0.1:1"), name="test", limits=limits):
            pass


async def test_a_wrong_password_is_told_and_not_shown(nats_login: Login):
    limits = LinkLimits(connect_timeout_s=0.5)
    address = nats_login.url.partition("://")[2]
    wrong = Login(url=f"nats://refreshd:Wr0ng-passw0rd@{address}")

    with anyio.fail_after(2), pytest.raises(LinkError) as error:
        async with open_link(wrong, name="test", limits=limits):
            pass

    text = str(error.value)
    assert f"nats://{address}" in text
    assert "Authorization Violation" in text
    assert "Wr0ng" not in text


def test_a_login_shows_its_address_alone():
    login = Login(url="nats://user:Wr0ng@host:4222", user="user", password="Wr0ng2", token="Wr0ng3")

    assert repr(login) == "Login(nats://host:4222)"


async def test_a_server_that_says_nothing_is_an_error_within_the_limit(nats_login: Login):
    limits = LinkLimits(connect_timeout_s=0.3)
    async with tcp_proxy(nats_login.url) as proxy:
        proxy.weather = Weather.STALLING

        with anyio.fail_after(2), pytest.raises(LinkError, match=proxy.url):
            async with open_link(proxy.login(nats_login), name="test", limits=limits):
                pass


@contextlib.asynccontextmanager
async def silent_server() -> AsyncGenerator[tuple[Login, anyio.Event]]:
    """Yield a server that lets a client in and says no more, and when the client hangs up."""
    hung_up = anyio.Event()

    async def say_hello(stream: SocketStream) -> None:
        async with stream:
            await stream.send(b'INFO {"version": "2.15.1", "max_payload": 1048576}\r\n')
            await stream.receive()
            await stream.send(b"PONG\r\n")
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await stream.receive()
        hung_up.set()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- no Django here
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, say_hello)
        yield Login(url=f"nats://127.0.0.1:{port}"), hung_up
        tasks.cancel_scope.cancel()


async def test_a_server_that_lets_us_in_and_says_no_more_is_an_error_within_the_limit():
    async with silent_server() as (login, hung_up):
        with anyio.fail_after(2), pytest.raises(LinkError, match=login.url):
            async with open_link(login, name="test", limits=LinkLimits(connect_timeout_s=0.3)):
                pass

        with anyio.fail_after(2):
            await hung_up.wait()


async def test_whoever_gives_up_while_connecting_leaves_no_connection():
    async with silent_server() as (login, hung_up):
        with anyio.move_on_after(0.2):
            async with open_link(login, name="test"):
                pass

        with anyio.fail_after(2):
            await hung_up.wait()


async def test_closing_is_not_told_as_a_loss(nats_login: Login):
    async with open_link(nats_login, name="test") as link:
        pass

    assert not link.closed.is_set()
    assert not link.is_connected
    with pytest.raises(NotSentError):
        link.publish_now("subject", b"")


async def test_closing_in_a_black_hole_ends_soon(nats_login: Login):
    async with tcp_proxy(nats_login.url) as proxy:
        with anyio.fail_after(4):
            async with open_link(proxy.login(nats_login), name="test", limits=BY_PING) as link:
                proxy.weather = Weather.STALLING
                await clients.leave_unsent(link, messages=20)


def _text_to(descriptor: int) -> io.TextIOWrapper:
    """Return an unbuffered text stream, as stderr is."""
    raw = io.FileIO(descriptor, "wb", closefd=False)
    return io.TextIOWrapper(raw, write_through=True)
