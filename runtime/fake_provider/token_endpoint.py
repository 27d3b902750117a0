"""One token request: read, delayed, judged, answered or not, as the quirks say."""

import asyncio
from email.utils import formatdate
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from runtime.fake_provider import answers
from runtime.fake_provider.asked import Asked, read_asked
from runtime.fake_provider.canned import Answer
from runtime.fake_provider.clients import Client
from runtime.fake_provider.grants import Issued, Refused
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks
from runtime.fake_provider.wire import Cut, HalfAnswer, PlainAnswer

_REQUEST_LINES: dict[str, Any] = {}


async def token_request(provider: FakeProvider, request: Request) -> Response:
    """Answer a token request, in the end or not at all."""
    provider.stats.arrived()
    try:
        asked = await read_asked(request)
        grant = provider.book.find(asked.refresh_token)
        quirks = provider.quirks.take(None if grant is None else grant.id)
        if grant is None:
            return await _play(provider, request, asked, quirks, dict(_REQUEST_LINES))
        line = provider.book.presented(grant, asked.refresh_token)
        try:
            return await _play(provider, request, asked, quirks, line)
        finally:
            provider.book.answered(grant, asked.refresh_token)
    except ClientDisconnect:
        return Cut(reset=False)
    finally:
        provider.stats.in_flight -= 1


async def _play(
    provider: FakeProvider, request: Request, asked: Asked, quirks: Quirks, line: dict[str, Any]
) -> Response:
    """Take a request through its delays, its processing and its faults, in that order."""
    stats = provider.stats
    jitter_s = quirks.jitter_s * provider.draw(quirks) if quirks.jitter_s else 0.0
    if quirks.delay_before_s or jitter_s:
        await provider.sleep(quirks.delay_before_s + jitter_s)
    if quirks.hang == "before" and not await _released(provider, request):
        return Cut(reset=False)
    has_fault = quirks.drop_request or quirks.lose_answer or quirks.half_answer
    strikes = has_fault and (
        quirks.fault_chance >= 1 or provider.draw(quirks) < quirks.fault_chance
    )
    resets = quirks.close_with == "reset"
    if strikes and quirks.drop_request:
        stats.dropped_requests += 1
        line["outcome"] = "dropped"
        return Cut(reset=resets)
    answer = _answer(provider, asked, quirks, line)
    if quirks.delay_after_s:
        await provider.sleep(quirks.delay_after_s)
    if quirks.hang == "after" and not await _released(provider, request):
        return Cut(reset=False)
    if strikes and quirks.lose_answer:
        stats.lost_answers += 1
        return Cut(reset=resets)
    if strikes and quirks.half_answer:
        stats.half_answers += 1
        return HalfAnswer(answer, reset=resets, cut_after=quirks.cut_after)
    return PlainAnswer(answer)


def _answer(provider: FakeProvider, asked: Asked, quirks: Quirks, line: dict[str, Any]) -> Answer:
    """Process a request, unless the quirks pass it by, and return what to answer."""
    now_s = provider.clock()
    answer = Answer(200, b"", {})
    if quirks.overrides and not quirks.override_processes:
        line["outcome"] = "overridden"
    else:
        outcome = _process(provider, asked, quirks)
        if isinstance(outcome, Issued):
            provider.stats.successes += 1
            line["outcome"] = "refreshed"
            answer = answers.success(outcome, quirks, now_s=now_s)
            if quirks.tokens_in_error:
                answer = answers.with_error(answer, quirks)
        else:
            provider.stats.refused(outcome.code)
            line["outcome"] = outcome.code
            answer = answers.refusal(outcome, quirks)
    if quirks.overrides:
        provider.stats.overridden += 1
        answer = answers.override(quirks, now_s=now_s)
    date = formatdate(now_s + quirks.clock_skew_s, usegmt=True)
    return answer._replace(headers={"date": date} | answer.headers | _lower(quirks.headers))


def _process(provider: FakeProvider, asked: Asked, quirks: Quirks) -> Issued | Refused:
    """Judge a request and do what it asks for (RFC 6749 section 6)."""
    fault = _shape_fault(asked, quirks)
    if fault is not None:
        return fault
    client = provider.clients.check(
        asked,
        quirks=quirks,
        audiences=(provider.url, provider.token_endpoint),
        now_s=provider.clock() + quirks.clock_skew_s,
    )
    if isinstance(client, Refused):
        return client
    fault = _rate_fault(provider, client, quirks) or _parameter_fault(asked, quirks)
    if fault is not None:
        return fault
    return provider.book.refresh(asked.refresh_token, client_id=client.client_id, quirks=quirks)


def _shape_fault(asked: Asked, quirks: Quirks) -> Refused | None:
    """Return what is wrong with a request's form (quirk 31; RFC 6749 section 3.2)."""
    method = "GET" if quirks.method_get else "POST"
    if asked.method != method:
        return Refused(
            code="invalid_request",
            description=f"This server expects {method}.",
            status=405,
            headers={"allow": method},
        )
    body_format = "query" if quirks.method_get else quirks.body_format
    if asked.body_format != body_format:
        return Refused(
            code="invalid_request", description=f"Parameters are expected as {body_format}."
        )
    if asked.repeated:
        return Refused(code="invalid_request", description="A parameter came more than once.")
    return None


def _rate_fault(provider: FakeProvider, client: Client, quirks: Quirks) -> Refused | None:
    """Return the refusal of a client that asks too often (RFC 6585 section 4)."""
    now_s = provider.clock()
    wait_s = provider.rates.wait_s(client.client_id, quirks, now_s=now_s)
    if wait_s is None:
        return None
    reset_s = now_s + quirks.clock_skew_s + wait_s
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(reset_s) + 1)}
    if quirks.retry_after_form == "seconds":
        headers["retry-after"] = str(int(wait_s) + 1)
    elif quirks.retry_after_form == "date":
        headers["retry-after"] = formatdate(reset_s + 1, usegmt=True)
    return Refused(
        code="rate_limited",
        description="Too many requests.",
        status=quirks.rate_limit_status,
        headers=headers,
    )


def _parameter_fault(asked: Asked, quirks: Quirks) -> Refused | None:
    """Return what is wrong with a request's parameters."""
    if asked.parameters.get("grant_type") != "refresh_token":
        return Refused(code="unsupported_grant_type", description="Only refresh_token is served.")
    if not asked.refresh_token:
        return Refused(code="invalid_request", description="refresh_token is missing.")
    has_scope = "scope" in asked.parameters
    if quirks.scope_policy == "rejected" and has_scope:
        return Refused(code="invalid_scope", description="scope may not be sent.")
    if quirks.scope_policy == "required" and not has_scope:
        return Refused(code="invalid_scope", description="scope must be sent.")
    return None


async def _released(provider: FakeProvider, request: Request) -> bool:
    """Hang until the next release, and return whether it came before the client left."""
    stats = provider.stats
    held = asyncio.create_task(provider.held.wait())
    left = asyncio.create_task(_left(request))
    stats.hanging += 1
    try:
        done, _ = await asyncio.wait((held, left), return_when=asyncio.FIRST_COMPLETED)
        return held in done
    finally:
        stats.hanging -= 1
        held.cancel()
        left.cancel()


async def _left(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
