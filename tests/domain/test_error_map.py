"""A provider's error map says what its odd codes mean, and can end no grant by a 5xx.

Case ids name the quirk of PROVIDERS.md section 2.
"""

import pytest

from domain.exchange import Verdict
from domain.profile import AnswerPaths, ErrorRule, FailureClass, ProviderProfile
from domain.verdicts import judge
from tests.domain.oauth_answers import answered

T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)


def mapped(*rules: ErrorRule, **answer: str) -> ProviderProfile:
    """Return a profile with an error map."""
    return ProviderProfile(slug="p", error_map=rules, answer=AnswerPaths(**answer))


def refused(
    body: object, status: int, profile: ProviderProfile, *, sent_scope: bool = False
) -> Verdict:
    """Return the verdict on an answer that must have failed."""
    verdict = judge(profile, answered(body, status), sent_scope=sent_scope)
    assert isinstance(verdict, Verdict)
    return verdict


def said(error: str, description: str) -> dict[str, str]:
    """Return an error as RFC 6749 section 5.2 writes it."""
    return {"error": error, "error_description": description}


EXACT = mapped(
    ErrorRule(code="unauthorized_client", pattern="^Old refresh token", verdict=U),
    ErrorRule(code="access_denied", pattern="access_token not expired", verdict=T, cools=True),
)
SCHWAB = mapped(
    ErrorRule(
        code="unsupported_token_type", pattern="refresh_token_authentication_error", verdict=U
    )
)
ZOHO = mapped(ErrorRule(code="Access Denied", pattern="too many requests", verdict=T, cools=True))
MAPPED = {
    "quirk-18-exact-old-refresh-token": (
        EXACT,
        401,
        said("unauthorized_client", "Old refresh token used."),
        "user invalid_grant",
    ),
    "quirk-18-exact-other-unauthorized_client": (
        EXACT,
        401,
        said("unauthorized_client", "Not an Old refresh token"),
        "operator unauthorized_client",
    ),
    "quirk-10-exact-too-early": (
        EXACT,
        400,
        said("access_denied", "Rate limit exceeded: access_token not expired"),
        "transient rate_limited",
    ),
    "quirk-17-schwab-error-inside-the-description": (
        SCHWAB,
        400,
        said("unsupported_token_type", '{"error":"refresh_token_authentication_error"}'),
        "user invalid_grant",
    ),
    "quirk-17-schwab-other": (
        SCHWAB,
        400,
        said("unsupported_token_type", "x"),
        "ambiguous unknown_error",
    ),
    "quirk-18-gitea": (
        mapped(ErrorRule(status=400, code="unauthorized_client", verdict=U)),
        400,
        said("unauthorized_client", "x"),
        "user invalid_grant",
    ),
    "quirk-18-metabase": (
        mapped(ErrorRule(code="invalid_request", verdict=U)),
        400,
        said("invalid_request", "x"),
        "user invalid_grant",
    ),
    "quirk-18-hubspot-by-another-path": (
        mapped(error="status"),
        400,
        {"status": "BAD_REFRESH_TOKEN", "message": "x"},
        "user invalid_grant",
    ),
    "row-zoho-access-denied": (
        ZOHO,
        400,
        said("Access Denied", "You have made too many requests continuously."),
        "transient rate_limited",
    ),
    "a-line-without-conditions-but-the-status": (
        mapped(ErrorRule(status=418, verdict=O)),
        418,
        b"",
        "operator client_refused",
    ),
    "a-transient-line": (
        mapped(ErrorRule(code="x", verdict=T)),
        400,
        {"error": "x"},
        "transient temporarily_unavailable",
    ),
    "an-ambiguous-line": (
        mapped(ErrorRule(code="invalid_grant", verdict=A)),
        400,
        {"error": "invalid_grant"},
        "ambiguous unknown_error",
    ),
    "a-line-with-a-canonical-code": (
        mapped(ErrorRule(code="x", verdict=U, canonical="mfa")),
        400,
        {"error": "x"},
        "user mfa",
    ),
    "a-line-for-a-429": (
        mapped(ErrorRule(status=429, code="x", verdict=U)),
        429,
        {"error": "x"},
        "user invalid_grant",
    ),
    "a-pattern-without-a-description": (
        mapped(ErrorRule(pattern="(?i)x", verdict=U)),
        400,
        {"error": "y"},
        "ambiguous unknown_error",
    ),
    "a-pattern-that-is-none": (
        mapped(ErrorRule(pattern="(", verdict=U)),
        400,
        said("y", "("),
        "ambiguous unknown_error",
    ),
    "a-line-for-another-status": (
        mapped(ErrorRule(status=400, verdict=U)),
        403,
        {"error": "y"},
        "ambiguous unknown_error",
    ),
}


@pytest.mark.parametrize(("profile", "status", "body", "expected"), MAPPED.values(), ids=MAPPED)
def test_a_line_of_the_error_map_applies_where_everything_that_it_names_matches(
    profile: ProviderProfile, status: int, body: object, expected: str
) -> None:
    verdict = refused(body, status, profile)

    assert f"{verdict.failure_class} {verdict.code}" == expected


def test_the_first_line_that_applies_decides() -> None:
    profile = mapped(
        ErrorRule(status=401, code="oops", verdict=U),
        ErrorRule(code="oops", verdict=O),
        ErrorRule(code="oops", verdict=T),
    )

    assert refused({"error": "oops"}, 401, profile).failure_class is U
    assert refused({"error": "oops"}, 400, profile).failure_class is O


