"""The way to a provider: a CA of its own, the environment's, a proxy that leads there or does not."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, NotSent
from runtime.provider.profiles import load_profiles
from runtime.provider.secret_files import ConfigError
from runtime.provider.token_endpoint import HttpTokenEndpoint
from tests.fakes.raw_http import RawHttpServer, answer, certificate, raw_http

TOKENS = b'{"access_token":"new-access","refresh_token":"new-refresh"}'
VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class ConnectProxy:
    """A proxy that opens a tunnel for CONNECT, or refuses to."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.status = "200 Connection established"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head.split("\r\n", 1)[0])
            writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
            if self.status.startswith("200"):
                host, _, port = head.split(" ")[1].rpartition(":")
                there = await asyncio.open_connection(host, int(port))
                await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncGenerator[ConnectProxy]:
    made = ConnectProxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncGenerator[RawHttpServer]:
    """A token endpoint whose certificate is of a CA of its own."""
    tls, _ = certificate(tmp_path)
    async with raw_http(answer(TOKENS), tls=tls) as server:
        yield server


async def asked(server: RawHttpServer, **section: Any) -> Exchange:
    fields = {
        "token_endpoint": server.url.replace("http:", "https:"),
        "client_id": "us",
        "client_auth": "none",
        "timeout_s": 5,
    }
    profiles = load_profiles({"acme": fields | section})
    profile = profiles.get("acme")
    assert profile is not None
    async with HttpTokenEndpoint(
        profiles.secrets, routes=profiles.route, now=lambda: datetime.now(UTC)
    ) as endpoint:
        return await endpoint.exchange(
            ExchangeRequest(profile=profile, presented=Secret(b"old-refresh"))
        )


def nowhere() -> RawHttpServer:
    server = RawHttpServer()
    server.port = 1
    return server


async def test_a_provider_may_have_a_ca_of_its_own(provider: RawHttpServer, tmp_path: Path):
    assert await asked(provider) == NotSent(code="tls_failed")
    assert isinstance(await asked(provider, ca_file=str(tmp_path / "server.pem")), Answered)


async def test_the_environment_may_name_the_authorities(
    provider: RawHttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))

    assert isinstance(await asked(provider), Answered)


async def test_a_proxy_of_the_environment_leads_to_the_provider_unless_it_is_excepted(
    provider: RawHttpServer,
    proxy: ConnectProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    ca_file = str(tmp_path / "server.pem")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    through = await asked(provider, ca_file=ca_file)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    past = await asked(provider, ca_file=ca_file)
    monkeypatch.delenv("NO_PROXY")
    none = await asked(provider, ca_file=ca_file, proxy="")

    assert all(isinstance(exchange, Answered) for exchange in (through, past, none))
    assert proxy.asked == [f"CONNECT 127.0.0.1:{provider.port} HTTP/1.1"]
    assert len(provider.requests) == 3


async def test_a_provider_may_have_a_proxy_of_its_own(
    provider: RawHttpServer, proxy: ConnectProxy, tmp_path: Path
):
    ca_file = str(tmp_path / "server.pem")

    assert isinstance(await asked(provider, ca_file=ca_file, proxy=proxy.url), Answered)
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_does_not_lead_there_was_sent_nothing_of_the_request(
    provider: RawHttpServer, proxy: ConnectProxy, status: str
):
    proxy.status = status

    assert await asked(provider, proxy=proxy.url) == NotSent(code="proxy_failed")
    assert not provider.requests


async def test_within_a_tunnel_an_untrusted_provider_is_sent_nothing(
    provider: RawHttpServer, proxy: ConnectProxy
):
    assert await asked(provider, proxy=proxy.url) == NotSent(code="tls_failed")
    assert not provider.requests


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"ca_file": "/nowhere"}, "providers.acme.ca_file: /nowhere: No such file"),
        ({"ca_file": 7}, "providers.acme.ca_file: expected a path"),
        ({"proxy": "socks5://127.0.0.1:1"}, "providers.acme.proxy: expected http://host:port"),
        ({"proxy": "http://me:hush@p:1"}, "providers.acme.proxy: no password here"),
    ],
)
async def test_a_way_that_cannot_be_used_is_told_at_start(section: dict[str, Any], said: str):
    with pytest.raises(ConfigError) as error:
        await asked(nowhere(), **section)

    assert said in str(error.value)
    assert "hush" not in str(error.value)


async def test_a_file_without_certificates_is_told_at_start(tmp_path: Path):
    (tmp_path / "empty.pem").write_text("nothing")

    with pytest.raises(ConfigError, match="no certificates in PEM"):
        await asked(nowhere(), ca_file=str(tmp_path / "empty.pem"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere"),
        ("HTTPS_PROXY", "https://me:hush@proxy:1"),
        ("ALL_PROXY", "socks5://me:hush@proxy:1"),
    ],
)
async def test_an_environment_that_cannot_be_used_is_told_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=f"environment variable {name}: ") as error:
        await asked(nowhere())

    assert "hush" not in str(error.value)
