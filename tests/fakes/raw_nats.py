"""A NATS client that sends any bytes at all, as no client library would."""

import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from runtime.nats.link import Login


class RawNats:
    """A logged-in connection; make one with ``raw_nats``."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        """Speak over ``stream``."""
        self._stream = stream
        self._received = BufferedByteReceiveStream(stream)

    async def send(self, protocol: bytes) -> None:
        """Send protocol bytes and return when the server has taken them."""
        await self._stream.send(protocol + b"PING\r\n")
        while (await self.line()) != b"PONG":
            pass

    async def line(self) -> bytes:
        """Return the server's next line."""
        return await self._received.receive_until(b"\r\n", 1024 * 1024)


def hostile_publish(subject: bytes, *, reply: bytes = b"", header: bytes | None = None) -> bytes:
    """Return the protocol bytes that publish an empty message."""
    if header is None:
        return b"PUB %s %s 0\r\n\r\n" % (subject, reply)
    return b"HPUB %s %s %d %d\r\n%s\r\n" % (subject, reply, len(header), len(header), header)


def send_and_block(login: Login, protocol: bytes) -> None:
    """Send protocol bytes, and let nothing else of the test run until the server has them."""
    address = urlsplit(login.url)
    with socket.create_connection((address.hostname, address.port)) as stream:
        lines = stream.makefile("rb")
        lines.readline()  # INFO
        stream.sendall(_connect(login) + protocol + b"PING\r\n")
        while lines.readline() != b"PONG\r\n":
            pass


def _connect(login: Login) -> bytes:
    options = {
        "user": login.user,
        "pass": login.password,
        "headers": True,
        "verbose": False,
        "pedantic": False,
    }
    return b"CONNECT " + json.dumps(options).encode() + b"\r\n"


@contextlib.asynccontextmanager
async def raw_nats(login: Login) -> AsyncGenerator[RawNats]:
    """Yield a raw connection that has logged in with user and password."""
    address = urlsplit(login.url)
    assert address.hostname is not None
    assert address.port is not None
    async with await anyio.connect_tcp(address.hostname, address.port) as stream:
        raw = RawNats(stream)
        await raw.line()  # INFO
        await raw.send(_connect(login))
        yield raw
