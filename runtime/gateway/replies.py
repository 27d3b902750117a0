"""Replies and failures to JSON: the reply values of DESIGN.md section 3, on their way out."""

import msgspec

from domain.connection import ProviderConnection
from domain.decision import AccessToken, ConnectionRef, Reply
from domain.result import Failure, Success

_MESSAGE_LENGTH_MAX = 200
_SHOWN = (
    "id",
    "user_id",
    "provider_id",
    "provider_slug",
    "status",
    "created_at",
    "updated_at",
    "generation",
    "alias",
    "params",
    "connected_at",
    "last_sync_at",
)
_encoder = msgspec.json.Encoder()


def reply_body(reply: Reply) -> bytes:
    """Return the body of the answer."""
    match reply:
        case Success(value):
            match value:
                case None:
                    return b'{"ok":null}'
                case ConnectionRef():
                    return _encoder.encode({"ok": value})
                case AccessToken():
                    return _encoder.encode({"ok": value})
                case ProviderConnection():
                    return _encoder.encode({"ok": connection_view(value)})
        case Failure():
            return failure_body(reply)


def failure_body(failure: Failure) -> bytes:
    """Return ``{"error": {...}}`` without the fields that do not apply."""
    error = {k: v for k, v in msgspec.structs.asdict(failure).items() if v is not None}
    return _encoder.encode({"error": error})


def value_body(value: object) -> bytes:
    """Return ``{"ok": value}``."""
    return _encoder.encode({"ok": value})


def failure_headers(failure: Failure) -> dict[str, str]:
    """Return the two service error headers (ADR-32)."""
    return {
        "Nats-Service-Error": printable(failure.message),
        "Nats-Service-Error-Code": str(failure.code.number),
    }


def connection_view(connection: ProviderConnection) -> dict[str, object]:
    """Return what ``get`` and ``list`` show: no bytes of credentials, and no inner bookkeeping.

    ``trouble`` shows where the last refresh failed, ``doubted_at`` where the refresh token may be
    spent, ``refreshed_at`` where the credentials are the provider's own answer; what it told, and
    what was odd about it, shows where there is any.
    """
    fields = {name: getattr(connection, name) for name in _SHOWN}
    credentials = connection.credentials
    more = {
        "trouble": connection.trouble,
        "doubted_at": connection.doubted_at,
        "refreshed_at": credentials and credentials.issued_at,
        "endpoint_base": connection.endpoint_base,
        "grant_expires_at": connection.grant_expires_at,
        "refresh": connection.refresh,
        "scope": credentials and credentials.scope,
        "notes": credentials and credentials.notes,
    }
    fields |= {name: value for name, value in more.items() if value}
    fields["credentials"] = credentials and {
        "credential_type": credentials.credential_type,
        "expires_at": credentials.expires_at,
    }
    return fields


def printable(text: str) -> str:
    """Return ``text`` fit for a header and a log line: short, printable ASCII, one line."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text[: _MESSAGE_LENGTH_MAX + 1])
    return clean if len(clean) <= _MESSAGE_LENGTH_MAX else clean[: _MESSAGE_LENGTH_MAX - 3] + "..."
