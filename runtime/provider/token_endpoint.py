"""One request to a provider's token endpoint, and what came of it.

The adapter of ``actors.ports.TokenEndpoint``: finds the URL, proves the client, sends once.
What an answer means is ``domain``'s to judge.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx2
import msgspec

from domain.credentials import Secret
from domain.exchange import (
    NOWHERE,
    Answered,
    Exchange,
    ExchangeRequest,
    Lost,
    Misconfigured,
    NotSent,
    Place,
)
from domain.profile import ProviderProfile
from runtime.provider.client_auth import ClientAuthenticator, ProviderSecrets
from runtime.provider.clocks import ProviderClocks
from runtime.provider.discovery import Discovery
from runtime.provider.endpoint_url import resolved_url, template_names
from runtime.provider.http_sender import Bounds, HttpSender
from runtime.provider.route import DIRECT, Route
from runtime.provider.token_request import USER_AGENT, token_request

_DISCOVERY_CONNECT_TIMEOUT_S = 5.0
_DISCOVERY_TIMEOUT_S = 10.0
_DISCOVERY_CONNECTIONS_MAX = 16
_DISCOVERY_BYTES_MAX = 256 * 1024
_PROBE_TOKEN = "refreshd-probe-this-is-no-token"  # noqa: S105 -- its very point
_PLAIN_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a request with a token that cannot be valid showed. Holds no secret."""

    outcome: str
    """``answered``, or the code of what went wrong."""
    detail: str | None = None
    """What is missing, or why no answer came."""
    endpoint: str | None = None
    """Where it went; None where that could not be found out."""
    status: int | None = None
    error_code: str | None = None
    """The provider's error code, where it is a plain word of at most 64 characters."""
    clock_skew_s: float | None = None
    """How far the provider's clock is ahead of ours at the least; 0: no difference shows."""
    elapsed_s: float


