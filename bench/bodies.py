"""What is sent in the benchmark: credentials of a usual size, never the same twice."""

from typing import Any

import msgspec

_REFRESH = (
    b'{"credentials":{"credential_type":"oauth2","expires_at":"2099-01-01T00:00:00Z","secret":{'
    b'"access_token":"%0120d","refresh_token":"%0120d","token_type":"Bearer"}}}'
)


def refresh_body(number: int) -> bytes:
    """Return the body of a refresh; written by hand, since each microsecond of a load counts."""
    return _REFRESH % (number, number)


def credentials(number: int) -> dict[str, Any]:
    """Return the credentials in it."""
    return msgspec.json.decode(refresh_body(number))["credentials"]


def connect_body(connection_id: str) -> bytes:
    """Return the body that connects a connection."""
    return msgspec.json.encode(
        {
            "user_id": connection_id,
            "provider_id": connection_id,
            "provider_slug": "bench",
            "connection_id": connection_id,
            "credentials": credentials(0),
        }
    )
