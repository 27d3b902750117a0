"""Spans of commands and of requests to providers, where OpenTelemetry is installed and set up.

Without the extra ``otel``, or where nobody has set up a tracer provider, there is none, and a trace
is passed on as it came. A span has names, codes and numbers: no body, no text of anybody else's.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import msgspec

from actors.ports import TokenEndpoint
from domain.exchange import Answered, Exchange, ExchangeRequest, Place
from domain.profile import ProviderProfile
from domain.trace import read_trace
from runtime import VERSION


class Span:
    """Implements ``runtime.gateway.in_flight.Span``."""

    __slots__ = ("_span", "headers")

    def __init__(self, span: Any, headers: Mapping[str, str]) -> None:  # noqa: ANN401 -- the API's
        """Hold a span that has begun, and the headers that name it."""
        self._span = span
        self.headers = headers

    def end(self, outcome: str, *, is_failure: bool, **attributes: str | int) -> None:
        """End it with a code of ours."""
        self._span.set_attribute("refreshd.outcome", outcome)
        self._span.set_attributes(attributes)
        if is_failure:
            status = importlib.import_module("opentelemetry.trace.status")
            self._span.set_status(status.StatusCode.ERROR, outcome)
        self._span.end()


class Spans:
    """Begins spans by OpenTelemetry's API."""

    def __init__(self, api: Any, propagator: Any) -> None:  # noqa: ANN401 -- may not be installed
        """Take the API's module ``opentelemetry.trace``, and what reads and writes W3C headers."""
        self._api = api
        self._tracer = api.get_tracer("refreshd", VERSION)
        self._propagator = propagator

    def command(self, endpoint: str, headers: Mapping[str, str]) -> Span:
        """Begin the span of a command, in the trace that its headers name."""
        lower = {name.lower(): value for name, value in headers.items()}
        attributes = {"messaging.system": "nats", "messaging.operation.name": endpoint}
        return self._begun(f"refreshd {endpoint}", "SERVER", lower, attributes)

    def request(self, request: ExchangeRequest, host: str) -> Span:
        """Begin the span of a request to a provider."""
        attributes = {"refreshd.provider": request.profile.slug, "server.address": host}
        parent = {} if request.trace is None else request.trace.headers
        return self._begun(f"refresh {request.profile.slug}", "CLIENT", parent, attributes)

    def _begun(
        self, name: str, kind: str, parent: Mapping[str, str], attributes: Mapping[str, str]
    ) -> Span:
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(parent),
            kind=getattr(self._api.SpanKind, kind),
            attributes=attributes,
        )
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context=self._api.set_span_in_context(span))
        return Span(span, headers)


class SpannedTokenEndpoint:
    """Implements ``actors.ports.TokenEndpoint`` around another, with a span for each request."""

    def __init__(self, endpoint: TokenEndpoint, spans: Spans) -> None:
        """Ask by ``endpoint``."""
        self._endpoint = endpoint
        self._spans = spans

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """See ``TokenEndpoint``."""
        return self._endpoint.place(profile, params, endpoint_base)

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        place = self.place(request.profile, request.params, request.endpoint_base)
        span = self._spans.request(request, place.host)
        outcome, is_failure, more = "cut_off", True, dict[str, int]()
        try:
            exchange = await self._endpoint.exchange(
                msgspec.structs.replace(request, trace=read_trace(span.headers))
            )
            if isinstance(exchange, Answered):
                outcome, is_failure = "answered", exchange.status >= 400  # noqa: PLR2004 -- HTTP's
                more = {"http.response.status_code": exchange.status}
            else:
                outcome = exchange.code
            return exchange
        finally:
            span.end(outcome, is_failure=is_failure, **more)


def open_spans() -> Spans | None:
    """Return what begins spans; None: OpenTelemetry is not installed, or nobody has set it up."""
    try:
        api = importlib.import_module("opentelemetry.trace")
        w3c = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
    except ModuleNotFoundError:
        return None
    if isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    return Spans(api, w3c.TraceContextTextMapPropagator())


def with_spans(endpoint: TokenEndpoint, spans: Spans | None) -> TokenEndpoint:
    """Return token endpoints whose requests have spans, if there are any."""
    return endpoint if spans is None else SpannedTokenEndpoint(endpoint, spans)
