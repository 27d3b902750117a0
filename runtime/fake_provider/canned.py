"""Answers that token endpoints are known to give, by name.

Source: PROVIDERS.md section 2; the number of the quirk stands at each.
"""

from email.utils import formatdate
from enum import StrEnum
from typing import NamedTuple

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"
_RETRY_AFTER_S = 7


class Canned(StrEnum):
    """The names."""

    SERVER_ERROR_500 = "server_error_500"
    UNAVAILABLE_503 = "unavailable_503"
    BAD_GATEWAY_502 = "bad_gateway_502"
    INVALID_GRANT_503 = "invalid_grant_503"
    """An outage whose body says invalid_grant (section 4: status before body)."""
    TOO_MANY_429_SECONDS = "too_many_429_seconds"
    TOO_MANY_429_DATE = "too_many_429_date"
    RATE_LIMITED_403 = "rate_limited_403"
    """GitHub's: 403 and rate-limit headers (quirk 34)."""
    WAF_403 = "waf_403"
    """A firewall's HTML page (quirk 35)."""
    EMPTY_401 = "empty_401"
    REDIRECT_302 = "redirect_302"
    """To ``/redirected`` of the same server (quirk 33)."""
    REDIRECT_307 = "redirect_307"
    GITHUB_ERROR_200 = "github_error_200"
    """Quirk 13."""
    SLACK_ERROR_200 = "slack_error_200"
    """Quirk 13."""
    NESTED_ERROR_400 = "nested_error_400"
    """Schwab's (quirk 17)."""
    EXACT_REUSED_401 = "exact_reused_401"
    """Quirk 18."""
    ATLASSIAN_REUSED_403 = "atlassian_reused_403"
    """Quirk 18."""
    EMPTY_200 = "empty_200"
    """Quirk 15."""
    TOKENLESS_200 = "tokenless_200"
    """Quirk 15."""
    BROKEN_JSON_200 = "broken_json_200"
    """Cut off within the object, but a complete HTTP answer (quirk 4)."""
    NOT_FOUND_404 = "not_found_404"


class Answer(NamedTuple):
    """What goes over the wire."""

    status: int
    body: bytes
    headers: dict[str, str]


def canned_answer(name: Canned, *, now_s: float) -> Answer:
    """Return the answer of that name, at that time of the server's clock."""
    if name is Canned.TOO_MANY_429_DATE:
        date = formatdate(now_s + _RETRY_AFTER_S, usegmt=True)
        return _json(429, '{"error":"slow_down"}', {"retry-after": date})
    if name is Canned.RATE_LIMITED_403:
        reset = str(int(now_s) + _RETRY_AFTER_S)
        limits = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
        return _json(403, '{"message":"API rate limit exceeded"}', limits)
    return _FIXED[name]


def _json(status: int, body: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, body.encode(), {"content-type": _JSON} | (headers or {}))


def _html(status: int, title: str) -> Answer:
    body = f"<!doctype html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return Answer(status, body.encode(), {"content-type": _HTML})


_INNER = r"{\"errors\":[{\"status\":400,\"title\":\"refresh_token_authentication_error\"}]}"

_FIXED = {
    Canned.SERVER_ERROR_500: _json(500, '{"error":"server_error"}'),
    Canned.UNAVAILABLE_503: _html(503, "Service Unavailable"),
    Canned.BAD_GATEWAY_502: _html(502, "Bad Gateway"),
    Canned.INVALID_GRANT_503: _json(503, '{"error":"invalid_grant"}'),
    Canned.TOO_MANY_429_SECONDS: _json(
        429, '{"error":"slow_down"}', {"retry-after": str(_RETRY_AFTER_S)}
    ),
    Canned.WAF_403: _html(403, "Access Denied"),
    Canned.EMPTY_401: Answer(401, b"", {}),
    Canned.REDIRECT_302: Answer(302, b"", {"location": "/redirected"}),
    Canned.REDIRECT_307: Answer(307, b"", {"location": "/redirected"}),
    Canned.GITHUB_ERROR_200: _json(
        200,
        '{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect '
        'or expired.","error_uri":"https://docs.example/errors"}',
    ),
    Canned.SLACK_ERROR_200: _json(200, '{"ok":false,"error":"invalid_refresh_token"}'),
    Canned.NESTED_ERROR_400: _json(
        400, '{"error":"unsupported_token_type","error_description":"' + _INNER + '"}'
    ),
    Canned.EXACT_REUSED_401: _json(
        401, '{"error":"unauthorized_client","error_description":"Old refresh token used."}'
    ),
    Canned.ATLASSIAN_REUSED_403: _json(
        403, '{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}'
    ),
    Canned.EMPTY_200: Answer(200, b"", {}),
    Canned.TOKENLESS_200: _json(200, '{"status":"accepted"}'),
    Canned.BROKEN_JSON_200: _json(200, '{"access_token":"at-cut","expires_in":36'),
    Canned.NOT_FOUND_404: _html(404, "Not Found"),
}
