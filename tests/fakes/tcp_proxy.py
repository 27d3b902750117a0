"""A TCP proxy on loopback that can cut, refuse, stall, swallow and delay what goes through."""

import contextlib
import gc
import socket
import struct
from collections.abc import AsyncGenerator
from enum import Enum, auto
from urllib.parse import urlsplit

import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

from runtime.nats.link import Login
from tests.fakes.eventually import eventually

ABANDONS_SOCKETS = pytest.mark.filterwarnings(
    "ignore:unclosed <StreamWriter:ResourceWarning",
    "ignore:loop is closed:ResourceWarning",
    "ignore:unclosed transport:ResourceWarning",
    "ignore:unclosed <socket.socket:ResourceWarning",
)
"""nats-py leaves the socket of a failed attempt to the garbage collector, and anyio's listener that
of a connection whose task is cancelled before it has begun."""

_BROKEN = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, OSError)


class Weather(Enum):
    """What becomes of bytes and of new connections."""

    FAIR = auto()
    """All goes through."""
    REFUSING = auto()
    """A new connection is closed at once; old ones go on."""
    STALLING = auto()
    """Nothing is read, so a sender's buffers fill up; it goes through later."""
    SWALLOWING = auto()
    """Everything is read and lost."""


class TcpProxy:
    """A listener in front of one server; make one with ``tcp_proxy``."""

    def __init__(self, port: int, target_port: int, tasks: TaskGroup) -> None:
        """Forward from ``port`` to ``target_port``, both on loopback."""
        self.url = f"nats://127.0.0.1:{port}"
        self.weather = Weather.FAIR
        self.delay_s = 0.0
        self.recorded: bytearray | None = None
        """What clients sent, from when a test puts an empty one here."""
        self._target_port = target_port
        self._tasks = tasks
        self._open: set[SocketStream] = set()
        self._clients: set[SocketStream] = set()
        self._frozen: set[SocketStream] = set()

    def login(self, direct: Login) -> Login:
        """Return ``direct`` by way of this proxy."""
        return msgspec.structs.replace(direct, url=self.url)

    def freeze(self) -> None:
        """Read no more from the connections that are open now; new ones are as the weather is."""
        self._frozen |= self._open

    async def cut(self) -> None:
        """Close the connections that are open now."""
        for stream in tuple(self._open):
            await anyio.aclose_forcefully(stream)

    async def reset(self) -> None:
        """Abort the connections that are open now: their other ends get no end but an error."""
        for stream in self._open:
            # One whose other end has just gone is closed already.
            with contextlib.suppress(OSError):
                raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 -- no Django here
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.cut()

    async def inject(self, data: bytes) -> None:
        """Send bytes to the clients as if the server had."""
        for client in tuple(self._clients):
            await client.send(data)

    async def handle(self, client: SocketStream) -> None:
        """Carry one connection in both directions until one end closes."""
        if self.weather is Weather.REFUSING:
            await anyio.aclose_forcefully(client)
            return
        server = await anyio.connect_tcp("127.0.0.1", self._target_port)
        self._open |= {client, server}
        self._clients.add(client)
        try:
            async with anyio.create_task_group() as pair:
                pair.start_soon(self._carry, client, server, pair)
                pair.start_soon(self._carry, server, client, pair)
        finally:
            with anyio.CancelScope(shield=True):
                self._clients.discard(client)
                for stream in (client, server):
                    self._open.discard(stream)
                    await anyio.aclose_forcefully(stream)

    def _is_stalled(self, source: SocketStream) -> bool:
        return self.weather is Weather.STALLING or source in self._frozen

    async def _carry(self, source: SocketStream, sink: SocketStream, pair: TaskGroup) -> None:
        """Carry one direction."""
        with contextlib.suppress(*_BROKEN):
            while True:
                data = await source.receive()
                await eventually(lambda: not self._is_stalled(source), within_s=60)
                if self.recorded is not None and source in self._clients:
                    self.recorded += data
                if self.delay_s:
                    await anyio.sleep(self.delay_s)
                if self.weather is not Weather.SWALLOWING:
                    await sink.send(data)
        pair.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def tcp_proxy(url: str) -> AsyncGenerator[TcpProxy]:
    """Yield a proxy in front of the server at ``url``."""
    target_port = urlsplit(url).port
    assert target_port is not None
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- no Django here
    async with listener, anyio.create_task_group() as tasks:
        proxy = TcpProxy(port, target_port, tasks)
        tasks.start_soon(listener.serve, proxy.handle)
        yield proxy
        tasks.cancel_scope.cancel()
    gc.collect()
