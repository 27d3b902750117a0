"""HTTP beside the daemon's work is bounded: in connections, in time, and in what it takes."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from runtime.web import server
from runtime.web.address import Address
from runtime.web.server import listening

pytestmark = pytest.mark.anyio
MOST = 3


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if Request(scope).url.path == "/bug":
        raise LookupError("refresh_token=SECRET")
    await PlainTextResponse("here")(scope, receive, send)


@pytest.fixture
async def at() -> AsyncGenerator[Address]:
    async with listening(app, Address("127.0.0.1", 0), connections_max=MOST) as address:
        yield address


async def ask(at: Address, request: str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n") -> bytes:
    reader, writer = await asyncio.open_connection(*at)
    writer.write(request.encode())
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_connection_is_for_one_request(at: Address) -> None:
    answer = await ask(at)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"here")


async def test_a_bug_fails_its_own_request_and_quotes_nothing(at: Address) -> None:
    failed = await ask(at, "GET /bug HTTP/1.1\r\nhost: x\r\n\r\n")

    assert failed.startswith(b"HTTP/1.1 500")
    assert b"SECRET" not in failed
    assert (await ask(at)).endswith(b"here")


async def test_what_is_too_much_is_not_taken(at: Address) -> None:
    silent = [await asyncio.open_connection(*at) for _ in range(MOST)]
    assert await ask(at) == b""
    for _, writer in silent:
        writer.close()
        await writer.wait_closed()

    assert (await ask(at, f"GET /{'x' * 100_000} HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await ask(at)).endswith(b"here")


async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CONNECTION_S", 0.05)

    async with listening(app, Address("127.0.0.1", 0), connections_max=1) as at:
        assert await ask(at, "GET / HTTP/1.1\r\n") == b""


async def test_requests_are_taken_up_one_after_the_other(at: Address) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    answers = [await ask(at) for _ in range(5)]

    assert all(answer.endswith(b"here") for answer in answers)
    assert loop.time() - began_s >= 5 * server._PAUSE_S


async def test_an_end_waits_for_nobody() -> None:
    async with listening(app, Address("127.0.0.1", 0), connections_max=MOST) as at:
        reader, writer = await asyncio.open_connection(*at)
        writer.write(b"GET / HT")

    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await ask(at)


async def listens_once(port: int) -> bool:
    """Listen for a moment; False: somebody else does."""
    try:
        async with listening(app, Address("127.0.0.1", port), connections_max=MOST):
            await asyncio.sleep(0)
            return True
    except OSError:
        return False


def test_of_those_who_listen_at_the_same_time_each_is_told_whether_it_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = threading.Barrier(2)

    def listen_again_and_again() -> list[bool]:
        done: list[bool] = []
        for _ in range(60):
            together.wait()
            done.append(uvloop.run(listens_once(port)))
        return done

    with ThreadPoolExecutor(2) as threads:
        first, second = [threads.submit(listen_again_and_again) for _ in range(2)]

        assert True in first.result() + second.result()
