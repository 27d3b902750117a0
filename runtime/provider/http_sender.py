"""Sends one HTTP request once, and knows whether any of it can have reached the other side.

The transport is used without a client around it: no redirect is followed, no cookie is
kept, nothing is retried and no line is logged (the client logs
URLs, and some providers want tokens there).
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import msgspec
from msgspec import structs

from domain.credentials import Secret
from domain.exchange import Answered, Lost, NotSent
from runtime.provider.deadline import until
from runtime.provider.route import DIRECT, Route

_REMAINING = ("x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining")
_RATE_LIMIT_STATUSES = frozenset({400, 403, 429})
_RETRY_AFTER = re.compile(r"[\x20-\x7e]{1,64}")
_CONTENT_TYPE = re.compile(r"[\x20-\x7e]{1,200}")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_BEFORE_SENDING = {
    "connection.connect_tcp.started": "connect_failed",
    "connection.start_tls.started": "tls_failed",
}
_CONNECTED = "connection.connect_tcp.complete"
_TUNNEL_STEPS = {
    "connection.connect_tcp.started": "connect_failed",
    "connection.connect_tcp.complete": "proxy_failed",
    "proxy.start_tls.started": "tls_failed",
}
_TUNNELLED = "proxy.start_tls.complete"
"""From here on bytes go to the provider; before, a proxy was asked to lead there."""
_NOT_A_STEP = frozenset(
    f"connection.{step}.{end}"
    for step in ("connect_tcp", "start_tls")
    for end in ("complete", "failed")
)


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one request may take."""

    pool: str
    """Who shares connections' slots: one silent provider must not starve another."""
    connections_max: int | None
    """None: as many as are asked for."""
    connect_timeout_s: float
    """For each of: a free slot, the connection, the TLS handshake."""
    deadline_s: float
    """For all of it, by the event loop's clock."""
    answer_bytes_max: int
    route: Route = DIRECT


class _End(Enum):
    """How the reading of an answer's body ended."""

    WHOLE = auto()
    TOO_LARGE = auto()


class _Progress:
    """How far one request has come."""

    def __init__(self, *, is_tunnelled: bool = False) -> None:
        self._is_in_tunnel = not is_tunnelled
        self.not_sent_code: str | None = "pool_timeout"
        """What it would be called if it failed now; None once a byte may have been sent."""
        self.response: httpx2.Response | None = None
        self.body = bytearray()
        self._socket: Any = None

    async def note(self, name: str, info: dict[str, Any]) -> None:
        """Take one of the transport's trace events; what is not known counts as sending."""
        if not self._is_in_tunnel:
            self._is_in_tunnel = name == _TUNNELLED
            self.not_sent_code = _TUNNEL_STEPS.get(name, self.not_sent_code)
        elif name not in _NOT_A_STEP:
            self.not_sent_code = _BEFORE_SENDING.get(name)
        if name == _CONNECTED:
            self._socket = info["return_value"]

    def is_sent(self) -> bool:
        """Whether the request has been begun to be written."""
        return self.not_sent_code is None

    async def close_unused(self) -> None:
        """Close a socket on which nothing was sent.

        The transport forgets it where a TLS handshake is cancelled (httpcore2 2.16.2).
        """
        if self.not_sent_code is not None and self._socket is not None:
            with anyio.CancelScope(shield=True):
                await self._socket.aclose()


_Pool = tuple[str, int | None, str | None, Path | None]


class HttpSender:
    """One request, one connection, one outcome."""

    def __init__(self, *, now: Callable[[], datetime], tls: ssl.SSLContext | None = None) -> None:
        """Make a sender.

        Args:
            now: The time, aware UTC.
            tls: Whom to trust, whatever a route says; None does as routes say.
        """
        self._now = now
        self._tls = tls
        self._trusted: dict[Path | None, ssl.SSLContext] = {}
        self.last_cause: str | None = None
        """Why the last request that failed did so, for who makes one at a time. No secret in it."""
        self._transports: dict[_Pool, httpx2.AsyncHTTPTransport] = {}
        # It writes headers at its debug level.
        logging.getLogger("httpcore2").setLevel(logging.CRITICAL)

    async def aclose(self) -> None:
        """Close what is open."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()

    def reread(self) -> None:
        """Make transports anew, that trust what the files say now; requests under way go on."""
        self._trusted.clear()
        self._transports.clear()

    async def send(self, request: httpx2.Request, bounds: Bounds) -> NotSent | Lost | Answered:
        """Send ``request`` and return what came of it. Raises nothing but a cancellation.

        ``NotSent`` is only said while the transport had not begun to write: the split is made
        by its trace, not by the class of an exception. What is not known is ``Lost``.

        Source:
            PROVIDERS.md quirks 22, 24, 33.
        """
        proxy = bounds.route.proxy_to(str(request.url))
        progress = _Progress(is_tunnelled=proxy is not None)
        request.extensions = {
            "timeout": {"connect": bounds.connect_timeout_s, "pool": bounds.connect_timeout_s},
            "trace": progress.note,
        }
        started_s = asyncio.get_running_loop().time()
        lost_code = "connection_lost"
        try:
            async with until(bounds.deadline_s, is_sent=progress.is_sent):
                response = await self._transport(bounds, proxy).handle_async_request(request)
                progress.response = response
                if await _read(response, progress.body, bounds.answer_bytes_max) is _End.TOO_LARGE:
                    return Lost(code="answer_too_large")
                return _answered(response, bytes(progress.body), bounds, self._times(started_s))
        except (TimeoutError, httpx2.TimeoutException) as error:
            lost_code, self.last_cause = "timeout", _cause(error)
        except Exception as error:  # noqa: BLE001 -- whatever it was, the request's fate is told
            self.last_cause = _cause(error)
        finally:
            await progress.close_unused()
        if progress.not_sent_code is not None:
            return NotSent(code=progress.not_sent_code)
        return _rescued(progress, bounds, self._times(started_s), lost_code)

    def _times(self, started_s: float) -> tuple[datetime, datetime]:
        """Return when the request began and ended, both by the wall clock as it is now."""
        now = self._now()
        took_s = asyncio.get_running_loop().time() - started_s
        return now - timedelta(seconds=took_s), now

    def _transport(self, bounds: Bounds, proxy: str | None) -> httpx2.AsyncHTTPTransport:
        key = (bounds.pool, bounds.connections_max, proxy, bounds.route.ca_file)
        if key not in self._transports:
            # A connection is never used twice: one that the server closes while we write gives an
            # error that does not tell whether the request was handled, and a token is spent once.
            limits = httpx2.Limits(
                max_connections=bounds.connections_max, max_keepalive_connections=0
            )
            self._transports[key] = httpx2.AsyncHTTPTransport(
                verify=self._trust(bounds.route),
                trust_env=False,
                limits=limits,
                proxy=proxy,
                retries=0,
            )
        return self._transports[key]

    def _trust(self, route: Route) -> ssl.SSLContext:
        """Return whom to trust; reading the system's authorities takes longer than a request."""
        if self._tls is not None:
            return self._tls
        if route.ca_file not in self._trusted:
            self._trusted[route.ca_file] = route.trust()
        return self._trusted[route.ca_file]


