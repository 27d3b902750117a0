"""An HTTP server made of sockets: it answers, or misbehaves, byte by byte as a test says."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Received(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


class RawHttpServer:
    """What a behaviour of one connection works with."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[Received] = []
        self.over = asyncio.Event()
        """Set when the test is: what a silent server waits for."""
        self.asked = asyncio.Event()
        """Set once a whole request came."""
        self.left = asyncio.Event()
        """Set once a client closed."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    async def request(self, reader: asyncio.StreamReader) -> Received:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        received = Received(method, target, headers, body)
        self.requests.append(received)
        self.asked.set()
        return received


Behaviour = Callable[[RawHttpServer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@contextlib.asynccontextmanager
async def raw_http(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[RawHttpServer]:
    """Yield a server on loopback that gives each connection to ``behaviour``, then closes it."""
    state = RawHttpServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await behaviour(state, reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        state.over.set()
        await asyncio.gather(*tasks)


def answer(
    body: bytes = b"{}", *, status: str = "200 OK", headers: dict[str, str] | None = None
) -> Behaviour:
    """Answer every request in the same way, and keep the connection open for more."""
    named = {"Content-Type": "application/json", **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    head = f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
    return says(head + body, again=True)


def says(
    raw: bytes, *, again: bool = False, resets: bool = False, stays: bool = False
) -> Behaviour:
    """Read a request, then write ``raw`` as it is.

    Args:
        raw: All that the server writes.
        again: Serve further requests on the same connection.
        resets: End by a reset, not by a close.
        stays: Say nothing more, and do not close.
    """

    async def behave(
        server: RawHttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(raw)
        await writer.drain()
        while again:
            await server.request(reader)
            writer.write(raw)
            await writer.drain()
        if stays:
            await silent(server, reader, writer)
        if resets:
            reset(writer)

    return behave


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silent(
    server: RawHttpServer, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
) -> None:
    """Take what comes and never answer."""

    async def drain() -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                server.asked.set()
        server.left.set()

    reading = asyncio.create_task(drain())
    over = asyncio.create_task(server.over.wait())
    await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
    for task in (reading, over):
        task.cancel()
    await asyncio.gather(reading, over, return_exceptions=True)


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS contexts for a server at 127.0.0.1 and for a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
    return server, client
