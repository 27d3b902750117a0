"""HTTP/1.1 inside the daemon's event loop, bounded: it takes no signals and holds nothing up.

One request a connection, a bounded number of connections, each for ten seconds at most; and one
request after the other, some hundred a second, so that a flood of them costs little.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from runtime.logs import log
from runtime.web.address import Address

_BACKLOG = 64
_CONNECTION_S = 10.0
_PAUSE_S = 0.01
_REQUEST_BYTES_MAX = 16 * 1024


class _Brief(H11Protocol):
    """A connection that ends in time, whatever its other side does."""

    connections_max = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take it, where there is room."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.abort()
        self._ending = self.loop.call_later(_CONNECTION_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for its end no more."""
        self._ending.cancel()
        super().connection_lost(exc)


class _Paced:
    """Takes up requests one by one, a hundred a second; never raises."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._turn:
                await asyncio.sleep(_PAUSE_S)
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # The daemon ends; nobody is told of it here.
            return
        except Exception as error:  # noqa: BLE001 -- the edge: a bug fails one request
            log.error("http_crashed", error=type(error).__name__)


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp, address: Address, *, connections_max: int
) -> AsyncGenerator[Address]:
    """Serve an app on an address, and yield it with its port; all is closed at once afterwards.

    Raises:
        OSError: Nobody can listen there.
    """
    config = uvicorn.Config(
        _Paced(app),
        http=_Brief,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("connection", "close")],
        h11_max_incomplete_event_size=_REQUEST_BYTES_MAX,
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    state.default_headers = config.encoded_headers

    def protocol() -> _Brief:
        made = _Brief(config, state, {}, loop)
        made.connections_max = connections_max
        return made

    listener = await _listener(address)
    server = await loop.create_server(protocol, sock=listener, backlog=_BACKLOG)
    try:
        yield Address(address.host, listener.getsockname()[1])
    finally:
        server.close()
        for connection in tuple(state.connections):
            assert isinstance(connection, _Brief)
            connection.transport.abort()
        for task in tuple(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def _listener(address: Address) -> socket.socket:
    """Return a socket that listens: uvloop closes one that cannot, and does not say so.

    Two programs that bind at the same time both succeed, and then only one of them may listen.

    Raises:
        OSError: Nobody can listen there.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
    return socket.create_server(where, family=family, backlog=_BACKLOG)
