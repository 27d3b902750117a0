"""Each row of the command table is read as the command that it names."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.commands import ChangeStatus, Connect, Disconnect, Get, MarkSynced, Refresh
from domain.connection import ConnectionStatus
from domain.credentials import Credentials, CredentialType, Opaque, Unsealed
from domain.list_query import LIST_LIMIT_DEFAULT, HistoryQuery, ListQuery
from domain.profile import RefreshMode
from runtime.gateway.queries import read_history_query, read_list_query
from runtime.gateway.wire import (
    CONNECTION_VERBS,
    read_connect,
    read_connection_id,
    read_timeout_s,
)
from tests.domain.shapes import stored
from tests.fixtures.wire_bodies import (
    BYTES_MAX,
    CONNECT,
    CONNECTION_ID,
    GOOD,
    NEW_ID,
    OAUTH2,
    OPAQUE,
    PROVIDER_ID,
    SECRET,
    USER_ID,
    body_of,
    command,
    connect,
    read,
    without,
)

STORED_OPAQUE = Credentials(
    credential_type=CredentialType.API_KEY, payload=Opaque(data=b"opaque"), expires_at=None
)


def unsealed_of(asked: object) -> Unsealed:
    """Return the plaintext credentials of a connect or a refresh."""
    assert isinstance(asked, Connect | Refresh)
    assert isinstance(asked.credentials, Unsealed)
    return asked.credentials


def refresh_with(credentials: object) -> Refresh:
    """Read a refresh with ``credentials``."""
    asked = command("refresh", body_of({"credentials": credentials}))
    assert isinstance(asked, Refresh)
    return asked


def test_connect_takes_every_field_of_its_row() -> None:
    fields = {
        **CONNECT,
        "credentials": OPAQUE,
        "alias": "home",
        "params": {"subdomain": "acme"},
        "connection_id": str(CONNECTION_ID),
        "refresh": "on_demand",
        "granted_at": "2026-01-01T01:00:00+01:00",
        "grant_expires_at": "2027-01-01T00:00:00Z",
        "pending": False,
    }

    assert connect(body_of(fields)) == Connect(
        connection_id=CONNECTION_ID,
        user_id=USER_ID,
        provider_id=PROVIDER_ID,
        provider_slug="schwab",
        credentials=STORED_OPAQUE,
        alias="home",
        params={"subdomain": "acme"},
        refresh=RefreshMode.ON_DEMAND,
        granted_at=datetime(2026, 1, 1, tzinfo=UTC),
        grant_expires_at=datetime(2027, 1, 1, tzinfo=UTC),
        pending=False,
    )


def test_connect_without_an_id_takes_a_new_one_and_leaves_the_rest_unset() -> None:
    asked = connect(body_of(CONNECT))

    assert asked.connection_id == NEW_ID
    assert (asked.alias, asked.params, asked.refresh, asked.pending) == (None, None, None, False)


@pytest.mark.parametrize("body_id", [None, str(CONNECTION_ID)])
def test_connect_by_subject_takes_the_id_of_the_subject(body_id: str | None) -> None:
    body = body_of(CONNECT, connection_id=body_id)

    by_verb = command("connect", body)
    by_subject = read_connect(
        body, new_id=lambda _: NEW_ID, subject_id=CONNECTION_ID, credential_bytes_max=BYTES_MAX
    )

    assert by_verb.connection_id == by_subject.connection_id == CONNECTION_ID


@pytest.mark.parametrize(
    "fields", [without(CONNECT, "credentials"), {**CONNECT, "credentials": None}]
)
def test_a_pending_connect_needs_no_credentials(fields: dict[str, Any]) -> None:
    asked = connect(body_of(fields, pending=True))

    assert (asked.pending, asked.credentials) == (True, None)


def test_an_id_in_a_body_is_normalised_whatever_its_case() -> None:
    asked = connect(body_of(CONNECT, connection_id=str(CONNECTION_ID).upper()))

    assert str(asked.connection_id) == str(CONNECTION_ID)


def test_the_secret_is_kept_to_the_letter() -> None:
    text = '{ "access_token":"at\\u20ac" ,"x":[1.50, {"y":null}] }'
    body = b'{"credentials": {"credential_type": "oauth2", "secret":  %b  }}' % text.encode()

    assert unsealed_of(command("refresh", body)).secret.reveal() == text.encode()


def test_refresh_with_a_secret_is_to_be_sealed() -> None:
    unsealed = unsealed_of(refresh_with({**OAUTH2, "expires_at": "2026-01-01T02:00:00+02:00"}))

    assert unsealed.credential_type is CredentialType.OAUTH2
    assert json.loads(unsealed.secret.reveal()) == SECRET
    assert unsealed.expires_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert unsealed.expires_at is not None
    assert unsealed.expires_at.tzinfo is UTC


def test_refresh_with_sealed_bytes_keeps_them_as_they_are() -> None:
    assert refresh_with(OPAQUE) == Refresh(connection_id=CONNECTION_ID, credentials=STORED_OPAQUE)


@pytest.mark.parametrize("kind", CredentialType)
def test_every_kind_of_credentials_is_known(kind: CredentialType) -> None:
    secret = {"access_token": "at"} if kind is CredentialType.OAUTH2 else {"any": "thing"}

    asked = refresh_with({"credential_type": kind.value, "secret": secret})

    assert unsealed_of(asked).credential_type is kind


@pytest.mark.parametrize("expires_at", [None, "absent"])
def test_credentials_without_an_expiry_never_lapse(expires_at: str | None) -> None:
    given = {**OAUTH2, "expires_at": None} if expires_at is None else OAUTH2

    assert unsealed_of(refresh_with(given)).expires_at is None


@pytest.mark.parametrize("absent", [{**OAUTH2, "encrypted_data": None}, {**OPAQUE, "secret": None}])
def test_a_null_beside_the_one_that_is_given_does_not_count(absent: dict[str, Any]) -> None:
    assert refresh_with(absent).credentials is not None


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        {},
        {"credential_type": "password", "secret": {"a": "b"}},
        {"credential_type": "", "secret": {"a": "b"}},
        {"credential_type": "OAUTH2", "secret": SECRET},
        {"credential_type": "password", "encrypted_data": "eA=="},
        {"credential_type": "oauth2", "secret": {}},
        {"credential_type": "api_key", "secret": {}},
        {"credential_type": "oauth2", "secret": {"access_token": ""}},
        {"credential_type": "api_key", "encrypted_data": ""},
    ],
)
def test_credentials_null_or_empty_or_of_an_unknown_type_are_a_failure_not_malformed(
    credentials: object,
) -> None:
    assert refresh_with(credentials).credentials is None
    assert connect(body_of(CONNECT, credentials=credentials)).credentials is None


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        ("expire", ConnectionStatus.EXPIRED),
        ("revoke", ConnectionStatus.REVOKED),
        ("fail", ConnectionStatus.FAILED),
    ],
)
@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", None), (b"{}", None), (b'{"reason":null}', None), (b'{"reason":"said so"}', "said so")],
)
def test_a_change_of_status_may_give_its_reason(
    verb: str, status: ConnectionStatus, body: bytes, reason: str | None
) -> None:
    assert command(verb, body) == ChangeStatus(
        connection_id=CONNECTION_ID, to_status=status, reason=reason
    )


@pytest.mark.parametrize("body", [b"", b"{}", b" { } \n"])
def test_get_explain_and_synced_need_no_body(body: bytes) -> None:
    assert command("get", body) == Get(connection_id=CONNECTION_ID)
    assert command("explain", body) == Get(connection_id=CONNECTION_ID)
    assert command("synced", body) == MarkSynced(connection_id=CONNECTION_ID)


def test_disconnect_names_its_user() -> None:
    assert command("disconnect", body_of({"user_id": str(USER_ID)})) == Disconnect(
        connection_id=CONNECTION_ID, user_id=USER_ID
    )


def test_every_verb_of_the_service_is_read() -> None:
    assert {f"id.{verb}" for verb in CONNECTION_VERBS} == {
        reader for reader in GOOD if reader.startswith("id.")
    }
    for reader, fields in GOOD.items():
        assert read(reader, body_of(fields)) is not None


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_list_without_a_query_asks_for_all(body: bytes) -> None:
    query = read_list_query(body)

    assert query == ListQuery()
    assert query.limit == LIST_LIMIT_DEFAULT == 100
    assert query.matches(stored(ConnectionStatus.FAILED))


def test_a_history_takes_every_field_of_its_row() -> None:
    assert read_history_query(b"") == HistoryQuery(before=None, limit=50)
    assert read_history_query(body_of(GOOD["history"])) == HistoryQuery(before=9, limit=5)


def test_a_list_takes_every_field_of_its_row() -> None:
    assert read_list_query(body_of(GOOD["list"])) == ListQuery(
        user_id=USER_ID,
        provider_slug="schwab",
        status="active",
        needs_action=True,
        cursor="abc",
        limit=5,
    )


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        (ListQuery(user_id=USER_ID), True),
        (ListQuery(user_id=UUID(int=1)), False),
        (ListQuery(provider_slug="schwab"), True),
        (ListQuery(provider_slug="google"), False),
        (ListQuery(status="active"), True),
        (ListQuery(status="expired"), False),
        (ListQuery(user_id=USER_ID, provider_slug="schwab", status="active"), True),
        (ListQuery(user_id=USER_ID, provider_slug="schwab", status="failed"), False),
    ],
)
def test_a_list_shows_what_meets_every_condition(query: ListQuery, *, matches: bool) -> None:
    assert query.matches(stored(ConnectionStatus.ACTIVE)) is matches


def test_an_id_in_a_subject_is_read_in_its_canonical_form() -> None:
    assert read_connection_id(str(CONNECTION_ID)) == CONNECTION_ID


@pytest.mark.parametrize(
    ("header", "timeout_s"), [(None, 4.0), ("1", 0.001), ("2500", 2.5), ("60000", 60.0)]
)
def test_a_caller_waits_as_long_as_the_header_says(header: str | None, timeout_s: float) -> None:
    assert read_timeout_s(header) == timeout_s


def test_the_last_of_two_fields_of_one_name_counts() -> None:
    body = b'{"user_id":"%b","user_id":"%b"}' % (str(NEW_ID).encode(), str(USER_ID).encode())

    assert command("disconnect", body) == Disconnect(connection_id=CONNECTION_ID, user_id=USER_ID)