class HttpTokenEndpoint:
    """Implements ``actors.ports.TokenEndpoint``; an async context manager."""

    def __init__(
        self,
        secrets: Callable[[ProviderProfile], ProviderSecrets],
        *,
        now: Callable[[], datetime],
        tls: ssl.SSLContext | None = None,
        routes: Callable[[ProviderProfile], Route] = lambda _: DIRECT,
    ) -> None:
        """Take what is needed of the world.

        Args:
            secrets: A client's secrets by profile; LookupError or OSError: there are none.
            now: The time, aware UTC.
            tls: Whom to trust, whatever a route says; None does as routes say.
            routes: The way to a provider, by profile.
        """
        self._sender = HttpSender(now=now, tls=tls)
        self._clients = ClientAuthenticator(secrets, now=now)
        self._routes = routes
        self._discoveries: dict[Route, Discovery] = {}
        self.clocks = ProviderClocks()

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close what is open. The actors have ended their requests by then."""
        for discovery in self._discoveries.values():
            await discovery.aclose()
        await self._sender.aclose()

    def reread(self) -> None:
        """Read the files of authorities again, for requests that begin from now on."""
        self._sender.reread()

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """See ``TokenEndpoint``; an issuer stands for the endpoint that it names."""
        url = _url(profile, params, endpoint_base)
        return NOWHERE if isinstance(url, Misconfigured) else Place(urlsplit(url).netloc, url)

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """Make one request to a token endpoint and return what came of it.

        All of it, finding the URL included, ends within the profile's ``timeout_s``, because
        another daemon may take over soon after. Nothing is repeated. A cancellation cuts
        the request off wherever it is: the caller shields what must not be lost.

        Source:
            RFC 6749 section 6; PROVIDERS.md quirks 9, 22, 24, 30-33.
        """
        deadline_s = asyncio.get_running_loop().time() + request.profile.timeout_s
        endpoint = await self._endpoint(request, deadline_s)
        if not isinstance(endpoint, str):
            return endpoint
        return await self._exchanged(request, endpoint, deadline_s)

    async def probe(
        self, profile: ProviderProfile, *, params: dict[str, str] | None = None
    ) -> ProbeReport:
        """Ask with a token that cannot be valid: the answer tells whether the rest is right.

        ``invalid_grant`` means that the client was accepted. No grant is touched (quirk 30).
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        deadline_s = started_s + profile.timeout_s
        request = ExchangeRequest(
            profile=profile, presented=Secret(_PROBE_TOKEN.encode()), params=params
        )
        endpoint = await self._endpoint(request, deadline_s)
        if not isinstance(endpoint, str):
            return ProbeReport(
                outcome=endpoint.code,
                detail=self._detail(endpoint, request),
                elapsed_s=round(loop.time() - started_s, 3),
            )
        exchange = await self._exchanged(request, endpoint, deadline_s)
        elapsed_s = round(loop.time() - started_s, 3)
        if not isinstance(exchange, Answered):
            return ProbeReport(
                outcome=exchange.code,
                detail=self._detail(exchange, request),
                endpoint=endpoint,
                elapsed_s=elapsed_s,
            )
        has_date = exchange.date is not None
        return ProbeReport(
            outcome="answered",
            endpoint=endpoint,
            status=exchange.status,
            error_code=_error_code(exchange, profile.answer.error),
            clock_skew_s=self.clocks.offset_s(profile.slug, endpoint) if has_date else None,
            elapsed_s=elapsed_s,
        )

    def _detail(
        self, failure: Misconfigured | NotSent | Lost, request: ExchangeRequest
    ) -> str | None:
        """Return what an operator needs to know of a probe's failure."""
        if not isinstance(failure, Misconfigured):
            return self._sender.last_cause
        if failure.code != "template_value_missing":
            return None
        profile = request.profile
        texts = (*_places(profile), *profile.extra_parameters.values())
        named = dict.fromkeys(name for text in texts for name in template_names(text))
        values = {**profile.params, **(request.params or {})}
        return ", ".join(name for name in named if name not in values)

    async def _endpoint(
        self, request: ExchangeRequest, deadline_s: float
    ) -> str | Misconfigured | NotSent:
        """Return the URL to ask; an issuer's metadata may take the time of a connect."""
        profile = request.profile
        url = _url(profile, request.params, request.endpoint_base)
        has_endpoint = profile.refresh_endpoint is not None or profile.token_endpoint is not None
        if has_endpoint or isinstance(url, Misconfigured):
            return url
        start_s = deadline_s - profile.timeout_s
        # Half at most: what is left must do for the request that cannot be repeated (quirk 24).
        wait_s = min(profile.connect_timeout_s, profile.timeout_s / 2)
        try:
            async with asyncio.timeout_at(start_s + wait_s):
                return await self._discovery(self._routes(profile)).token_endpoint(
                    url, allowed_hosts=profile.allowed_hosts
                )
        except TimeoutError:
            return NotSent(code="discovery_failed")

    async def _exchanged(
        self, request: ExchangeRequest, endpoint: str, deadline_s: float
    ) -> Exchange:
        profile = request.profile
        proof = self._clients.proof(
            profile,
            endpoint=endpoint,
            secret_index=request.secret_index,
            clock_offset=timedelta(seconds=self.clocks.offset_s(profile.slug, endpoint)),
        )
        if isinstance(proof, Misconfigured):
            return proof
        message = token_request(request, proof, endpoint=endpoint)
        if isinstance(message, Misconfigured):
            return message
        bounds = Bounds(
            pool=profile.slug,
            # The actors' gates keep ``max_concurrency``, one a host: no host waits for another's.
            connections_max=None,
            connect_timeout_s=profile.connect_timeout_s,
            deadline_s=deadline_s,
            answer_bytes_max=profile.answer_bytes_max,
            route=self._routes(profile),
        )
        exchange = await self._sender.send(message, bounds)
        if isinstance(exchange, Answered):
            self.clocks.note(profile.slug, endpoint, exchange)
        return exchange

    def _discovery(self, route: Route) -> Discovery:
        """Return where endpoints are found by way of ``route``."""
        if route not in self._discoveries:
            self._discoveries[route] = Discovery(lambda url: self._fetched(url, route))
        return self._discoveries[route]

    async def _fetched(self, url: str, route: Route) -> Exchange:
        """Make one GET for the discovery; no slug has a dot, so its pool is nobody else's."""
        headers = {"accept": "application/json", "user-agent": USER_AGENT}
        headers["accept-encoding"] = "gzip"
        bounds = Bounds(
            pool=f".discovery.{route.ca_file or ''}",
            route=route,
            connections_max=_DISCOVERY_CONNECTIONS_MAX,
            connect_timeout_s=_DISCOVERY_CONNECT_TIMEOUT_S,
            deadline_s=asyncio.get_running_loop().time() + _DISCOVERY_TIMEOUT_S,
            answer_bytes_max=_DISCOVERY_BYTES_MAX,
        )
        return await self._sender.send(httpx2.Request("GET", url, headers=headers), bounds)


def _places(profile: ProviderProfile) -> tuple[str, ...]:
    """Return where the profile says that refreshing is done; the first counts."""
    places = (profile.refresh_endpoint, profile.token_endpoint, profile.issuer)
    return tuple(place for place in places if place)[:1]


def _url(
    profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
) -> str | Misconfigured:
    """Return the URL of the token endpoint or of the issuer, for a connection's values."""
    template = next(iter(_places(profile)), None)
    if template is None:
        return Misconfigured(code="endpoint_missing")
    return resolved_url(
        template,
        values={**profile.params, **(params or {})},
        endpoint_base=endpoint_base,
        allowed_hosts=profile.allowed_hosts,
    )


def _error_code(answer: Answered, path: str) -> str | None:
    """Return the error code at ``path``, JSON or form-encoded (quirk 14), if it is plain."""
    text = answer.body.reveal()
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = parse_qs(text.decode(errors="replace"), max_num_fields=None)
        value = {name: values[0] for name, values in fields.items()}
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    is_plain = isinstance(value, str) and _PLAIN_WORD.fullmatch(value) is not None
    return value if is_plain else None
