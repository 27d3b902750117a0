"""What each way of failing to refresh means, as data: PROVIDERS.md section 4.

A row is a ``Verdict``; ``domain.verdicts`` says in which order the tables are looked at.
"""

from msgspec.structs import replace

from domain.exchange import Reach, Verdict
from domain.profile import FailureClass

_T, _O, _U, _A = (
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)

# How an exchange ended without an answer.
NOT_SENT = Verdict(
    failure_class=_T,
    code="not_sent",
    reason="The provider could not be reached; nothing was sent",
)
LOST = Verdict(
    failure_class=_T,
    code="lost",
    reason="The provider was asked and no whole answer came",
    outcome_unknown=True,
)
MISCONFIGURED = Verdict(
    failure_class=_O,
    code="misconfigured",
    reason="The configuration of the provider does not allow a request",
)

# Statuses that decide alone.
SERVER_ERROR = Verdict(
    failure_class=_T,
    code="server_error",
    reason="The provider's token endpoint failed",
    outcome_unknown=True,
)
UNAVAILABLE = Verdict(
    failure_class=_T,
    code="temporarily_unavailable",
    reason="The provider's token endpoint cannot be reached behind its gateway",
    outcome_unknown=True,
)
_TRY_LATER = Verdict(
    failure_class=_T,
    code="temporarily_unavailable",
    reason="The provider is overloaded or under maintenance",
    outcome_unknown=True,
)
RATE_LIMITED = Verdict(
    failure_class=_T,
    code="rate_limited",
    reason="The provider asks to wait",
    counts=False,
    cools_client=True,
)
GATEWAY_STATUSES = (502, 503, 504)
WAIT_STATUSES = (408, 425, 429)
LIMITING_STATUSES = (400, 403)
"""Where the headers of a rate limit mean one; elsewhere they only tell of it."""

# Error codes.
INVALID_GRANT = Verdict(
    failure_class=_U,
    code="invalid_grant",
    reason="The provider no longer accepts the refresh token",
)
_CLIENT_REFUSED = Verdict(
    failure_class=_O,
    code="invalid_client",
    reason="The provider does not accept the client's credentials",
    reach=Reach.CLIENT,
)
_NOT_ALLOWED = Verdict(
    failure_class=_O,
    code="unauthorized_client",
    reason="The provider does not let this client refresh tokens",
    reach=Reach.CLIENT,
)
SCOPE_REFUSED = Verdict(
    failure_class=_O,
    code="invalid_scope",
    reason="The provider does not accept the configured scope",
    reach=Reach.CLIENT,
    drops_scope=True,
)
SCOPE_LOST = Verdict(
    failure_class=_U,
    code="invalid_scope",
    reason="The grant's scope is no longer valid at the provider",
)
_BAD_REQUEST = Verdict(
    failure_class=_A,
    code="invalid_request",
    reason="The provider did not accept the form of the request",
    escalates_to=_O,
)
_DENIED = Verdict(
    failure_class=_A,
    code="access_denied",
    reason="The provider denied access and did not say for how long",
    escalates_to=_U,
)


def _asks_user(code: str, reason: str) -> Verdict:
    return Verdict(failure_class=_U, code=code, reason=reason)


_INTERACTION = _asks_user("interaction_required", "The provider wants the user to act")
_CONSENT = _asks_user("consent_required", "The provider wants the user's consent anew")
_LOGIN = _asks_user("login_required", "The provider wants the user to log in")
_RAPT = _asks_user("invalid_rapt", "The provider's policy wants the user to log in anew")
_PASSWORD = _asks_user("password_changed", "The user's password at the provider has changed")

