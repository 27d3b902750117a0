"""A provider's clock is measured by its answers, per host, and a wrong one is told once."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.credentials import Secret
from domain.exchange import Answered, ExchangeRequest, Tokens
from domain.profile import AnswerPaths, ClientAuth, ProviderProfile
from domain.verdicts import judge
from runtime.provider.client_auth import ProviderSecrets
from runtime.provider.clocks import HOSTS_MAX, ProviderClocks
from runtime.provider.token_endpoint import HttpTokenEndpoint
from tests.fakes.raw_http import answer, raw_http

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
URL = "https://a.example/token"


@pytest.fixture
def clocks() -> ProviderClocks:
    return ProviderClocks()


def dated(ahead_s: float | None, *, took_s: float = 0.0) -> Answered:
    """Return an answer of a server whose clock is so far ahead."""
    return Answered(
        status=200,
        body=Secret(b"{}"),
        sent_at=NOW,
        received_at=NOW + timedelta(seconds=took_s),
        date=None if ahead_s is None else NOW + timedelta(seconds=ahead_s),
    )


def told(clocks: ProviderClocks, *offsets_s: float | None, slug: str = "acme") -> list[Any]:
    """Return what is logged of answers with these offsets."""
    with capture_logs() as lines:
        for offset_s in offsets_s:
            clocks.note(slug, URL, dated(offset_s))
    return [(line["provider_slug"], line["provider_ahead_s"]) for line in lines]


@pytest.mark.parametrize(
    ("ahead_s", "took_s", "offset_s"),
    [(0, 0, 0), (20, 20, 0), (50, 20, 30), (-1, 20, 0), (-60, 20, -59), (3600, 0, 3600)],
)
def test_the_least_offset_that_explains_an_answer_is_kept(
    clocks: ProviderClocks, ahead_s: float, took_s: float, offset_s: float
):
    clocks.note("acme", URL, dated(ahead_s, took_s=took_s))

    assert clocks.offset_s("acme", URL) == offset_s


def test_one_tenants_clock_says_nothing_of_anothers(clocks: ProviderClocks):
    clocks.note("acme", URL, dated(3600))
    clocks.note("acme", "https://b.example/token", dated(5))
    clocks.note("acme", URL, dated(None))

    assert clocks.offset_s("acme", "https://A.example/other") == 3600
    assert clocks.offset_s("acme", "https://b.example/") == 5
    assert clocks.offset_s("acme", "https://c.example/") == 0
    assert clocks.offset_s("other", URL) == 0


def test_a_clock_that_is_right_again_is_forgotten_and_so_is_the_oldest(clocks: ProviderClocks):
    clocks.note("acme", URL, dated(3600))
    clocks.note("acme", URL, dated(0))
    for number in range(HOSTS_MAX + 1):
        clocks.note("acme", f"https://h{number}.example/", dated(60))

    assert clocks.offset_s("acme", URL) == 0
    assert clocks.offset_s("acme", "https://h0.example/") == 0
    assert clocks.offset_s("acme", "https://h1.example/") == 60
    assert clocks.offset_s("acme", f"https://h{HOSTS_MAX}.example/") == 60


def test_a_wrong_clock_is_told_once_until_it_changes(clocks: ProviderClocks):
    assert told(clocks, 30, 31, 32, 31) == [("acme", 31.0)]
    assert told(clocks, 90, 91) == [("acme", 90.0)]
    assert told(clocks, 0, 90) == [("acme", 90.0)]
    assert told(clocks, -90, slug="other") == [("other", -89.0)]


@pytest.mark.parametrize("step_s", [-86_400, 86_400])
async def test_a_clock_that_is_set_during_a_call_ends_neither_token_nor_grant(step_s: int):
    body = b'{"access_token":"a","expires_in":600,"refresh_expires_in":1800}'
    after = NOW + timedelta(seconds=step_s)
    headers = {"Date": format_datetime(after, usegmt=True)}
    async with raw_http(answer(body, headers=headers)) as server:
        clock = lambda: after if server.requests else NOW  # noqa: E731 -- set once it was asked
        profile = ProviderProfile(
            slug="acme",
            token_endpoint=server.url,
            client_auth=ClientAuth.NONE,
            answer=AnswerPaths(refresh_token_expiry="refresh_expires_in"),
        )
        async with HttpTokenEndpoint(lambda _: ProviderSecrets(), now=clock) as endpoint:
            request = ExchangeRequest(profile=profile, presented=Secret(b"r"))
            tokens = judge(profile, await endpoint.exchange(request), sent_scope=False)

    assert isinstance(tokens, Tokens)
    assert isinstance(tokens.grant_expires_at, datetime)
    assert 590 < (tokens.expires_at - after).total_seconds() <= 600
    assert 1790 < (tokens.grant_expires_at - after).total_seconds() <= 1800
    assert tokens.notes == ()
