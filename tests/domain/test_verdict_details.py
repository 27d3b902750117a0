"""What Retry-After, the past of a connection and repetition add to a verdict.

And what no answer can do: make judging raise, end a grant by a 5xx, or show a secret.
Case ids name the quirk of PROVIDERS.md section 2.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.exchange import Exchange, Lost, Misconfigured, NotSent, Reach, Tokens, Verdict
from domain.profile import AnswerPaths, ErrorRule, FailureClass, ProviderProfile
from domain.verdicts import client_changed, escalated, judge, rotation_lost
from tests.domain.oauth_answers import answered
from tests.domain.shapes import NOW

T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)
PLAIN = ProviderProfile(slug="plain")
CANARY = "tok-3f9a-canary"
PAGE = b"<html>Forbidden</html>"


def mapped(*rules: ErrorRule, **answer: str) -> ProviderProfile:
    """Return a profile with an error map."""
    return ProviderProfile(slug="p", error_map=rules, answer=AnswerPaths(**answer))


def refused(
    exchange: Exchange, profile: ProviderProfile = PLAIN, *, sent_scope: bool = False
) -> Verdict:
    """Return the verdict on an exchange that must have failed."""
    verdict = judge(profile, exchange, sent_scope=sent_scope)
    assert isinstance(verdict, Verdict)
    return verdict


def http_date(time: datetime) -> str:
    """Return a time as RFC 9110 section 5.6.7 writes it."""
    return f"{time:%a, %d %b %Y %H:%M:%S GMT}"


SOON, DATE = NOW + timedelta(seconds=90), NOW + timedelta(hours=2)
WAITS = {
    "quirk-34-seconds": ("120", None, 120),
    "quirk-34-seconds-with-spaces": (" 120 ", None, 120),
    "quirk-34-fraction": ("1.5", None, 1.5),
    "quirk-34-zero": ("0", None, 0),
    "quirk-34-capped": ("86400", None, 3600),
    "quirk-34-capped-beyond-floats": ("9" * 500, None, 3600),
    "quirk-34-date": (http_date(SOON), None, 90),
    "quirk-34-date-by-the-providers-clock": (http_date(DATE + timedelta(seconds=90)), DATE, 90),
    "quirk-34-date-past": (http_date(NOW - timedelta(days=1)), None, 0),
    "quirk-34-date-capped": (http_date(NOW + timedelta(days=1)), None, 3600),
    "quirk-34-date-without-zone": (f"{SOON:%a, %d %b %Y %H:%M:%S} -0000", None, 90),
    "quirk-34-negative": ("-5", None, None),
    "quirk-34-garbage": ("soon", None, None),
    "quirk-34-garbage-like-a-date": ("Mon, 99 Foo 20xx 99:99:99 GMT", None, None),
    "quirk-34-other-digits": ("١٢", None, None),
    "quirk-34-not-a-number": ("nan", None, None),
    "quirk-34-empty": ("", None, None),
    "quirk-34-absent": (None, None, None),
}


@pytest.mark.parametrize(("header", "date", "expected_s"), WAITS.values(), ids=WAITS)
def test_retry_after_is_seconds_or_a_date_and_capped(
    header: str | None, date: datetime | None, expected_s: float | None
) -> None:
    verdict = refused(answered(b"", 429, retry_after=header, date=date))

    assert (verdict.failure_class, verdict.retry_after_s) == (T, expected_s)


@pytest.mark.parametrize(
    ("status", "body"), [(503, b""), (500, b""), (400, {"error": "server_error"})]
)
def test_quirk_34_a_retry_after_cools_the_whole_client(status: int, body: object) -> None:
    told, silent = (refused(answered(body, status, retry_after=header)) for header in ("60", None))

    assert (told.cools_client, told.retry_after_s, told.counts) == (True, 60, True)
    assert (silent.cools_client, silent.retry_after_s) == (False, None)


@pytest.mark.parametrize("body", [b"", PAGE, {"error": "slow"}, {"message": "x"}], ids=repr)
@pytest.mark.parametrize("status", [400, 403])
def test_a_400_or_403_that_says_when_to_come_back_is_a_rate_limit(
    status: int, body: object
) -> None:
    verdict = refused(answered(body, status, retry_after="60"))

    assert (verdict.code, verdict.retry_after_s, verdict.counts) == ("rate_limited", 60, False)


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client"])
def test_a_retry_after_beside_a_definite_code_means_nothing(error: str) -> None:
    verdict = refused(answered({"error": error}, 400, retry_after="60"))

    assert (verdict.failure_class is T, verdict.cools_client) == (False, False)
    assert verdict.retry_after_s is None


PROVIDER_CODES: list[tuple[object, str | None]] = [
    ("bad_refresh_token", "bad_refresh_token"),
    ("BAD-REFRESH.TOKEN:1", "BAD-REFRESH.TOKEN:1"),
    ("x" * 64, "x" * 64),
    ("x" * 65, None),
    ("Access Denied", None),
    ("invalid_grant\n", None),
    ("\u0661", None),
    ("é", None),
    (190, "190"),
    ({"code": "x"}, None),
]


@pytest.mark.parametrize(("error", "expected"), PROVIDER_CODES, ids=repr)
def test_the_providers_own_code_is_kept_where_it_is_a_plain_word(
    error: object, expected: str | None
) -> None:
    assert refused(answered({"error": error}, 400)).provider_code == expected


def test_the_finer_code_is_kept_where_it_decided() -> None:
    body = {"error": "invalid_grant", "error_codes": [50173], "suberror": "bad_token"}

    assert refused(answered(body, 400)).provider_code == "AADSTS50173"


DEAD = refused(answered({"error": "bad_refresh_token"}))
CONSENT = refused(answered({"error": "consent_required"}, 400))
UNRELATED = [
    pytest.param(CONSENT, id="consent"),
    pytest.param(refused(answered(b"", 500)), id="transient"),
    pytest.param(refused(answered({"error": "invalid_client"}, 401)), id="operator"),
    pytest.param(refused(answered(b"")), id="ambiguous"),
]


def test_a_refused_token_whose_last_answer_was_lost_is_said_to_be_a_lost_rotation() -> None:
    verdict = rotation_lost(DEAD)

    assert (verdict.failure_class, verdict.code) == (U, "invalid_grant")
    assert verdict.provider_code == "bad_refresh_token"
    assert verdict.reason != DEAD.reason
    assert "lost" in verdict.reason


def test_quirk_19_a_refused_token_of_another_client_is_no_dead_grant() -> None:
    verdict = client_changed(DEAD)

    assert (verdict.failure_class, verdict.code) == (O, "client_changed")
    assert verdict.reach is Reach.CONNECTION
    assert verdict.provider_code == "bad_refresh_token"
    assert "client" in verdict.reason


@pytest.mark.parametrize("verdict", UNRELATED)
def test_what_is_not_said_of_the_token_itself_stays_as_it_is(verdict: Verdict) -> None:
    assert rotation_lost(verdict) == verdict
    assert client_changed(verdict) == verdict


SOFT = {
    "access_denied": (refused(answered({"error": "access_denied"}, 400)), U),
    "invalid_request": (refused(answered({"error": "invalid_request"}, 400)), O),
    "no_tokens": (refused(answered(b"")), O),
    "unknown_error": (refused(answered({"error": "oops"}, 400)), O),
    "ambiguous-by-map": (
        refused(answered(b"", 418), mapped(ErrorRule(status=418, verdict=A))),
        O,
    ),
}


@pytest.mark.parametrize(("verdict", "becomes"), SOFT.values(), ids=SOFT)
def test_an_ambiguous_failure_becomes_a_verdict_after_so_many_in_a_row(
    verdict: Verdict, becomes: FailureClass
) -> None:
    before, at_last = (escalated(verdict, n, PLAIN, access_token_expired=False) for n in (4, 5))

    assert before == verdict
    assert at_last == replace(verdict, failure_class=becomes, escalates_to=None)


def test_how_many_in_a_row_is_the_profiles() -> None:
    profile = ProviderProfile(slug="p", ambiguous_max=1)

    assert (
        escalated(SOFT["no_tokens"][0], 1, profile, access_token_expired=False).failure_class is O
    )


@pytest.mark.parametrize("status", [400, 401, 403, 407])
def test_what_a_proxy_may_have_written_waits_for_the_access_token_to_expire(status: int) -> None:
    page = refused(answered(PAGE, status))

    classes = [
        escalated(page, in_a_row, PLAIN, access_token_expired=expired).failure_class
        for in_a_row, expired in ((5, False), (50, False), (4, True), (5, True))
    ]

    assert classes == [A, A, A, O]


@pytest.mark.parametrize("verdict", [DEAD, refused(answered(b"", 500)), client_changed(DEAD)])
def test_a_failure_that_is_not_ambiguous_never_escalates(verdict: Verdict) -> None:
    assert escalated(verdict, 99, PLAIN, access_token_expired=True) == verdict


words = st.sampled_from(["invalid_grant", "invalid_client", "access_denied", "oops", CANARY + " "])
bodies: st.SearchStrategy[Any] = st.binary(max_size=200) | st.fixed_dictionaries(
    {},
    optional={
        "error": words | st.integers() | st.just({"a": CANARY}),
        "error_description": st.just(f"about {CANARY}"),
        "error_codes": st.lists(st.sampled_from([50076, 700082, CANARY])),
        "suberror": words,
        "access_token": st.just(CANARY) | st.just(""),
        "refresh_token": st.just(CANARY) | st.none(),
        "expires_in": st.just(CANARY) | st.integers(),
        "scope": st.just(CANARY),
    },
)
headers = st.none() | st.text(max_size=40) | st.just(f"{CANARY}") | st.datetimes().map(http_date)
EXACT = mapped(ErrorRule(code="access_denied", pattern="about", verdict=T, cools=True))
profiles = st.sampled_from([PLAIN, EXACT, mapped(ErrorRule(verdict=U), success_flag="ok")])


@given(
    body=bodies,
    status=st.integers(-1, 1000),
    header=headers,
    limited=st.booleans(),
    date=st.none() | st.datetimes(),
    profile=profiles,
    sent_scope=st.booleans(),
)
def test_no_answer_raises_shows_a_secret_or_ends_a_grant_by_a_5xx(
    *,
    body: object,
    status: int,
    header: str | None,
    limited: bool,
    date: datetime | None,
    profile: ProviderProfile,
    sent_scope: bool,
) -> None:
    exchange = answered(body, status, retry_after=header, is_rate_limited=limited, date=date)

    outcome = judge(profile, exchange, sent_scope=sent_scope)

    assert CANARY not in f"{outcome} {outcome!r} {outcome!s}"
    if isinstance(outcome, Verdict):
        assert status < 500 or outcome.failure_class is T
        assert (outcome.escalates_to is not None) == (outcome.failure_class is A)
        assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 3600
        assert not (outcome.outcome_unknown and outcome.failure_class in (U, O))
    else:
        assert isinstance(outcome, Tokens)
        assert outcome.access_token


@given(code=st.text(max_size=80), kind=st.sampled_from([NotSent, Lost, Misconfigured]))
def test_no_exchange_without_an_answer_raises(code: str, kind: Any) -> None:
    verdict = refused(kind(code=code))

    assert verdict.failure_class is (O if kind is Misconfigured else T)
    assert verdict.outcome_unknown is (kind is Lost)


@pytest.mark.parametrize(
    ("code", "reach"),
    [
        ("template_value_missing", Reach.CONNECTION),
        ("template_value_malformed", Reach.CONNECTION),
        ("host_not_allowed", Reach.CONNECTION),
        ("endpoint_base_malformed", Reach.CONNECTION),
        ("endpoint_malformed", Reach.CONNECTION),
        ("endpoint_not_https", Reach.CONNECTION),
        ("header_not_allowed", Reach.CONNECTION),
        ("request_too_long", Reach.CONNECTION),
        ("issuer_mismatch", Reach.HOST),
        ("client_secret_missing", Reach.CLIENT),
        ("client_key_unusable", Reach.CLIENT),
    ],
)
def test_a_reason_not_to_ask_reaches_no_further_than_its_cause_can(code: str, reach: Reach) -> None:
    verdict = judge(ProviderProfile(slug="any"), Misconfigured(code=code), sent_scope=False)

    assert isinstance(verdict, Verdict)
    assert verdict.failure_class is FailureClass.OPERATOR
    assert verdict.reach is reach


REACHES: list[tuple[int, object, Reach]] = [
    (401, {"error": "invalid_client"}, Reach.CLIENT),
    (200, {"error": "incorrect_client_credentials"}, Reach.CLIENT),
    (400, {"error": "unauthorized_client"}, Reach.CLIENT),
    (400, {"error": "unsupported_grant_type"}, Reach.CLIENT),
    (400, {"error": "invalid_target"}, Reach.CLIENT),
    (401, {"message": "no"}, Reach.CLIENT),
    (418, b"", Reach.CLIENT),
    (302, b"", Reach.HOST),
    (404, b"", Reach.HOST),
    (403, PAGE, Reach.HOST),
    (407, b"", Reach.HOST),
    (400, {"error": "invalid_scope"}, Reach.CONNECTION),
    (400, {"error": "invalid_request"}, Reach.CONNECTION),
    (400, {"error": "access_denied"}, Reach.CONNECTION),
    (400, {"error": "invalid_grant"}, Reach.CONNECTION),
    (400, {"error": "oops"}, Reach.CONNECTION),
    (200, b"", Reach.CONNECTION),
    (503, b"", Reach.CONNECTION),
    (429, b"", Reach.CONNECTION),
]


@pytest.mark.parametrize(("status", "body", "reach"), REACHES, ids=repr)
def test_a_refusal_reaches_no_further_than_its_cause_can(
    status: int, body: object, reach: Reach
) -> None:
    profile = mapped(ErrorRule(status=418, verdict=O))

    assert refused(answered(body, status), profile).reach is reach


def test_a_scope_that_we_sent_is_wrong_for_the_whole_client() -> None:
    verdict = refused(answered({"error": "invalid_scope"}, 400), sent_scope=True)

    assert verdict.reach is Reach.CLIENT