CODES: dict[str, Verdict] = {
    "invalid_grant": INVALID_GRANT,
    "bad_refresh_token": INVALID_GRANT,
    "BAD_REFRESH_TOKEN": INVALID_GRANT,
    "invalid_refresh_token": INVALID_GRANT,
    "refresh_token_reused": INVALID_GRANT,
    "invalid_code": INVALID_GRANT,
    "token_inactive": INVALID_GRANT,
    "interaction_required": _INTERACTION,
    "consent_required": _CONSENT,
    "login_required": _LOGIN,
    "invalid_rapt": _RAPT,
    "invalid_client": replace(_CLIENT_REFUSED, tries_next_secret=True),
    "incorrect_client_credentials": replace(_CLIENT_REFUSED, tries_next_secret=True),
    "unauthorized_client": _NOT_ALLOWED,
    "unsupported_grant_type": replace(_NOT_ALLOWED, code="unsupported_grant_type"),
    "invalid_target": replace(
        _NOT_ALLOWED,
        code="invalid_target",
        reason="The provider does not accept the configured resource",
    ),
    "invalid_scope": SCOPE_REFUSED,
    "invalid_request": _BAD_REQUEST,
    "access_denied": _DENIED,
    "server_error": SERVER_ERROR,
    "temporarily_unavailable": _TRY_LATER,
}
"""By error code, whatever the status below 500 (RFC 6749 section 5.2, RFC 8707, OpenID Connect
Core section 3.1.2.6; quirks 13 and 18)."""

SUB_CODES: dict[str, Verdict] = {
    "AADSTS50076": _asks_user("mfa_required", "The provider wants a second factor of the user"),
    "AADSTS50158": _asks_user("policy_required", "The provider's policy wants the user to act"),
    "AADSTS50173": _PASSWORD,
    "AADSTS700082": _asks_user("grant_idle", "The grant ended because it was not used"),
    "AADSTS700084": _asks_user("grant_expired", "The provider's grant has reached its end"),
    "consent_required": _CONSENT,
    "user_password_expired": _PASSWORD,
    "invalid_rapt": _RAPT,
}
"""By the finer code beside an error that means the user (Microsoft's AADSTS numbers and
``suberror``, Google's ``error_subtype``)."""

# What is left: statuses without a known code.
WRONG_ENDPOINT = Verdict(
    failure_class=_O,
    code="wrong_endpoint",
    reason="The configured URL is not the provider's token endpoint",
    reach=Reach.HOST,
)
UNAUTHORIZED = Verdict(
    failure_class=_O,
    code="unauthorized",
    reason="The provider does not accept the client and did not say why",
    reach=Reach.CLIENT,
)
PAGE = Verdict(
    failure_class=_A,
    code="not_the_provider",
    reason="A proxy or firewall may have answered in place of the provider",
    reach=Reach.HOST,
    escalates_to=_O,
)
NO_TOKENS = Verdict(
    failure_class=_A,
    code="no_tokens",
    reason="The provider's answer was a success and held no access token",
    outcome_unknown=True,
    escalates_to=_O,
)
UNKNOWN_ERROR = Verdict(
    failure_class=_A,
    code="unknown_error",
    reason="The provider refused for a reason that is not known",
    escalates_to=_O,
)

RULED: dict[FailureClass, Verdict] = {
    _T: _TRY_LATER,
    _O: Verdict(
        failure_class=_O,
        code="client_refused",
        reason="The provider refused, and by its profile the configuration is wrong",
        reach=Reach.CLIENT,
    ),
    _U: INVALID_GRANT,
    _A: UNKNOWN_ERROR,
}
"""What a line of an ``error_map`` gives, where it does not name a code itself."""

# What fails before the provider is asked; ``domain.token_read`` has the rest of these.
CANNOT_UNSEAL = Verdict(
    failure_class=_O,
    code="cannot_unseal",
    reason="The stored credentials cannot be decrypted with the configured keys",
)
STORE_UNAVAILABLE = Verdict(
    failure_class=_T,
    code="store_unavailable",
    reason="The refresh could not be stored, so the provider was not asked",
)

OF_ONE_CONNECTION = frozenset(
    {
        "template_value_missing",
        "template_value_malformed",
        "host_not_allowed",
        "endpoint_base_malformed",
        "endpoint_malformed",
        "endpoint_not_https",
        "header_not_allowed",
        "request_too_long",
    }
)
"""Reasons not to ask that can lie in one connection's own values."""
OF_ONE_HOST = frozenset({"issuer_mismatch"})
"""Those that lie in what one host says of itself."""
