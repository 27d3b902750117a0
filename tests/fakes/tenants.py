"""A provider with several clients and hosts, each of which can be broken in its own way."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import anyio
import msgspec

from actors.ports import Clock
from domain.commands import Connect
from domain.credentials import CredentialType, Secret, Unsealed
from domain.exchange import (
    NOWHERE,
    Answered,
    Exchange,
    ExchangeRequest,
    Misconfigured,
    NotSent,
    Place,
)
from domain.profile import NON_ROTATING, ProviderProfile
from tests.fakes.commands import PROVIDER, USER


class Fault(StrEnum):
    """What is wrong with a connection, with a host or with a client."""

    # With a connection.
    VALUE_MALFORMED = "value_malformed"
    REQUEST_TOO_LONG = "request_too_long"
    UNKNOWN_CODE = "unknown_code"
    BAD_REQUEST = "bad_request"
    NO_TOKENS = "no_tokens"
    SERVER_ERROR = "server_error"
    """A grant at which the provider's own software fails."""
    ITS_OWN_CLIENT = "its_own_client"
    """Its grant was given to another client: ``unauthorized_client``."""
    # With a host.
    NOT_FOUND = "not_found"
    MOVED = "moved"
    LIMITED = "limited"
    PAGE = "page"
    UNREACHABLE = "unreachable"
    OTHER_ISSUER = "other_issuer"
    DENIES_CLIENT = "denies_client"
    """It alone does not know the client."""
    # With a client.
    BAD_SECRET = "bad_secret"


OF_CONNECTION = (
    Fault.VALUE_MALFORMED,
    Fault.REQUEST_TOO_LONG,
    Fault.UNKNOWN_CODE,
    Fault.BAD_REQUEST,
    Fault.NO_TOKENS,
    Fault.SERVER_ERROR,
)
OF_HOST = (
    Fault.NOT_FOUND,
    Fault.MOVED,
    Fault.LIMITED,
    Fault.PAGE,
    Fault.UNREACHABLE,
    Fault.OTHER_ISSUER,
)


class TenantProvider:
    """Answers each connection by what is wrong with it, its host or its client."""

    def __init__(self, clock: Clock, *, lifetime_s: int) -> None:
        """Start with everything sound."""
        self.clock = clock
        self.lifetime_s = lifetime_s
        self.takes_s = 0.1
        self.faults: dict[str, Fault] = {}
        """By refresh token, host or client id."""
        self.asked: Counter[str] = Counter()
        """By refresh token."""

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """See ``TokenEndpoint``."""
        del endpoint_base
        host = (params or {}).get("shop", "everybody") if profile.is_templated else "everybody"
        if host == "mal_formed":
            return NOWHERE
        return Place(host, f"https://{host}/token")

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        token = request.presented.reveal().decode()
        self.asked[token] += 1
        host = self.place(request.profile, request.params, None).host
        for name in (token, host, request.profile.client_id):
            if name in self.faults:
                await anyio.sleep(self.takes_s)
                return self._failed(self.faults[name])
        await anyio.sleep(self.takes_s)
        return self._answered(200, {"access_token": f"a-{token}", "expires_in": self.lifetime_s})

    def _failed(self, fault: Fault) -> Exchange:
        answers: dict[Fault, Callable[[], Exchange]] = {
            Fault.VALUE_MALFORMED: lambda: Misconfigured(code="endpoint_malformed"),
            Fault.REQUEST_TOO_LONG: lambda: Misconfigured(code="request_too_long"),
            Fault.UNKNOWN_CODE: lambda: self._answered(400, {"error": "account_inactive"}),
            Fault.BAD_REQUEST: lambda: self._answered(400, {"error": "invalid_request"}),
            Fault.NO_TOKENS: lambda: self._answered(200, {}),
            Fault.SERVER_ERROR: lambda: self._answered(500, {}),
            Fault.ITS_OWN_CLIENT: lambda: self._answered(400, {"error": "unauthorized_client"}),
            Fault.NOT_FOUND: lambda: self._answered(404, "not here"),
            Fault.MOVED: lambda: self._answered(302, ""),
            Fault.LIMITED: lambda: self._answered(429, {}, retry_after="3600"),
            Fault.PAGE: lambda: self._answered(403, b"<html>", content_type="text/html"),
            Fault.UNREACHABLE: lambda: NotSent(code="connect_failed"),
            Fault.OTHER_ISSUER: lambda: Misconfigured(code="issuer_mismatch"),
            Fault.DENIES_CLIENT: lambda: self._answered(401, {"error": "invalid_client"}),
            Fault.BAD_SECRET: lambda: self._answered(401, {"error": "invalid_client"}),
        }
        return answers[fault]()

    def _answered(
        self,
        status: int,
        body: object,
        *,
        retry_after: str | None = None,
        content_type: str = "application/json",
    ) -> Answered:
        return Answered(
            status=status,
            body=Secret(body if isinstance(body, bytes) else msgspec.json.encode(body)),
            content_type=content_type,
            retry_after=retry_after,
            sent_at=self.clock.now() - timedelta(seconds=self.takes_s),
        )


def shared(slug: str, **fields: Any) -> ProviderProfile:
    """Return the profile of a provider with one host for everybody."""
    return ProviderProfile(
        slug=slug,
        client_id=slug,
        reuse_policy=NON_ROTATING,
        token_endpoint="https://everybody/token",
        **fields,
    )


def by_shop(slug: str, **fields: Any) -> ProviderProfile:
    """Return the profile of a provider with a host for each tenant."""
    return ProviderProfile(
        slug=slug,
        client_id=slug,
        reuse_policy=NON_ROTATING,
        token_endpoint="https://{shop}/token",
        **fields,
    )


def connect(connection_id: UUID, slug: str, token: str, *, shop: str, clock: Clock) -> Connect:
    """Return a connect whose access token has just ended."""
    return Connect(
        connection_id=connection_id,
        user_id=USER,
        provider_id=PROVIDER,
        provider_slug=slug,
        params={"shop": shop},
        credentials=Unsealed(
            credential_type=CredentialType.OAUTH2,
            secret=Secret(msgspec.json.encode({"access_token": "a", "refresh_token": token})),
            expires_at=clock.now() - timedelta(seconds=1),
        ),
    )
