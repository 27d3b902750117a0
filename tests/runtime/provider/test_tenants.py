"""One tenant's bad host or bad values stop no other tenant: actors before real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from domain.commands import Connect, GetToken
from domain.credentials import CredentialType, Secret, Unsealed
from domain.profile import NO_REUSE, ProviderProfile
from domain.result import FailureCode
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from runtime.provider.client_auth import ProviderSecrets
from runtime.provider.token_endpoint import HttpTokenEndpoint
from runtime.world import SystemClock
from tests.fakes.commands import PROVIDER, USER, connection_number
from tests.fakes.providers import providers
from tests.fakes.stage import Sent, Stage

_GOOD_HOST, _BAD_HOST = "127.0.0.1", "127.0.0.2"
_ANSWERS = {
    "not there": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "moved": b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
    "limited": b"HTTP/1.1 429 Slow\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n",
    "denies the client": b"HTTP/1.1 401 No\r\nContent-Type: application/json\r\n"
    b'Content-Length: 26\r\n\r\n{"error":"invalid_client"}',
}


@contextlib.asynccontextmanager
async def _answering(answer: bytes, port: int) -> AsyncGenerator[None]:
    """Serve one answer to everybody at another loopback host."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, _BAD_HOST, port)
    async with server:
        yield


def _profile(provider: FakeProvider) -> ProviderProfile:
    return ProviderProfile(
        slug="fake",
        token_endpoint=provider.token_endpoint.replace(_GOOD_HOST, "{tenant}"),
        allowed_hosts=(_GOOD_HOST, _BAD_HOST),
        client_id=provider.client.client_id,
        reuse_policy=NO_REUSE,
    )


class _Town:
    """Connections of several tenants."""

    def __init__(self, provider: FakeProvider, endpoint: HttpTokenEndpoint) -> None:
        self.provider = provider
        self.stage = Stage(clock=SystemClock(), providers=providers(endpoint, _profile(provider)))
        self.connections = 0

    async def ask(self, tenant: str) -> Sent:
        """Connect a new grant at a tenant's host, and ask for its token."""
        self.connections += 1
        grant, connection_id = (
            self.provider.create(expires_in=-1),
            connection_number(self.connections),
        )
        secret = {"access_token": grant.access_token, "refresh_token": grant.refresh_token}
        await self.stage.ask(
            Connect(
                connection_id=connection_id,
                user_id=USER,
                provider_id=PROVIDER,
                provider_slug="fake",
                params={"tenant": tenant},
                credentials=Unsealed(
                    credential_type=CredentialType.OAUTH2,
                    secret=Secret(msgspec.json.encode(secret)),
                    expires_at=datetime.now(UTC) - timedelta(seconds=1),
                ),
            )
        )
        sent = self.stage.send(GetToken(connection_id=connection_id), patience_s=4.0)
        await sent.answered.wait()
        return sent


@pytest.mark.parametrize("answer", list(_ANSWERS))
async def test_a_bad_host_and_bad_values_refuse_nobody_at_a_good_host(answer: str) -> None:
    async with running_fake_provider() as provider:
        port = int(provider.token_endpoint.rpartition(":")[2].partition("/")[0])
        secrets = ProviderSecrets(
            client_secrets=tuple(Secret(one.encode()) for one in provider.client.client_secrets)
        )
        async with (
            _answering(_ANSWERS[answer], port),
            HttpTokenEndpoint(lambda _: secrets, now=lambda: datetime.now(UTC)) as endpoint,
        ):
            town = _Town(provider, endpoint)
            async with town.stage.opened():
                bad = [
                    await town.ask(tenant)
                    for tenant in [_BAD_HOST] * 6 + ["my_shop", "gone.example"] * 3
                ]
                good = [await town.ask(_GOOD_HOST) for _ in range(6)]

    expected = {FailureCode.PROVIDER_MISCONFIGURED, FailureCode.PROVIDER_UNAVAILABLE}
    assert {one.code for one in bad} <= expected
    assert [one.code for one in good] == [None] * 6
