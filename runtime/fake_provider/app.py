"""The endpoints of the fake provider: the standard ones, and those that steer and observe it.

The latter ask for no password: whoever reaches the loopback port may use them.
"""

from email.utils import formatdate
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.fake_provider import answers
from runtime.fake_provider.asked import read_asked
from runtime.fake_provider.clients import Client
from runtime.fake_provider.grants import Refused, RevocationCause
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.token_endpoint import token_request
from runtime.fake_provider.wire import PlainAnswer

T = TypeVar("T")


class CreateGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /grants``."""

    subject: str = "user"
    expires_in: float | None = None
    client_id: str | None = None


class SetQuirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /quirks``."""

    quirks: dict[str, Any]
    grant: str | None = None
    next: int | None = None
    replace: bool = False


class BadBodyError(Exception):
    """The body of a steering request is wrong; the text says how."""


def make_app(provider: FakeProvider) -> Starlette:
    """Return the ASGI application."""

    async def token(request: Request) -> Response:
        return await token_request(provider, request)

    steering = _Steering(provider)
    standard = _Standard(provider)
    return Starlette(
        routes=[
            Route("/token", token, methods=["GET", "POST"]),
            Route("/revoke", standard.revoke, methods=["POST"]),
            Route("/resource", standard.resource),
            Route("/redirected", standard.redirected, methods=["GET", "POST"]),
            Route("/.well-known/openid-configuration", standard.metadata),
            Route("/.well-known/oauth-authorization-server", standard.metadata),
            Route("/grants", steering.create_grant, methods=["POST"]),
            Route("/grants/{grant_id}", steering.show_grant),
            Route("/grants/{grant_id}/revoke", steering.revoke_grant, methods=["POST"]),
            Route("/clients", steering.put_client, methods=["POST"]),
            Route("/quirks", steering.show_quirks, methods=["GET"]),
            Route("/quirks", steering.set_quirks, methods=["POST"]),
            Route("/stats", steering.show_stats),
            Route("/release", steering.release, methods=["POST"]),
            Route("/reset", steering.reset, methods=["POST"]),
        ],
        exception_handlers={BadBodyError: _bad_body},
    )


