"""The fake provider on a loopback port, inside the running event loop; takes over no signals."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from runtime.fake_provider.app import make_app
from runtime.fake_provider.clients import Client
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks
from runtime.fake_provider.wire import ExposedProtocol

_HOST = "127.0.0.1"
_BACKLOG = 2048
_KEEP_ALIVE_S = 75


@contextlib.asynccontextmanager
async def running_fake_provider(
    *,
    quirks: Quirks | None = None,
    clients: tuple[Client, ...] = (),
    port: int = 0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[FakeProvider]:
    """Yield a fake provider that listens on loopback; it is gone afterwards, at once.

    Args:
        quirks: What applies to all requests at first.
        clients: Who may come; ``fake-client`` with ``fake-secret`` where none is given.
        port: 0 is any free one.
        clock: Epoch seconds.
        sleep: Waits for the delays.

    Raises:
        OSError: The port is taken.
    """
    provider = FakeProvider(quirks=quirks, clients=clients, clock=clock, sleep=sleep)
    async with _listening(provider, port):
        yield provider


@contextlib.asynccontextmanager
async def _listening(provider: FakeProvider, port: int) -> AsyncGenerator[None]:
    """Serve a provider by uvicorn's protocol alone.

    Its ``Server`` would add signal handlers, and 0.2 s to every stop.
    """
    config = Config(
        _without_cancellations(make_app(provider)),
        http=ExposedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: ExposedProtocol(config, state, {}, loop), _HOST, port, backlog=_BACKLOG
    )
    provider.url = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        server.close()
        await _end(state)
        await server.wait_closed()


async def _end(state: ServerState) -> None:
    """Close every connection without an answer, and end what was at work."""
    for connection in tuple(state.connections):
        assert isinstance(connection, ExposedProtocol)
        connection.transport.abort()
    while state.connections:  # noqa: ASYNC110 -- a turn of the loop or two, and no event for it
        await asyncio.sleep(0)
    for task in tuple(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)


def _without_cancellations(app: ASGIApp) -> ASGIApp:
    """Return ``app`` so that ending it is not logged as its failure."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return wrapped