@pytest.mark.parametrize("verdict", [U, O, A])
@pytest.mark.parametrize("status", [500, 503])
def test_no_line_makes_more_of_a_5xx_than_a_transient_failure(
    status: int, verdict: FailureClass
) -> None:
    profile = mapped(ErrorRule(status=status, verdict=verdict))

    assert refused({"error": "invalid_grant"}, status, profile).failure_class is T


@pytest.mark.parametrize("status", [500, 503, 507, 520, 524])
@pytest.mark.parametrize("spends", [None, True, False])
@pytest.mark.parametrize("verdict", FailureClass)
def test_a_5xx_leaves_the_token_in_doubt_unless_a_line_says_that_it_spends_nothing(
    status: int, spends: bool | None, verdict: FailureClass
) -> None:
    rule = ErrorRule(code="x", verdict=verdict, spends=spends)

    told, unnamed = (refused({"error": code}, status, mapped(rule)) for code in ("x", "y"))

    assert (told.failure_class, told.outcome_unknown) == (T, spends is not False)
    assert unnamed.outcome_unknown


def test_a_line_may_make_a_5xx_a_rate_limit_and_its_outcome_stays_unknown() -> None:
    profile = mapped(ErrorRule(verdict=T, cools=True))

    verdict = refused(b"", 500, profile)

    assert (verdict.code, verdict.cools_client, verdict.counts) == ("rate_limited", True, False)
    assert verdict.outcome_unknown


@pytest.mark.parametrize("verdict", FailureClass)
@pytest.mark.parametrize("canonical", [None, "temporarily_unavailable", "invalid_client"])
def test_a_line_that_cools_cools_the_client_and_is_no_failure_of_the_grants(
    verdict: FailureClass, canonical: str | None
) -> None:
    told = [
        refused({"error": "x"}, 400, mapped(rule))
        for rule in (
            ErrorRule(code="x", verdict=verdict, canonical=canonical, cools=True),
            ErrorRule(code="x", verdict=verdict, canonical=canonical),
        )
    ]

    assert [(one.counts, one.cools_client) for one in told] == [(False, True), (True, False)]


SPENDS = {
    "what-may-work-later-may-have-spent-it": (ErrorRule(code="x", verdict=T), True),
    "but-a-rate-limit-has-not": (ErrorRule(code="x", verdict=T, cools=True), False),
    "nor-has-a-refusal": (ErrorRule(code="x", verdict=O), False),
    "nor-what-is-not-known": (ErrorRule(code="x", verdict=A), False),
    "a-canonical-code-is-its-row": (
        ErrorRule(code="x", verdict=T, canonical="server_error"),
        True,
    ),
    "the-line-says-no": (ErrorRule(code="x", verdict=T, spends=False), False),
    "the-line-says-no-of-a-known-code": (
        ErrorRule(code="x", verdict=T, canonical="server_error", spends=False),
        False,
    ),
    "the-line-says-yes": (ErrorRule(code="x", verdict=A, spends=True), True),
    "the-line-says-yes-of-a-limit": (
        ErrorRule(code="x", verdict=T, cools=True, spends=True),
        True,
    ),
}


@pytest.mark.parametrize(("rule", "expected"), SPENDS.values(), ids=SPENDS)
def test_a_line_says_whether_the_token_may_be_spent(rule: ErrorRule, expected: bool) -> None:
    assert refused({"error": "x"}, 400, mapped(rule)).outcome_unknown == expected


@pytest.mark.parametrize("canonical", ["invalid_client", "invalid_scope"])
def test_a_token_that_may_be_spent_is_not_tried_once_more(canonical: str) -> None:
    rules = [
        ErrorRule(code=code, verdict=O, canonical=canonical, spends=code == "spent")
        for code in ("spent", "kept")
    ]

    spent, kept = (
        refused({"error": code}, 400, mapped(*rules), sent_scope=True) for code in ("spent", "kept")
    )

    assert (spent.tries_next_secret, spent.drops_scope) == (False, False)
    assert kept.tries_next_secret or kept.drops_scope


def test_a_line_for_a_wrong_secret_tries_the_next_one() -> None:
    rule = ErrorRule(code="bad_secret", verdict=O, canonical="invalid_client")

    verdict = refused({"error": "bad_secret"}, 400, mapped(rule))

    assert (verdict.code, verdict.tries_next_secret) == ("invalid_client", True)


@pytest.mark.parametrize("verdict", FailureClass)
def test_a_canonical_code_does_not_change_the_class_of_its_line(verdict: FailureClass) -> None:
    rule = ErrorRule(code="x", verdict=verdict, canonical="invalid_client")

    judged = refused({"error": "x"}, 400, mapped(rule))

    assert (judged.failure_class, judged.code) == (verdict, "invalid_client")
    assert judged.tries_next_secret == (verdict is O)


def test_nothing_is_tried_without_a_scope_that_was_not_sent() -> None:
    rule = ErrorRule(code="x", verdict=O, canonical="invalid_scope")

    verdicts = [
        refused({"error": "x"}, 400, mapped(rule), sent_scope=sent) for sent in (True, False)
    ]

    assert [verdict.drops_scope for verdict in verdicts] == [True, False]