class _Standard:
    """What every authorization server has, and a protected resource."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider

    async def metadata(self, request: Request) -> Response:  # noqa: ARG002 -- a handler's shape
        """Tell where everything is (RFC 8414 section 3.2; OpenID Connect Discovery 1.0)."""
        provider = self._provider
        quirks = provider.quirks.base
        methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
        if quirks.client_auth != "any":
            methods = [quirks.client_auth]
        return _json(
            {
                "issuer": quirks.discovery_issuer or provider.url,
                "token_endpoint": provider.token_endpoint,
                "revocation_endpoint": f"{provider.url}/revoke",
                "response_types_supported": [],
                "grant_types_supported": ["refresh_token"],
                "token_endpoint_auth_methods_supported": methods,
                "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
            }
        )

    async def resource(self, request: Request) -> Response:
        """Answer who holds a good access token (RFC 6750 section 3)."""
        provider = self._provider
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        age_s = provider.book.settled_s(token.strip()) if scheme.lower() == "bearer" else None
        if age_s is None or age_s < provider.quirks.base.settling_s:
            challenge = 'Bearer error="invalid_token"' if token else "Bearer"
            return _json({"error": "invalid_token"}, 401, {"www-authenticate": challenge})
        return _json({"ok": True})

    async def redirected(self, request: Request) -> Response:  # noqa: ARG002 -- a handler's shape
        """Tell that somebody followed a redirect of the token endpoint (quirk 33)."""
        self._provider.stats.redirects_followed += 1
        return _json({"error": "redirect_followed"}, 400)

    async def revoke(self, request: Request) -> Response:
        """Revoke a token (RFC 7009 section 2): 200 also for one that is unknown."""
        provider = self._provider
        asked = await read_asked(request)
        quirks = provider.quirks.base
        client = provider.clients.check(
            asked,
            quirks=quirks,
            audiences=(provider.url, provider.token_endpoint, f"{provider.url}/revoke"),
            now_s=provider.clock() + quirks.clock_skew_s,
        )
        if isinstance(client, Refused):
            return PlainAnswer(answers.refusal(client, quirks))
        token = asked.parameters.get("token", "")
        if not token:
            missing = Refused(code="invalid_request", description="token is missing.")
            return PlainAnswer(answers.refusal(missing, quirks))
        provider.book.revoke_token(token, client_id=client.client_id)
        return Response(status_code=200)


class _Steering:
    """What only a test asks for."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider

    async def create_grant(self, request: Request) -> Response:
        """Create a grant, as if its user had just consented."""
        asked = await _body(request, CreateGrant)
        try:
            issued = self._provider.create(
                asked.subject, client_id=asked.client_id, expires_in=asked.expires_in
            )
        except OverflowError as error:
            raise BadBodyError(str(error)) from None
        return _json(
            {
                "grant": issued.grant_id,
                "access_token": issued.access_token,
                "refresh_token": issued.refresh_token,
                "token_type": "Bearer",
                "expires_in": int(issued.expires_at - self._provider.clock()),
                "expires_at": issued.expires_at,
            },
            201,
        )

    async def show_grant(self, request: Request) -> Response:
        """Show a grant's state; no token is in it."""
        grant = self._provider.book.get(request.path_params["grant_id"])
        return _json({"error": "no such grant"}, 404) if grant is None else _json(grant.state())

    async def revoke_grant(self, request: Request) -> Response:
        """End a grant, as if its user had withdrawn consent."""
        grant = self._provider.book.get(request.path_params["grant_id"])
        if grant is None:
            return _json({"error": "no such grant"}, 404)
        self._provider.book.revoke(grant, RevocationCause.ADMIN)
        return _json(grant.state())

    async def put_client(self, request: Request) -> Response:
        """Add or replace a client."""
        client = await _body(request, Client)
        try:
            self._provider.clients.put(client)
        except ValueError as error:
            raise BadBodyError(str(error)) from None
        return _json({"client_id": client.client_id})

    async def show_quirks(self, request: Request) -> Response:
        """Show what applies to all, or to the grant of ``?grant=``."""
        return _json(self._provider.quirks.of(request.query_params.get("grant")))

    async def set_quirks(self, request: Request) -> Response:
        """Change quirks for all, one grant, or the next so many requests."""
        asked = await _body(request, SetQuirks)
        try:
            self._provider.quirks.set(
                asked.quirks, grant_id=asked.grant, next_requests=asked.next, replace=asked.replace
            )
        except (msgspec.ValidationError, OverflowError) as error:
            raise BadBodyError(str(error)) from None
        return _json(self._provider.quirks.of(asked.grant))

    async def show_stats(self, request: Request) -> Response:  # noqa: ARG002 -- a handler's shape
        """Show the counters."""
        return _json(self._provider.stats)

    async def release(self, request: Request) -> Response:  # noqa: ARG002 -- a handler's shape
        """Let the requests that hang go on."""
        return _json({"released": self._provider.release()})

    async def reset(self, request: Request) -> Response:  # noqa: ARG002 -- a handler's shape
        """Forget grants, quirks and counters."""
        self._provider.reset()
        return _json({"ok": True})


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(body),
        status,
        {"date": formatdate(usegmt=True)} | (headers or {}),
        "application/json",
    )


async def _body(request: Request, shape: type[T]) -> T:
    """Return the JSON body of a steering request; an empty one is an empty object.

    Raises:
        BadBodyError: It has another shape.
    """
    body = await request.body()
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBodyError(str(error)) from None


async def _bad_body(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return _json({"error": "bad_request", "error_description": str(error)}, 400)
