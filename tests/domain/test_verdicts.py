"""Every row of PROVIDERS.md section 4 has the class, and the marks, that the section gives it.

Case ids name the row, or the quirk of section 2. A case is a status, a body, and what is
expected: ``class code`` and then the marks that are not the usual ones.
"""

from typing import Any

import pytest

from domain.exchange import Exchange, Lost, Misconfigured, NotSent, Tokens, Verdict
from domain.profile import AnswerPaths, FailureClass, ProviderProfile
from domain.verdict_table import CANNOT_UNSEAL, STORE_UNAVAILABLE
from domain.verdicts import judge
from tests.domain.oauth_answers import answered

PLAIN = ProviderProfile(slug="plain")
HTML = b"<html><body>Forbidden</body></html>"
USUAL = {
    "outcome_unknown": False,
    "counts": True,
    "cools_client": False,
    "retry_after_s": None,
    "tries_next_secret": False,
    "drops_scope": False,
    "escalates_to": None,
}
IN_DOUBT = {"outcome_unknown": True}
TO_OPERATOR = {"escalates_to": "operator"}
WAITS = {"counts": False, "cools_client": True}


def refused(
    exchange: Exchange, profile: ProviderProfile = PLAIN, *, sent_scope: bool = False
) -> Verdict:
    """Return the verdict on an exchange that must have failed."""
    verdict = judge(profile, exchange, sent_scope=sent_scope)
    assert isinstance(verdict, Verdict)
    return verdict


def summary(verdict: Verdict) -> tuple[str, dict[str, object]]:
    """Return ``class code``, and the marks that are not the usual ones."""
    marks = {name: getattr(verdict, name) for name in USUAL}
    unusual = {name: mark for name, mark in marks.items() if mark != USUAL[name]}
    return f"{verdict.failure_class} {verdict.code}", unusual


NO_ANSWER: dict[str, tuple[Exchange, str, dict[str, Any]]] = {
    "row-not-sent": (NotSent(code="connect_failed"), "transient connect_failed", {}),
    "row-not-sent-tls": (NotSent(code="tls_failed"), "transient tls_failed", {}),
    "row-lost-after-send": (
        Lost(code="timeout"),
        "transient timeout",
        {"outcome_unknown": True},
    ),
    "row-misconfigured": (
        Misconfigured(code="host_not_allowed"),
        "operator host_not_allowed",
        {},
    ),
    "not-sent-with-free-text": (NotSent(code="no such host: x"), "transient not_sent", {}),
    "lost-with-free-text": (Lost(code=""), "transient lost", {"outcome_unknown": True}),
    "misconfigured-with-free-text": (Misconfigured(code="a b"), "operator misconfigured", {}),
}


