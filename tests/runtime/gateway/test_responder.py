"""Answers go out in the order they were given, and wait for NATS as long as their callers do."""

import contextlib
from collections.abc import AsyncGenerator

import anyio
import pytest
from nats.aio.subscription import Subscription

from runtime.gateway.responder import Responder
from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from tests.fakes.eventually import eventually
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS, TcpProxy, Weather, tcp_proxy

pytestmark = ABANDONS_SOCKETS

LIMITS = LinkLimits(ping_interval_s=60, probe_interval_s=60.0, reconnect_wait_s=0.02)
ON_UVLOOP = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
"""As the daemon runs: uvloop raises where a closed socket is written to, asyncio does not."""


class Stage:
    """A responder behind a proxy, and a caller who needs no proxy."""

    def __init__(
        self, proxy: TcpProxy, link: NatsLink, responder: Responder, answers: Subscription
    ) -> None:
        self.proxy = proxy
        self.link = link
        self.responder = responder
        self.answers = answers
        self.sent: list[bytes] = []

    def answer(
        self, body: bytes, *, within_s: float = 30.0, headers: dict[str, str] | None = None
    ) -> None:
        self.responder.answer(
            "caller",
            body,
            expires_s=anyio.current_time() + within_s,
            sent=lambda: self.sent.append(body),
            headers=headers,
        )

    async def received(self, count: int) -> list[bytes]:
        return [(await self.answers.next_msg(timeout=5)).data for _ in range(count)]

    async def lose_connection(self) -> None:
        self.proxy.weather = Weather.REFUSING
        await self.proxy.cut()
        await eventually(lambda: not self.link.is_connected)


@pytest.fixture
async def stage(nats_login: Login) -> AsyncGenerator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(tcp_proxy(nats_login.url))
        login = Login(url=proxy.url, user=nats_login.user, password=nats_login.password)
        link = await stack.enter_async_context(open_link(login, name="responder", limits=LIMITS))
        caller = await stack.enter_async_context(open_link(nats_login, name="caller"))
        answers = await caller.client.subscribe("caller")
        await caller.flush()
        responder = Responder(link)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(responder.run)
        yield Stage(proxy, link, responder, answers)
        tasks.cancel_scope.cancel()


async def test_answers_keep_their_order(stage: Stage):
    bodies = [str(number).encode() for number in range(2000)]

    for body in bodies:
        stage.answer(body)

    assert await stage.received(2000) == bodies
    assert stage.sent == bodies
    assert stage.responder.dropped == 0


async def test_a_failure_has_its_headers(stage: Stage):
    stage.answer(b"body", headers={"Nats-Service-Error-Code": "404"})

    message = await stage.answers.next_msg(timeout=5)

    assert message.headers == {"Nats-Service-Error-Code": "404"}


async def test_an_answer_to_nobody_is_done_at_once():
    done: list[bool] = []

    async with open_nothing() as responder:
        responder.answer("", b"", expires_s=0.0, sent=lambda: done.append(True))

        assert done == [True]
        with anyio.fail_after(1):
            await responder.drained()


@contextlib.asynccontextmanager
async def open_nothing() -> AsyncGenerator[Responder]:
    """A responder that never runs, on a link that was never opened."""
    yield Responder(NatsLink(Login(url="nats://127.0.0.1:1"), LIMITS, "none"))


async def test_answers_wait_for_the_connection_and_keep_their_order(stage: Stage):
    await stage.lose_connection()
    bodies = [str(number).encode() for number in range(50)]
    for body in bodies:
        stage.answer(body)
    with anyio.move_on_after(0.05):
        await stage.responder.drained()
    assert stage.sent == []

    stage.proxy.weather = Weather.FAIR

    assert await stage.received(50) == bodies
    assert stage.sent == bodies
    assert stage.responder.dropped == 0


async def test_an_answer_whose_caller_has_gone_is_dropped_and_counted(stage: Stage):
    await stage.lose_connection()
    stage.answer(b"first", within_s=0.05)
    stage.answer(b"patient")
    stage.answer(b"third", within_s=0.05)

    await eventually(lambda: stage.responder.dropped == 1)
    assert stage.sent == [b"first"]
    stage.proxy.weather = Weather.FAIR

    assert (await stage.received(1))[0] == b"patient"
    with anyio.fail_after(5):
        await stage.responder.drained()
    assert stage.sent == [b"first", b"patient", b"third"]


async def test_an_answer_that_can_never_be_sent_holds_up_no_other(stage: Stage):
    stage.answer(b"x" * (2 * 1024 * 1024))
    stage.answer(b"after")

    assert await stage.received(1) == [b"after"]
    assert stage.responder.dropped == 1


async def test_an_answer_in_the_instant_of_the_loss_blocks_nobody(stage: Stage):
    await stage.link.client.force_reconnect()
    started_s = anyio.current_time()
    stage.answer(b"answer")

    with anyio.move_on_after(0.05):
        await stage.responder.drained()

    assert anyio.current_time() - started_s < 2
    assert await stage.received(1) == [b"answer"]


@ON_UVLOOP
async def test_answers_in_the_turn_of_a_reset_are_sent_over_the_next_connection(stage: Stage):
    answered = 0
    await stage.proxy.reset()

    while not stage.link.reconnects:
        stage.answer(str(answered).encode())
        answered += 1
        await anyio.lowlevel.checkpoint()
    with anyio.fail_after(5):
        await stage.responder.drained()

    assert stage.sent == [str(number).encode() for number in range(answered)]
    assert stage.responder.dropped == 0


async def test_drained_waits_for_the_last_answer(stage: Stage):
    for number in range(100):
        stage.answer(str(number).encode())

    with anyio.fail_after(5):
        await stage.responder.drained()

    assert len(stage.sent) == 100