async def _read(response: httpx2.Response, body: bytearray, bytes_max: int) -> _End:
    """Read the body into ``body``, which keeps what came if this is cut short."""
    try:
        async with contextlib.aclosing(response.aiter_raw()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > bytes_max:
                    return _End.TOO_LARGE
    finally:
        await response.aclose()
    return _End.WHOLE


def _answered(
    response: httpx2.Response, raw: bytes, bounds: Bounds, times: tuple[datetime, datetime]
) -> Answered | Lost:
    """Return the answer as the domain reads it; provider texts are cut to what is needed."""
    sent_at, received_at = times
    body, fault = _unpacked(response, raw, bounds.answer_bytes_max)
    headers = response.headers
    remaining = {headers.get(name, "").strip() for name in _REMAINING}
    retry_after = headers.get("retry-after", "").strip()
    content_type = headers.get("content-type", "").strip()
    answer = Answered(
        status=response.status_code,
        body=Secret(body),
        content_type=content_type if _CONTENT_TYPE.fullmatch(content_type) else "",
        retry_after=retry_after if _RETRY_AFTER.fullmatch(retry_after) else None,
        is_rate_limited=response.status_code in _RATE_LIMIT_STATUSES and "0" in remaining,
        sent_at=sent_at,
        received_at=received_at,
        date=_date(headers.get("date", "")),
    )
    return answer if fault is None else Lost(code=fault, cut=answer if body else None)


def _rescued(
    progress: _Progress, bounds: Bounds, times: tuple[datetime, datetime], lost_code: str
) -> Answered | Lost:
    """Return what came of an answer before the exchange broke off.

    A server that names a wrong length, or resets instead of closing, may have sent the only copy
    of a new refresh token. A JSON object tells its own end, so one that parses is whole; of
    anything else the domain takes the values that are.
    """
    if progress.response is None or len(progress.body) > bounds.answer_bytes_max:
        return Lost(code=lost_code)
    answer = _answered(progress.response, bytes(progress.body), bounds, times)
    if isinstance(answer, Lost):
        return structs.replace(answer, code=lost_code)
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        msgspec.json.decode(answer.body.reveal(), type=dict[str, Any])
        return answer
    return Lost(code=lost_code, cut=answer if progress.body else None)


def _unpacked(
    response: httpx2.Response, raw: bytes, bytes_max: int
) -> tuple[bytes, Literal["answer_unreadable", "answer_too_large"] | None]:
    """Return the plain body, unpacked no further than its bound, and why it is not all of it."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity") or not raw:
        return raw, None
    if coding not in ("gzip", "x-gzip", "deflate"):
        return b"", "answer_unreadable"
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        body = unpacker.decompress(raw, bytes_max + 1)
    except zlib.error:
        return b"", "answer_unreadable"
    if len(body) > bytes_max:
        return b"", "answer_too_large"
    return body, None if unpacker.eof else "answer_unreadable"


def _cause(error: BaseException) -> str:
    """Return why an exchange broke off: the system's or the TLS library's word for it."""
    while True:
        inner = error.__cause__ or error.__context__
        if isinstance(error, BaseExceptionGroup):
            inner = error.exceptions[0]
        if inner is None:
            break
        error = inner
    match error:
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError(reason=str(text)) | socket.gaierror(strerror=str(text)):
            return text
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return type(error).__name__


def _date(text: str) -> datetime | None:
    """Return an HTTP-date as aware UTC (RFC 9110 section 5.6.7)."""
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
