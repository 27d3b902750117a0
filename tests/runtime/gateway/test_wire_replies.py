"""Answers have exactly the shape that the contract names, and credentials' bytes are in none."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given

from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, CredentialType, Opaque
from domain.decision import AccessToken, ConnectionRef
from domain.result import Failure, FailureCode, Success
from runtime.gateway.replies import (
    connection_view,
    failure_body,
    failure_headers,
    reply_body,
    value_body,
)
from tests.domain.shapes import CONNECTION_ID, connections, sealed, stored

NUMBERS = {
    "INVALID_COMMAND": 400,
    "INVALID_CREDENTIALS": 400,
    "UNKNOWN_PROVIDER": 400,
    "NOT_OWNED_BY_USER": 403,
    "CONNECTION_NOT_FOUND": 404,
    "NOT_ACTIVE": 409,
    "INVALID_TRANSITION": 409,
    "NOT_REFRESHABLE": 409,
    "REAUTH_REQUIRED": 409,
    "TOO_LARGE": 413,
    "OVERLOADED": 429,
    "DATABASE_ERROR": 503,
    "PROVIDER_UNAVAILABLE": 503,
    "PROVIDER_MISCONFIGURED": 503,
    "SHUTTING_DOWN": 503,
    "REFRESH_IN_PROGRESS": 504,
    "TIMED_OUT": 504,
}
VIEW_FIELDS = {
    "id", "user_id", "provider_id", "provider_slug", "alias", "status", "credentials",
    "connected_at", "last_sync_at", "created_at", "updated_at", "generation", "params",
}  # fmt: skip
MORE_VIEW_FIELDS = {
    "trouble", "doubted_at", "endpoint_base", "grant_expires_at", "scope", "notes", "refresh",
    "refreshed_at",
}  # fmt: skip
"""Those that are there only where they tell anything."""
CANARY = b"canary-7f3a-canary"


def test_the_codes_have_the_numbers_of_the_table() -> None:
    assert {code.value: code.number for code in FailureCode} == NUMBERS


def test_a_reply_without_a_value_is_null() -> None:
    assert reply_body(Success(None)) == b'{"ok":null}'


def test_a_connect_is_answered_with_the_id() -> None:
    body = reply_body(Success(ConnectionRef(CONNECTION_ID)))

    assert json.loads(body) == {"ok": {"connection_id": str(CONNECTION_ID)}}


def test_a_get_is_answered_with_the_fields_and_the_kind_of_credentials() -> None:
    expires_at = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    connection = msgspec.structs.replace(
        stored(ConnectionStatus.ACTIVE), credentials=sealed("canary", expires_at=expires_at)
    )

    body = reply_body(Success(connection))

    assert json.loads(body) == {
        "ok": {
            "id": "01890000-0000-7000-8000-00000000c0de",
            "user_id": "01890000-0000-7000-8000-0000000000a1",
            "provider_id": "01890000-0000-7000-8000-0000000000b1",
            "provider_slug": "schwab",
            "alias": "mine",
            "status": "active",
            "credentials": {"credential_type": "oauth2", "expires_at": "2026-03-01T12:30:00Z"},
            "connected_at": "2026-03-01T12:00:00Z",
            "last_sync_at": None,
            "created_at": "2026-03-01T12:00:00Z",
            "updated_at": "2026-03-01T12:00:00Z",
            "generation": 1,
            "params": {"subdomain": "acme"},
        }
    }


def test_a_get_shows_what_the_provider_told_and_what_was_odd() -> None:
    ends_at = datetime(2026, 7, 1, tzinfo=UTC)
    credentials = msgspec.structs.replace(
        sealed("canary"), notes=("scope_narrowed", "clock_skew"), scope="read"
    )
    connection = msgspec.structs.replace(
        stored(ConnectionStatus.ACTIVE),
        credentials=credentials,
        endpoint_base="https://eu.example.com",
        grant_expires_at=ends_at,
    )

    view = json.loads(reply_body(Success(connection)))["ok"]

    assert {name: view[name] for name in MORE_VIEW_FIELDS & set(view)} == {
        "endpoint_base": "https://eu.example.com",
        "grant_expires_at": "2026-07-01T00:00:00Z",
        "scope": "read",
        "notes": ["scope_narrowed", "clock_skew"],
    }


def test_a_get_shows_since_when_the_refresh_token_is_in_doubt() -> None:
    doubted_at = datetime(2026, 3, 1, 12, 10, tzinfo=UTC)
    connection = msgspec.structs.replace(stored(ConnectionStatus.ACTIVE), doubted_at=doubted_at)

    view = json.loads(reply_body(Success(connection)))["ok"]

    assert view["doubted_at"] == "2026-03-01T12:10:00Z"


@pytest.mark.parametrize("base", [None, "https://eu.example.com"])
def test_a_token_names_the_base_only_where_the_provider_told_one(base: str | None) -> None:
    token = AccessToken(
        access_token="a",
        token_type="Bearer",
        expires_at=None,
        generation=1,
        stale=False,
        endpoint_base=base,
    )

    told = json.loads(reply_body(Success(token)))["ok"]

    assert set(told) - {"endpoint_base"} == {
        "access_token",
        "token_type",
        "expires_at",
        "generation",
        "stale",
    }
    assert told.get("endpoint_base", None) == base
    assert ("endpoint_base" in told) == (base is not None)


@pytest.mark.parametrize(
    "status", [ConnectionStatus.PENDING, ConnectionStatus.FAILED, ConnectionStatus.DISCONNECTED]
)
def test_a_get_without_credentials_says_null(status: ConnectionStatus) -> None:
    assert connection_view(stored(status))["credentials"] is None


@given(connections())
def test_a_view_has_the_fields_of_the_contract_and_no_bytes(
    connection: ProviderConnection,
) -> None:
    view = json.loads(reply_body(Success(connection)))["ok"]

    assert set(view) - MORE_VIEW_FIELDS == VIEW_FIELDS
    assert all(view[name] for name in set(view) & MORE_VIEW_FIELDS)
    assert view["status"] == connection.status
    if connection.credentials is None:
        assert view["credentials"] is None
    else:
        assert set(view["credentials"]) == {"credential_type", "expires_at"}


@pytest.mark.parametrize(
    "payload", [Opaque(data=CANARY), sealed(CANARY.decode()).payload], ids=["opaque", "sealed"]
)
def test_the_bytes_of_credentials_are_in_no_answer(payload: Opaque) -> None:
    credentials = Credentials(credential_type=CredentialType.CUSTOM, payload=payload)
    connection = msgspec.structs.replace(stored(ConnectionStatus.ACTIVE), credentials=credentials)

    body = reply_body(Success(connection))

    assert CANARY not in body
    assert b"Y2FuYXJ5" not in body
    assert CANARY.decode() not in repr(connection_view(connection))


def test_a_failure_names_code_and_message_and_nothing_that_does_not_apply() -> None:
    failure = Failure(code=FailureCode.NOT_OWNED_BY_USER, message="Connection not owned by user")

    body = reply_body(failure)

    assert body == failure_body(failure)
    assert json.loads(body) == {
        "error": {"code": "NOT_OWNED_BY_USER", "message": "Connection not owned by user"}
    }


@pytest.mark.parametrize("needs_user_action", [True, False])
def test_a_failure_carries_what_applies(*, needs_user_action: bool) -> None:
    failure = Failure(
        code=FailureCode.DATABASE_ERROR,
        message="Database error occurred: no quorum",
        needs_user_action=needs_user_action,
        retry_after_s=0.0,
    )

    assert json.loads(failure_body(failure)) == {
        "error": {
            "code": "DATABASE_ERROR",
            "message": "Database error occurred: no quorum",
            "needs_user_action": needs_user_action,
            "retry_after_s": 0.0,
        }
    }


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_has_the_two_service_error_headers(code: FailureCode) -> None:
    assert failure_headers(Failure(code=code, message="No")) == {
        "Nats-Service-Error": "No",
        "Nats-Service-Error-Code": str(NUMBERS[code]),
    }


def test_a_header_is_one_line_of_ascii_whatever_the_message() -> None:
    failure = Failure(code=FailureCode.NOT_ACTIVE, message="a\r\nX: é" + "x" * 500)

    text = failure_headers(failure)["Nats-Service-Error"]

    assert text.startswith("a??X: ?xxx")
    assert text.endswith("...")
    assert len(text) == 200


def test_any_value_can_be_an_answer() -> None:
    assert value_body({"connections": [], "cursor": None}) == (
        b'{"ok":{"connections":[],"cursor":null}}'
    )
