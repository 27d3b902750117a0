"""Spans of commands and of requests, by the real SDK; none where nobody has set one up."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actors.world import MAILBOX_FULL
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, Lost, Place
from domain.profile import ProviderProfile
from domain.result import Success
from domain.trace import Trace, read_trace
from runtime.gateway.in_flight import Desk, InFlight, Load
from runtime.nats.discoverable import Counted
from runtime.spans import SpannedTokenEndpoint, Spans, open_spans, with_spans
from tests.runtime.gateway.test_in_flight import _Desk

pytestmark = pytest.mark.anyio
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CANARY = "canary-3f9b1c77e2aa40d8"


class _Api:
    """OpenTelemetry's module, with a provider of the test's own for the process's."""

    SpanKind = api.SpanKind
    set_span_in_context = staticmethod(api.set_span_in_context)

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.get_tracer = provider.get_tracer
        self.spans = Spans(self, TraceContextTextMapPropagator())

    def told(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def number(span: ReadableSpan) -> str:
    """Return trace and span as they stand in a header."""
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}-{context.span_id:016x}"


def in_flight(told: _Api, headers: dict[str, str]) -> tuple[InFlight, _Desk]:
    desk = _Desk()
    one = InFlight(cast("Desk", desk), Counted(), Load(9), reply_subject="_INBOX.x", data=b"{}")
    one.headers, one.span = headers, told.spans.command("connection-token", headers)
    return one, desk


@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
def test_a_command_is_a_child_of_its_caller_and_the_parent_of_what_it_brings_about(
    name: str,
) -> None:
    told = _Api()
    one, _ = in_flight(told, {name: CALLER, "Nats-Msg-Id": CANARY})

    inner = one.envelope(cast("Any", None)).trace
    one.reply(Success(None))

    [span] = told.told()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes is not None
    assert span.attributes["refreshd.outcome"] == "ok"
    assert inner is not None
    assert f"-{number(span)}-" in inner.parent
    assert CANARY not in span.to_json()


def test_a_failure_is_its_code_and_a_hand_over_goes_on_elsewhere() -> None:
    told = _Api()
    failing, _ = in_flight(told, {})
    handed_over, desk = in_flight(told, {"Traceparent": CALLER, "tracestate": "a=1"})

    failing.reply(MAILBOX_FULL)
    handed_over.timeout_s = 4.0
    assert handed_over.forward("d-2")

    failed, forwarded = told.told()
    assert failed.status.status_code is api.StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["refreshd.outcome"] == "OVERLOADED"
    sent_on = read_trace(desk.sent[0])
    assert sent_on is not None
    assert number(forwarded) in sent_on.parent
    assert "Traceparent" not in desk.sent[0]


class _Endpoint:
    def __init__(self, exchange: Exchange) -> None:
        self.asked: list[ExchangeRequest] = []
        self._exchange = exchange

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        return Place("provider.example", "https://provider.example/token")

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        self.asked.append(request)
        return self._exchange


def answered(status: int) -> Answered:
    body = Secret(f'{{"access_token": "{CANARY}"}}'.encode())
    return Answered(status=status, body=body, sent_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("exchange", "outcome", "is_failure"),
    [
        (answered(200), "answered", False),
        (answered(400), "answered", True),
        (Lost(code="timeout"), "timeout", True),
    ],
)
async def test_a_request_to_a_provider_is_a_span_that_holds_no_secret(
    exchange: Exchange, outcome: str, is_failure: bool
) -> None:
    told, endpoint = _Api(), _Endpoint(exchange)
    request = ExchangeRequest(
        profile=ProviderProfile(slug="fake"),
        presented=Secret(CANARY.encode()),
        trace=Trace(CALLER, "a=1"),
    )

    assert await SpannedTokenEndpoint(endpoint, told.spans).exchange(request) is exchange

    [span] = told.told()
    assert (span.name, span.kind) == ("refresh fake", api.SpanKind.CLIENT)
    assert span.attributes is not None
    assert span.attributes["refreshd.outcome"] == outcome
    assert span.attributes["server.address"] == "provider.example"
    assert (span.status.status_code is api.StatusCode.ERROR) is is_failure
    [asked] = endpoint.asked
    assert asked.trace is not None
    assert number(span).startswith("0af7651916cd43dd8448eb211c80319c-")
    assert number(span) in asked.trace.parent
    assert asked.trace.state == "a=1"
    assert CANARY not in span.to_json()


def test_where_nobody_has_set_up_a_provider_there_are_no_spans() -> None:
    endpoint = _Endpoint(answered(200))

    assert open_spans() is None
    assert with_spans(endpoint, None) is endpoint
