"""NotSent is said only where no byte of the request can have gone out; all else is Lost.

Real sockets on loopback misbehave; no request is ever made twice.
"""

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, Lost, NotSent
from domain.profile import ClientAuth, ProviderProfile
from runtime.provider.client_auth import ProviderSecrets
from runtime.provider.token_endpoint import HttpTokenEndpoint
from tests.fakes.raw_http import (
    Behaviour,
    RawHttpServer,
    answer,
    certificate,
    raw_http,
    reset,
    says,
    silent,
)

SOON_S = 0.25
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
TOKENS = b'{"access_token":"new-access","refresh_token":"new-refresh"}'
GZIPPED = HEAD + b"Content-Encoding: gzip\r\n"


def opened(tls: ssl.SSLContext | None = None) -> HttpTokenEndpoint:
    return HttpTokenEndpoint(lambda _: ProviderSecrets(), now=lambda: datetime.now(UTC), tls=tls)


def asking(url: str, **fields: Any) -> ExchangeRequest:
    profile = ProviderProfile(
        slug="acme", token_endpoint=url, client_id="us", client_auth=ClientAuth.NONE, **fields
    )
    return ExchangeRequest(profile=profile, presented=Secret(b"old-refresh"))


async def outcome(url: str, **fields: Any) -> Exchange:
    async with opened() as endpoint:
        return await endpoint.exchange(asking(url, **fields))


async def secured(server: RawHttpServer, tls: ssl.SSLContext, host: str = "127.0.0.1") -> Exchange:
    async with opened(tls) as endpoint:
        return await endpoint.exchange(asking(f"https://{host}:{server.port}/token"))


