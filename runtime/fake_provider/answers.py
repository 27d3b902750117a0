"""What an outcome looks like on the wire, under given quirks."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from runtime.fake_provider.canned import Answer, canned_answer
from runtime.fake_provider.grants import Issued, Refused
from runtime.fake_provider.quirks import ExpiryShape, Quirks

_FORM = "application/x-www-form-urlencoded"
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
_MISSING = object()

_SHAPES: dict[ExpiryShape, Callable[[float, float], Any]] = {
    ExpiryShape.SECONDS: lambda left_s, _: int(left_s),
    ExpiryShape.STRING: lambda left_s, _: str(int(left_s)),
    ExpiryShape.FLOAT: lambda left_s, _: float(left_s),
    ExpiryShape.MILLISECONDS: lambda left_s, _: int(left_s * 1000),
    ExpiryShape.EPOCH_S: lambda _, at_s: int(at_s),
    ExpiryShape.EPOCH_MS: lambda _, at_s: int(at_s * 1000),
    ExpiryShape.ISO8601: lambda _, at_s: datetime.fromtimestamp(at_s, UTC).isoformat(),
    ExpiryShape.DURATION: lambda left_s, _: _duration(int(left_s)),
    ExpiryShape.NULL: lambda _left_s, _at_s: None,
    ExpiryShape.MISSING: lambda _left_s, _at_s: _MISSING,
}


def success(issued: Issued, quirks: Quirks, *, now_s: float) -> Answer:
    """Return the answer to a refresh that was done (RFC 6749 section 5.1).

    Args:
        issued: What it gave.
        quirks: How to show it.
        now_s: The true time; the quirks say how far the server's clock is off.
    """
    fields: dict[str, Any] = {"access_token": issued.access_token, "token_type": "Bearer"}
    expiry = quirks.expires_in
    if expiry is UNSET:
        left_s = round(issued.expires_at - now_s, 3)
        expiry = _SHAPES[quirks.expiry_shape](left_s, issued.expires_at + quirks.clock_skew_s)
    if expiry is not _MISSING:
        fields["expires_in"] = expiry
    if issued.refresh_token is not None:
        fields["refresh_token"] = issued.refresh_token
    elif quirks.kept_refresh_token != "absent":  # noqa: S105 -- the name of a way
        kept = {"null": None, "empty": "", "same": issued.presented}
        fields["refresh_token"] = kept[quirks.kept_refresh_token]
    body: dict[str, Any] = {}
    for name, value in fields.items():
        _put(body, quirks.fields.get(name, name), value)
    body |= quirks.extra_fields
    if quirks.padding_bytes:
        body["padding"] = "x" * quirks.padding_bytes
    if quirks.envelope:
        body = {quirks.envelope: body}
    return _as_asked(200, body, quirks, _NO_STORE)


def refusal(refused: Refused, quirks: Quirks) -> Answer:
    """Return the answer to a request that was refused (RFC 6749 section 5.2)."""
    status = refused.status
    body: dict[str, Any] = {"error": refused.code, "error_description": refused.description}
    match quirks.error_style:
        case "rfc":
            pass
        case "github":
            status = 200
        case "slack":
            status, body = 200, {"ok": False, "error": refused.code}
        case "nested":
            inner = msgspec.json.encode({"errors": [{"title": refused.code}]}).decode()
            body = {"error": "unsupported_token_type", "error_description": inner}
    return _as_asked(status, body, quirks, _NO_STORE | refused.headers)


def with_error(answer: Answer, quirks: Quirks) -> Answer:
    """Return a success that calls itself an error, its tokens in it (quirk 37)."""
    error = {"error": "rate_limited", "error_description": "Minutely limit exceeded"}
    if quirks.answer_format == "form":
        body = answer.body + b"&" + urlencode(error).encode()
    else:
        body = msgspec.json.encode(msgspec.json.decode(answer.body, type=dict[str, Any]) | error)
    return answer._replace(status=quirks.error_status, body=body)


def override(quirks: Quirks, *, now_s: float) -> Answer:
    """Return the answer that is given in place of the true one."""
    answer = Answer(200, b"", {})
    if quirks.canned is not None:
        answer = canned_answer(quirks.canned, now_s=now_s + quirks.clock_skew_s)
    if quirks.status is not None:
        answer = answer._replace(status=quirks.status)
    if quirks.body is not None:
        answer = answer._replace(body=quirks.body.encode())
    return answer


def _as_asked(status: int, body: dict[str, Any], quirks: Quirks, headers: dict[str, str]) -> Answer:
    """Encode a body, and name its type rightly or as the quirks say."""
    if quirks.answer_format == "form":
        flat = {name: "" if value is None else value for name, value in body.items()}
        encoded, content_type = urlencode(flat).encode(), _FORM
    else:
        encoded, content_type = msgspec.json.encode(body), "application/json"
    return Answer(status, encoded, headers | {"content-type": quirks.content_type or content_type})


def _put(body: dict[str, Any], path: str, value: Any) -> None:  # noqa: ANN401 -- a JSON value
    """Put a value where a dotted path says."""
    *outer, last = path.split(".")
    for name in outer:
        body = body.setdefault(name, {})
    body[last] = value


def _duration(left_s: int) -> str:
    """Return HH:MM:SS."""
    minutes, seconds = divmod(max(left_s, 0), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
