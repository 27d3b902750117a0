"""Answers that break the rules of HTTP, for which the server's own socket is needed."""

import asyncio
import http.client
import re
import socket
import struct
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.fake_provider.canned import Answer

TRANSPORT = "fake_provider.transport"


class ExposedProtocol(H11Protocol):
    """HTTP/1.1 by uvicorn, whose requests know the connection that they came by."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Put the connection where a request finds it."""
        super().connection_made(transport)
        self.app_state = {TRANSPORT: transport}


class PlainAnswer(Response):
    """A whole answer."""

    def __init__(self, answer: Answer) -> None:
        """Send it as it is, with no header added but the length."""
        super().__init__(answer.body, answer.status, answer.headers)


class Cut(Response):
    """No answer: the connection is closed."""

    def __init__(self, *, reset: bool) -> None:
        """Close by a FIN, or by a RST if ``reset``."""
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Close, and wait until the server has noticed."""
        await _close(scope["state"][TRANSPORT], receive, reset=self._reset)


class HalfAnswer(Response):
    """An answer whose body ends before the announced length."""

    def __init__(self, answer: Answer, *, reset: bool, cut_after: str | None = None) -> None:
        """Send the body as far as the field ``cut_after``, or its first half; then close."""
        super().__init__()
        self._answer = answer
        self._reset = reset
        self._sent_bytes = len(answer.body) // 2
        if cut_after is not None:
            field = rf'{re.escape(cut_after)}("\s*:\s*("[^"]*"|[^,}}]*)|=[^&]*)[,&]?'
            found = re.search(field.encode(), answer.body)
            self._sent_bytes = found.end() if found else self._sent_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write past the server, which would not do such a thing."""
        answer = self._answer
        transport: asyncio.Transport = scope["state"][TRANSPORT]
        headers = answer.headers | {"content-length": str(max(len(answer.body), 2))}
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        transport.write(head + answer.body[: self._sent_bytes])
        await _close(transport, receive, reset=self._reset)


async def _close(transport: asyncio.Transport, receive: Receive, *, reset: bool) -> None:
    if reset:
        plain: Any = transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