@contextlib.contextmanager
def full_backlog() -> Generator[int]:
    """A port whose server accepts nobody, with a queue that is full: a connect hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_refused_connection_is_not_sent():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))

        exchange = await outcome(f"http://127.0.0.1:{bound.getsockname()[1]}/token")

    assert exchange == NotSent(code="connect_failed")


async def test_a_name_that_does_not_resolve_is_not_sent(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    exchange = await outcome("https://provider.invalid/token")

    assert exchange == NotSent(code="connect_failed")


@pytest.mark.parametrize(
    "bounds",
    [
        {"connect_timeout_s": SOON_S, "timeout_s": 30.0},
        {"connect_timeout_s": 30.0, "timeout_s": SOON_S},
    ],
    ids=["connect", "total"],
)
async def test_a_connect_that_takes_too_long_is_not_sent(bounds: dict[str, float]):
    with full_backlog() as port:
        exchange = await outcome(f"http://127.0.0.1:{port}/token", **bounds)

    assert exchange == NotSent(code="connect_failed")


async def test_tls_spoken_to_a_plain_server_is_not_sent():
    async def plain(
        _server: RawHttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_http(plain) as server:
        exchange = await outcome(server.url.replace("http:", "https:"))

    assert exchange == NotSent(code="tls_failed")


async def test_a_trusted_tls_server_is_asked(tmp_path: Path):
    tls, client = certificate(tmp_path)

    async with raw_http(answer(TOKENS), tls=tls) as server:
        exchange = await secured(server, client)

    assert isinstance(exchange, Answered)


async def test_a_handshake_cut_short_leaves_no_socket_behind():
    async with raw_http(silent) as server:
        await outcome(server.url.replace("http:", "https:"), timeout_s=SOON_S)

        await asyncio.wait_for(server.left.wait(), 5)


async def test_a_certificate_that_is_not_trusted_is_not_sent(tmp_path: Path):
    tls, _ = certificate(tmp_path)

    async with raw_http(answer(TOKENS), tls=tls) as server:
        exchange = await outcome(server.url.replace("http:", "https:"))

    assert exchange == NotSent(code="tls_failed")
    assert not server.requests


async def test_a_certificate_for_another_host_is_not_sent(tmp_path: Path):
    tls, client = certificate(tmp_path)

    async with raw_http(answer(TOKENS), tls=tls) as server:
        exchange = await secured(server, client, "localhost")

    assert exchange == NotSent(code="tls_failed")
    assert not server.requests


@pytest.mark.parametrize(
    "bounds",
    [
        {"connect_timeout_s": SOON_S, "timeout_s": 30.0},
        {"connect_timeout_s": 30.0, "timeout_s": SOON_S},
    ],
    ids=["connect", "total"],
)
async def test_a_handshake_that_never_ends_is_not_sent(bounds: dict[str, float]):
    async with raw_http(silent) as server:
        exchange = await outcome(server.url.replace("http:", "https:"), **bounds)

    assert exchange == NotSent(code="tls_failed")


async def test_one_silent_host_takes_no_slot_of_another():
    async with raw_http(silent) as mute, raw_http(answer(TOKENS)) as server, opened() as endpoint:
        first = asyncio.create_task(endpoint.exchange(asking(mute.url, max_concurrency=1)))
        await mute.asked.wait()

        exchange = await endpoint.exchange(asking(server.url, max_concurrency=1))

        assert isinstance(exchange, Answered)
        first.cancel()
        await asyncio.wait({first})


async def test_one_silent_provider_takes_no_slot_of_another():
    async with raw_http(silent) as mute, raw_http(answer(TOKENS)) as server, opened() as endpoint:
        first = asyncio.create_task(endpoint.exchange(asking(mute.url, max_concurrency=1)))
        await mute.asked.wait()
        request = asking(server.url, max_concurrency=1)
        request = ExchangeRequest(
            profile=ProviderProfile(
                slug="other",
                token_endpoint=server.url,
                client_auth=ClientAuth.NONE,
                max_concurrency=1,
            ),
            presented=request.presented,
        )

        exchange = await endpoint.exchange(request)

        assert isinstance(exchange, Answered)
        first.cancel()
        await asyncio.wait({first})


async def closing(
    _server: RawHttpServer, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
) -> None:
    """Accept, and close without reading."""


async def resetting(
    _server: RawHttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(1)
    reset(writer)


BROKEN: dict[str, tuple[Behaviour, str]] = {
    "closes at once": (closing, "connection_lost"),
    "resets while reading": (resetting, "connection_lost"),
    "reads and closes": (says(b""), "connection_lost"),
    "reads and resets": (says(b"", resets=True), "connection_lost"),
    "never answers": (silent, "timeout"),
    "half a head": (says(HEAD), "connection_lost"),
    "half a head, and silence": (says(HEAD, stays=True), "timeout"),
    "closes in the body": (
        says(HEAD + b"Content-Length: 59\r\n\r\n" + TOKENS[:30]),
        "connection_lost",
    ),
    "resets in the body": (
        says(HEAD + b"Content-Length: 59\r\n\r\n" + TOKENS[:30], resets=True),
        "connection_lost",
    ),
    "falls silent in the body": (
        says(HEAD + b"Content-Length: 59\r\n\r\n" + TOKENS[:30], stays=True),
        "timeout",
    ),
    "names too long a length": (
        says(HEAD + b"Content-Length: 99\r\n\r\naccess_token=a&expires_in=36"),
        "connection_lost",
    ),
    "names two lengths": (
        says(HEAD + b"Content-Length: 3\r\nContent-Length: 59\r\n\r\n" + TOKENS),
        "connection_lost",
    ),
    "names a negative length": (
        says(HEAD + b"Content-Length: -1\r\n\r\n" + TOKENS),
        "connection_lost",
    ),
    "breaks a chunk": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3b\r\n" + TOKENS[:20]),
        "connection_lost",
    ),
    "names no chunk size": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + TOKENS),
        "connection_lost",
    ),
    "says garbage": (says(b"\x00\xff not http at all\r\n\r\n"), "connection_lost"),
    "speaks another protocol": (says(b"220 smtp.example ESMTP\r\n"), "connection_lost"),
    "sends heads without end": (
        says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000),
        "connection_lost",
    ),
    "says only continue": (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 9, stays=True), "timeout"),
    "switches protocols": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "connection_lost",
    ),
    "answers more than was agreed": (
        says(HEAD + b"Content-Length: 99999\r\n\r\n" + b" " * 99_999),
        "answer_too_large",
    ),
    "answers without end": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b" " * 1024) * 90),
        "answer_too_large",
    ),
    "packs more than was agreed": (
        says(GZIPPED + b"\r\n" + gzip.compress(b" " * 1_000_000)),
        "answer_too_large",
    ),
    "packs half": (says(GZIPPED + b"\r\n" + gzip.compress(TOKENS)[:40]), "answer_unreadable"),
    "breaks off in what it packs": (
        says(GZIPPED + b"Content-Length: 99\r\n\r\n" + gzip.compress(TOKENS)[:40]),
        "connection_lost",
    ),
    "breaks off in more than was agreed": (
        says(GZIPPED + b"Content-Length: 9999\r\n\r\n" + gzip.compress(TOKENS + b" " * 9_999)),
        "connection_lost",
    ),
    "packs nonsense": (says(GZIPPED + b"\r\n" + b"no gzip"), "answer_unreadable"),
    "packs as nobody asked": (
        says(HEAD + b"Content-Encoding: br\r\n\r\n" + b"whatever"),
        "answer_unreadable",
    ),
}


CAME = {
    "closes in the body": TOKENS[:30],
    "resets in the body": TOKENS[:30],
    "falls silent in the body": TOKENS[:30],
    "names too long a length": b"access_token=a&expires_in=36",
    "breaks a chunk": TOKENS[:20],
    "packs half": b'{"access_token"',
    "breaks off in what it packs": b'{"access_token"',
}
"""With what begins that which is left of an answer; of the others nothing is."""


@pytest.mark.parametrize("case", BROKEN)
async def test_what_may_have_been_sent_is_lost_and_not_sent_again(case: str):
    behaviour, code = BROKEN[case]
    timeout_s = SOON_S if code == "timeout" else 30.0

    async with raw_http(behaviour) as server:
        exchange = await outcome(server.url, timeout_s=timeout_s, answer_bytes_max=4096)

    assert isinstance(exchange, Lost)
    assert exchange.code == code
    assert server.connections == 1
    assert (exchange.cut is not None) == (case in CAME)
    assert exchange.cut is None or exchange.cut.body.reveal().startswith(CAME[case])


async def test_http_spoken_to_a_tls_port_is_lost(tmp_path: Path):
    tls, _ = certificate(tmp_path)

    async with raw_http(answer(TOKENS), tls=tls) as server:
        exchange = await outcome(server.url)

    assert exchange == Lost(code="connection_lost")


async def test_a_tls_server_that_closes_after_the_handshake_leaves_it_lost(tmp_path: Path):
    tls, client = certificate(tmp_path)

    async with raw_http(closing, tls=tls) as server:
        exchange = await secured(server, client)

    assert exchange == Lost(code="connection_lost")


async def test_what_the_transport_never_told_of_counts_as_sent(monkeypatch: pytest.MonkeyPatch):
    async def bug(*_: object) -> None:
        raise RuntimeError("a bug below us")

    monkeypatch.setattr("httpcore2._async.http11.AsyncHTTP11Connection._send_event", bug)

    async with raw_http(silent) as server:
        exchange = await outcome(server.url)

    assert exchange == Lost(code="connection_lost")


WHOLE = {
    "a wrong length": says(HEAD + b"Content-Length: 999\r\n\r\n" + TOKENS),
    "a reset": says(HEAD + b"Content-Length: 999\r\n\r\n" + TOKENS, resets=True),
    "no last chunk": says(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3b\r\n" + TOKENS + b"\r\n", stays=True
    ),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_a_json_object_that_came_whole_survives_how_the_answer_ended(case: str):
    async with raw_http(WHOLE[case]) as server:
        exchange = await outcome(server.url, timeout_s=SOON_S if "chunk" in case else 30.0)

    assert isinstance(exchange, Answered)
    assert exchange.body.reveal() == TOKENS


async def test_a_cancellation_is_let_through_and_closes_the_connection():
    async with raw_http(silent) as mute, opened() as endpoint:
        task = asyncio.create_task(endpoint.exchange(asking(mute.url)))
        await mute.asked.wait()

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(mute.left.wait(), 5)


async def test_a_time_out_closes_the_connection():
    async with raw_http(silent) as mute, opened() as endpoint:
        exchange = await endpoint.exchange(asking(mute.url, timeout_s=SOON_S))

        await asyncio.wait_for(mute.left.wait(), 5)
        assert exchange == Lost(code="timeout")