@pytest.mark.parametrize(("exchange", "expected", "marks"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_an_exchange_without_an_answer_is_judged_by_how_it_ended(
    exchange: Exchange, expected: str, marks: dict[str, Any]
) -> None:
    verdict = refused(exchange)

    assert summary(verdict) == (expected, marks)
    assert verdict.provider_code is None


ROWS: dict[str, tuple[int, object, str, dict[str, Any]]] = {
    # 5xx: the status alone decides.
    "row-500": (500, b"", "transient server_error", IN_DOUBT),
    "row-501": (501, HTML, "transient server_error", IN_DOUBT),
    "row-599": (599, b"", "transient server_error", IN_DOUBT),
    "row-507": (507, b"", "transient server_error", IN_DOUBT),
    "row-520-of-a-cdn": (520, HTML, "transient server_error", IN_DOUBT),
    "row-524-of-a-cdn": (524, HTML, "transient server_error", IN_DOUBT),
    "row-502": (502, HTML, "transient temporarily_unavailable", IN_DOUBT),
    "row-503": (503, b"", "transient temporarily_unavailable", IN_DOUBT),
    "row-504": (504, b"", "transient temporarily_unavailable", IN_DOUBT),
    # The provider asks to wait.
    "row-408": (408, b"", "transient rate_limited", WAITS),
    "row-425": (425, b"", "transient rate_limited", WAITS),
    "row-429": (429, b"", "transient rate_limited", WAITS),
    "quirk-35-429-with-a-page": (429, HTML, "transient rate_limited", WAITS),
    "quirk-35-429-with-json": (429, {"error": "slow"}, "transient rate_limited", WAITS),
    "row-server_error": (400, {"error": "server_error"}, "transient server_error", IN_DOUBT),
    "row-temporarily_unavailable": (
        400,
        {"error": "temporarily_unavailable"},
        "transient temporarily_unavailable",
        IN_DOUBT,
    ),
    # The grant is dead.
    "row-invalid_grant-400": (400, {"error": "invalid_grant"}, "user invalid_grant", {}),
    "row-invalid_grant-401": (401, {"error": "invalid_grant"}, "user invalid_grant", {}),
    "quirk-18-atlassian-403": (403, {"error": "invalid_grant"}, "user invalid_grant", {}),
    "quirk-14-invalid_grant-as-form": (400, b"error=invalid_grant", "user invalid_grant", {}),
    "quirk-13-invalid_grant-200": (200, {"error": "invalid_grant"}, "user invalid_grant", {}),
    "quirk-4-invalid_grant-in-broken-json": (
        400,
        b'{"error":"invalid_grant","error_description":"\\ud800"}',
        "user invalid_grant",
        {},
    ),
    "quirk-13-github-200-bad_refresh_token": (
        200,
        {"error": "bad_refresh_token"},
        "user invalid_grant",
        {},
    ),
    "quirk-13-14-github-form-bad_refresh_token": (
        200,
        b"error=bad_refresh_token&error_description=The+refresh+token",
        "user invalid_grant",
        {},
    ),
    "quirk-18-hubspot": (400, {"error": "BAD_REFRESH_TOKEN"}, "user invalid_grant", {}),
    "quirk-18-invalid_refresh_token": (
        400,
        {"error": "invalid_refresh_token"},
        "user invalid_grant",
        {},
    ),
    "quirk-18-codex": (401, {"error": "refresh_token_reused"}, "user invalid_grant", {}),
    "quirk-18-zoho-invalid_code": (200, {"error": "invalid_code"}, "user invalid_grant", {}),
    "row-token_inactive": (404, {"error": "token_inactive"}, "user invalid_grant", {}),
    # The user must act.
    "row-interaction_required": (
        400,
        {"error": "interaction_required"},
        "user interaction_required",
        {},
    ),
    "row-consent_required": (400, {"error": "consent_required"}, "user consent_required", {}),
    "row-login_required": (400, {"error": "login_required"}, "user login_required", {}),
    "row-invalid_rapt": (400, {"error": "invalid_rapt"}, "user invalid_rapt", {}),
    "row-invalid_rapt-as-subtype": (
        400,
        {"error": "invalid_grant", "error_subtype": "invalid_rapt"},
        "user invalid_rapt",
        {},
    ),
    "row-aadsts50076-mfa": (
        400,
        {"error": "interaction_required", "error_codes": [50076]},
        "user mfa_required",
        {},
    ),
    "row-aadsts50158-policy": (
        400,
        {"error": "invalid_grant", "error_codes": [50158]},
        "user policy_required",
        {},
    ),
    "row-aadsts50173-password": (
        400,
        {"error": "invalid_grant", "error_codes": [1, 50173], "suberror": "bad_token"},
        "user password_changed",
        {},
    ),
    "row-aadsts700082-idle": (
        400,
        {"error": "invalid_grant", "error_codes": [700082]},
        "user grant_idle",
        {},
    ),
    "row-aadsts700084-beside-an-unknown-code": (
        400,
        {"error": "new_code", "error_codes": [700084]},
        "user grant_expired",
        {},
    ),
    "row-suberror-consent": (
        400,
        {"error": "invalid_grant", "suberror": "consent_required"},
        "user consent_required",
        {},
    ),
    "row-suberror-password": (
        400,
        {"error": "invalid_grant", "suberror": "user_password_expired"},
        "user password_changed",
        {},
    ),
    "row-aadsts-is-never-a-substring": (
        400,
        {"error": "invalid_grant", "error_codes": [5007600, 150076], "suberror": "x-AADSTS50076"},
        "user invalid_grant",
        {},
    ),
    "row-aadsts-beside-a-definite-code": (
        401,
        {"error": "invalid_client", "error_codes": [50076]},
        "operator invalid_client",
        {"tries_next_secret": True},
    ),
    # The operator must act.
    "row-invalid_client": (
        401,
        {"error": "invalid_client"},
        "operator invalid_client",
        {"tries_next_secret": True},
    ),
    "quirk-13-incorrect_client_credentials": (
        200,
        {"error": "incorrect_client_credentials"},
        "operator invalid_client",
        {"tries_next_secret": True},
    ),
    "row-401-without-oauth-body": (401, {"message": "no"}, "operator unauthorized", {}),
    "row-401-plain-words": (401, b"Unauthorized", "operator unauthorized", {}),
    "row-unauthorized_client": (
        400,
        {"error": "unauthorized_client"},
        "operator unauthorized_client",
        {},
    ),
    "row-unsupported_grant_type": (
        400,
        {"error": "unsupported_grant_type"},
        "operator unsupported_grant_type",
        {},
    ),
    "row-invalid_target": (400, {"error": "invalid_target"}, "operator invalid_target", {}),
    "row-invalid_scope-not-sent": (400, {"error": "invalid_scope"}, "user invalid_scope", {}),
    "quirk-33-301": (301, b"", "operator wrong_endpoint", {}),
    "quirk-33-302": (302, HTML, "operator wrong_endpoint", {}),
    "quirk-33-308": (308, {"error": "moved"}, "operator wrong_endpoint", {}),
    "row-404": (404, HTML, "operator wrong_endpoint", {}),
    "row-405": (405, b"", "operator wrong_endpoint", {}),
    "row-410": (410, {"error": "gone"}, "operator wrong_endpoint", {}),
    # It cannot be told.
    "row-invalid_request": (
        400,
        {"error": "invalid_request"},
        "ambiguous invalid_request",
        TO_OPERATOR,
    ),
    "row-access_denied": (
        400,
        {"error": "access_denied"},
        "ambiguous access_denied",
        {"escalates_to": "user"},
    ),
    "quirk-35-400-html": (400, HTML, "ambiguous not_the_provider", TO_OPERATOR),
    "quirk-35-401-html": (401, HTML, "ambiguous not_the_provider", TO_OPERATOR),
    "quirk-35-403-html": (403, HTML, "ambiguous not_the_provider", TO_OPERATOR),
    "quirk-35-403-html-after-a-mark": (
        403,
        b"\xef\xbb\xbf\n" + HTML,
        "ambiguous not_the_provider",
        TO_OPERATOR,
    ),
    "row-400-empty": (400, b"", "ambiguous not_the_provider", TO_OPERATOR),
    "row-401-empty": (401, b" ", "ambiguous not_the_provider", TO_OPERATOR),
    "row-403-empty": (403, b"", "ambiguous not_the_provider", TO_OPERATOR),
    "row-407": (407, {"error": "proxy"}, "ambiguous not_the_provider", TO_OPERATOR),
    "quirk-15-200-empty": (
        200,
        b"",
        "ambiguous no_tokens",
        TO_OPERATOR | {"outcome_unknown": True},
    ),
    "quirk-15-200-without-token": (
        200,
        {"access_token": "", "token_type": "bearer"},
        "ambiguous no_tokens",
        TO_OPERATOR | {"outcome_unknown": True},
    ),
    "quirk-15-204": (204, b"", "ambiguous no_tokens", TO_OPERATOR | {"outcome_unknown": True}),
    "row-unknown-code-400": (400, {"error": "oops"}, "ambiguous unknown_error", TO_OPERATOR),
    "row-unknown-code-401": (401, {"error": "oops"}, "ambiguous unknown_error", TO_OPERATOR),
    "row-unknown-code-422": (422, {"error": "oops"}, "ambiguous unknown_error", TO_OPERATOR),
    "row-unknown-code-200": (200, {"error": "oops"}, "ambiguous unknown_error", TO_OPERATOR),
    "row-error-without-code": (400, {"error": {}}, "ambiguous unknown_error", TO_OPERATOR),
    "row-json-without-error": (403, {"message": "x"}, "ambiguous unknown_error", TO_OPERATOR),
    "codes-are-exact": (400, {"error": "INVALID_GRANT"}, "ambiguous unknown_error", TO_OPERATOR),
    "a-description-is-no-code": (
        400,
        {"error": "oops", "error_description": "invalid_grant"},
        "ambiguous unknown_error",
        TO_OPERATOR,
    ),
    "a-status-that-is-none": (199, b"", "ambiguous unknown_error", TO_OPERATOR),
    "a-status-beyond-http": (700, {"error": "invalid_grant"}, "transient server_error", IN_DOUBT),
}


@pytest.mark.parametrize(("status", "body", "expected", "marks"), ROWS.values(), ids=ROWS)
def test_an_answer_is_judged_by_its_row(
    status: int, body: object, expected: str, marks: dict[str, Any]
) -> None:
    assert summary(refused(answered(body, status))) == (expected, marks)


def test_row_invalid_scope_is_our_configurations_fault_where_we_sent_one() -> None:
    verdict = refused(answered({"error": "invalid_scope"}, 400), sent_scope=True)

    assert summary(verdict) == ("operator invalid_scope", {"drops_scope": True})


@pytest.mark.parametrize("status", [500, 502, 503, 599])
@pytest.mark.parametrize(
    "error", ["invalid_grant", "bad_refresh_token", "invalid_client", "access_denied"]
)
def test_a_5xx_is_transient_whatever_its_body_says(status: int, error: str) -> None:
    assert refused(answered({"error": error}, status)).failure_class is FailureClass.TRANSIENT


@pytest.mark.parametrize("status", [408, 425, 429])
def test_quirk_35_a_rate_limit_is_no_dead_grant_whatever_its_body_says(status: int) -> None:
    verdict = refused(answered({"error": "invalid_grant"}, status))

    assert summary(verdict) == ("transient rate_limited", WAITS)


LIMITED = {
    "row-403-with-rate-limit-headers": (403, {"message": "limit"}, "transient rate_limited"),
    "row-400-with-rate-limit-headers": (400, {"error": "oops"}, "transient rate_limited"),
    "row-403-html-with-rate-limit-headers": (403, HTML, "transient rate_limited"),
    "row-access_denied-with-rate-limit-headers": (
        400,
        {"error": "access_denied"},
        "transient rate_limited",
    ),
    "a-definite-code-beats-the-headers": (400, {"error": "invalid_grant"}, "user invalid_grant"),
    "a-client-refused-beats-the-headers": (
        400,
        {"error": "unauthorized_client"},
        "operator unauthorized_client",
    ),
    "other-statuses-only-tell-of-the-limit": (401, {"message": "x"}, "operator unauthorized"),
}


@pytest.mark.parametrize(("status", "body", "expected"), LIMITED.values(), ids=LIMITED)
def test_the_headers_of_a_rate_limit_count_where_the_answer_is_not_definite(
    status: int, body: object, expected: str
) -> None:
    verdict = refused(answered(body, status, is_rate_limited=True))

    assert summary(verdict)[0] == expected
    assert verdict.cools_client == (verdict.code == "rate_limited")


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        pytest.param(CANNOT_UNSEAL, "operator cannot_unseal", id="row-decrypt-failure"),
        pytest.param(STORE_UNAVAILABLE, "transient store_unavailable", id="row-store-before-post"),
    ],
)
def test_what_fails_here_has_its_row_too(verdict: Verdict, expected: str) -> None:
    assert summary(verdict) == (expected, {})


