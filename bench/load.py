"""A load client that costs little itself, so that what is measured is the daemon.

A NATS client of our own would not be worth having elsewhere. Here a request costs a
quarter of what it costs in nats-py, and two cores are shared with what is measured: every
microsecond of the load lessens the difference between two daemons.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import urlsplit

import msgspec

from runtime.nats.embedded import NatsContext

Request = tuple[str, bytes]
"""Subject and body."""
_REQUEST_TIMEOUT_S = 30.0
_PACE_S = 0.001


class LoadError(Exception):
    """A request was refused, or the connection ended."""


class _Round:
    """Requests to be made, by whichever caller is free, and what came of them."""

    def __init__(
        self, make: Callable[[int], Request], requests: int, expected: bytes | None
    ) -> None:
        self.make = make
        self.numbers: Iterator[int] = iter(range(requests))
        self.expected = expected
        self.requests = self.left = requests
        self.latencies_s: list[float] = []
        self.is_paced = False
        """Whether a request has a time to begin, instead of following the answer before it."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, body: bytes, latency_s: float) -> None:
        """Count one answer."""
        if body.startswith(b'{"error"') or self.expected not in (None, body):
            self.failed(f"refused: {body!r}")
            return
        self.latencies_s.append(latency_s)
        self.left -= 1
        if not self.left and not self.over.done():
            self.over.set_result(None)

    def failed(self, cause: str) -> None:
        """End the round."""
        if not self.over.done():
            self.over.set_exception(LoadError(cause))


class _Connection(asyncio.Protocol):
    """One connection to NATS, shared by several callers: each has one request under way."""

    def __init__(self, context: NatsContext) -> None:
        self._inbox = f"_INBOX.{secrets.token_hex(4)}."
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._began_s: list[float] = []
        self._free: list[int] = []
        self._round: _Round | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        login = {
            "user": self._context.user,
            "pass": self._context.password,
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "bench",
            "version": "0",
            "protocol": 1,
        }
        self._send(
            [b"CONNECT ", msgspec.json.encode(login), b"\r\n"],
            [f"SUB {self._inbox}* 1\r\nPING\r\n".encode()],
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._round is not None:
            self._round.failed(f"the connection ended: {exc}")
        if not self.ready.done():
            self.ready.set_exception(LoadError(f"cannot connect: {exc}"))

    def begin(self, current: _Round, callers: int) -> None:
        """Let so many callers make requests, one after another each."""
        self._round = current
        self._began_s = [0.0] * callers
        self._free = list(range(callers)) if current.is_paced else []
        if not current.is_paced:
            self._send(*(self._next(caller) for caller in range(callers)))

    def take_up(self, due_s: float) -> bool:
        """Let a caller that is free make a request that was due then; False: none is."""
        if not self._free:
            return False
        caller = self._free.pop()
        self._send(self._next(caller))
        self._began_s[caller] = due_s
        return True

    def close(self) -> None:
        """Close the connection."""
        self._round = None
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        buffer, at, answers = self._buffer + data, 0, list[list[bytes]]()
        now_s = time.perf_counter()
        while (end := buffer.find(b"\r\n", at)) >= 0:
            verb, _, rest = buffer[at:end].partition(b" ")
            if verb in (b"MSG", b"HMSG"):
                words = rest.split()
                over = end + 2 + int(words[-1])
                if len(buffer) < over + 2:
                    break
                caller = int(words[0].rpartition(b".")[2])
                answers.append(self._answered(caller, buffer[end + 2 : over], now_s))
                at = over + 2
                continue
            at = end + 2
            if verb == b"PONG" and not self.ready.done():
                self.ready.set_result(None)
            elif verb == b"PING":
                answers.append([b"PONG\r\n"])
            elif verb == b"-ERR" and self._round is not None:
                self._round.failed(rest.decode(errors="replace"))
        self._buffer = buffer[at:]
        self._send(*answers)

    def _answered(self, caller: int, body: bytes, now_s: float) -> list[bytes]:
        """Take an answer, and return that caller's next request."""
        if self._round is None:
            return []
        self._round.answered(body, now_s - self._began_s[caller])
        if self._round.is_paced:
            self._free.append(caller)
            return []
        return self._next(caller)

    def _next(self, caller: int) -> list[bytes]:
        assert self._round is not None
        number = next(self._round.numbers, None)
        if number is None:
            return []
        subject, body = self._round.make(number)
        self._began_s[caller] = time.perf_counter()
        head = f"PUB {subject} {self._inbox}{caller} {len(body)}\r\n"
        return [head.encode(), body, b"\r\n"]

    def _send(self, *requests: list[bytes]) -> None:
        if self._transport is not None and any(requests):
            self._transport.write(b"".join(part for parts in requests for part in parts))


class Load:
    """Connections to one daemon's server."""

    def __init__(self, connections: list[_Connection]) -> None:
        """Use ``open_load``."""
        self._connections = connections

    async def run(
        self,
        make: Callable[[int], Request],
        *,
        callers: int,
        requests: int,
        expected: bytes | None = b'{"ok":null}',
        rate_per_s: float | None = None,
    ) -> list[float]:
        """Make so many requests from so many callers at once, and return the latencies in seconds.

        The callers are spread over the connections; ``expected`` None takes all but an error.
        With ``rate_per_s`` requests are due at fixed times, whatever is answered when, and a
        latency counts from then: a wait for a free caller is part of it.

        Raises:
            LoadError: A request had another answer, or none in time.
        """
        current = _Round(make, requests, expected)
        current.is_paced = rate_per_s is not None
        count = len(self._connections)
        for number, connection in enumerate(self._connections):
            connection.begin(current, len(range(number, callers, count)))
        # The last answers may be slow; the rate is what the whole took.
        async with asyncio.timeout(_REQUEST_TIMEOUT_S + requests / 100):
            if rate_per_s is not None:
                await self._pace(current, rate_per_s)
            await current.over
        return current.latencies_s

    async def _pace(self, current: _Round, rate_per_s: float) -> None:
        """Begin each request when it is due, or as soon after it as a caller is free."""
        began_s, taken = time.perf_counter(), 0
        turns = itertools.cycle(self._connections)
        while taken < current.requests and not current.over.done():
            due = min(int((time.perf_counter() - began_s) * rate_per_s), current.requests)
            while taken < due and any(
                next(turns).take_up(began_s + taken / rate_per_s) for _ in self._connections
            ):
                taken += 1
            await asyncio.sleep(_PACE_S)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()


async def open_load(context: NatsContext, *, clients: int) -> Load:
    """Return so many open connections.

    Raises:
        LoadError, OSError: A connection cannot be made.
    """
    address = urlsplit(context.url)
    loop = asyncio.get_running_loop()
    connections: list[_Connection] = []
    for _ in range(clients):
        _, connection = await loop.create_connection(
            lambda: _Connection(context), address.hostname or "127.0.0.1", address.port or 4222
        )
        await connection.ready
        connections.append(connection)
    return Load(connections)