@pytest.mark.parametrize("status", [200, 400])
def test_row_tokens_in_an_answer_that_cannot_be_parsed_are_a_success(status: int) -> None:
    body = b'{"access_token":"at-1","refresh_token":"rt-1","expires_in":NaN,"error":'

    outcome = judge(PLAIN, answered(body, status), sent_scope=False)

    assert isinstance(outcome, Tokens)
    assert (outcome.access_token, outcome.refresh_token) == ("at-1", "rt-1")


def test_quirk_37_tokens_in_a_rate_limit_are_a_success() -> None:
    body = {"error": "access_denied", "access_token": "at-1", "refresh_token": "rt-1"}

    assert isinstance(judge(PLAIN, answered(body, 400), sent_scope=False), Tokens)


def test_quirk_16_errors_are_taken_from_the_paths_of_the_profile_and_nowhere_else() -> None:
    nested = ProviderProfile(slug="p", answer=AnswerPaths(error="errors.0.errorType"))
    body = {"errors": [{"errorType": "invalid_grant"}], "error": "invalid_client"}

    assert refused(answered(body, 400), nested).code == "invalid_grant"
    assert refused(answered({"errors": body["errors"]}, 400)).code == "unknown_error"


def test_quirk_13_slack_is_judged_by_its_code_though_the_status_is_200() -> None:
    slack = ProviderProfile(slug="slack", answer=AnswerPaths(success_flag="ok"))

    coded = refused(answered({"ok": False, "error": "invalid_refresh_token"}), slack)
    silent = refused(answered({"ok": False}), slack)

    assert summary(coded) == ("user invalid_grant", {})
    assert summary(silent) == ("ambiguous unknown_error", TO_OPERATOR)
