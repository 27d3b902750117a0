"""A plain NATS client that knows only DESIGN.md gets the answers of sections 2 and 3, to the letter."""

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.fakes.daemon_process import CREDENTIALS, PlainCaller
from tests.fakes.plain_contract import (
    STATUSES,
    VERBS,
    Status,
    connect_value,
    is_refused,
    nobody,
    stored,
    tell,
)

OK = {"ok": None}
ABSENT = object()
TRANSITIONS: dict[str, tuple[str, str, dict[str, bool]]] = {
    "connect": ("INVALID_TRANSITION", "Cannot transition to ACTIVE from current state", {}),
    "refresh": ("NOT_ACTIVE", "Connection is not active", {"needs_user_action": True}),
    "expire": ("INVALID_TRANSITION", "Cannot transition to EXPIRED, must be ACTIVE", {}),
    "revoke": ("INVALID_TRANSITION", "Cannot transition to REVOKED, must be ACTIVE", {}),
    "fail": ("INVALID_TRANSITION", "Cannot transition to FAILED, must be PENDING", {}),
    "synced": ("NOT_ACTIVE", "Connection is not active", {}),
}
"""How a verb is refused where its status is not allowed."""
LEADS_TO: dict[tuple[str, str], str] = {
    **{(status, "connect"): "active" for status in ("pending", "expired", "revoked", "failed")},
    ("active", "refresh"): "active",
    ("active", "synced"): "active",
    ("active", "expire"): "expired",
    ("active", "revoke"): "revoked",
    ("pending", "fail"): "failed",
    **{(status, "disconnect"): "disconnected" for status in STATUSES},
}


def fields(body: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {k: v for k, v in (body | changes).items() if v is not ABSENT}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "get"])
@pytest.mark.parametrize("status", STATUSES)
async def test_a_verb_moves_a_connection_or_is_refused_by_the_table_of_section_2(
    caller: PlainCaller, status: Status, verb: str
):
    subject = await stored(caller, status)
    before = await caller.get(subject.id)

    answer = await tell(caller, subject, verb)
    after = await caller.get(subject.id)

    if (status, verb) in LEADS_TO:
        value = connect_value(subject) if verb == "connect" else None
        assert (answer.body, answer.headers) == ({"ok": value}, {})
        assert after["status"] == LEADS_TO[status, verb]
    else:
        code, message, extra = TRANSITIONS[verb]
        assert is_refused(answer, code, message, **extra)
        assert after == before


async def test_a_connection_shows_the_fields_of_section_2_and_of_its_credentials_only_two(
    caller: PlainCaller,
):
    subject = nobody()
    body = fields(subject.body("connect") or {}, alias="Main ü", params={"dc": "eu1"})

    made = await caller.ask(f"connection.{subject.id}.connect", body)
    got = await caller.get(subject.id)

    assert made.body == {"ok": connect_value(subject)}
    times = {name: got.pop(name) for name in ("created_at", "updated_at", "connected_at")}
    assert got == {
        "id": subject.id,
        "user_id": subject.user_id,
        "provider_id": subject.provider_id,
        "provider_slug": "schwab",
        "alias": "Main ü",
        "params": {"dc": "eu1"},
        "status": "active",
        "credentials": {"credential_type": "oauth2", "expires_at": "2099-01-01T00:00:00Z"},
        "last_sync_at": None,
        "generation": 1,
    }
    assert len(set(times.values())) == 1
    assert all(time.endswith("Z") for time in times.values())


async def test_the_daemon_chooses_an_id_where_the_caller_gives_none(caller: PlainCaller):
    made = [await caller.connect() for _ in range(3)]

    assert len(set(made)) == 3
    assert all(str(UUID(connection_id)) == connection_id for connection_id in made)


async def test_a_pending_connection_has_no_credentials_until_it_is_connected(caller: PlainCaller):
    subject = await stored(caller, "pending")
    pending = await caller.get(subject.id)

    refused = await tell(caller, subject, "refresh")
    await tell(caller, subject, "connect")
    active = await caller.get(subject.id)

    assert is_refused(refused, "NOT_ACTIVE", "Connection is not active", needs_user_action=True)
    assert (pending["status"], pending["credentials"], pending["generation"]) == (
        *("pending", None),
        0,
    )
    assert pending["connected_at"] is None
    assert (active["status"], active["generation"]) == ("active", 1)
    assert active["connected_at"] == active["updated_at"]


async def test_reconnecting_keeps_the_first_connected_at_and_counts_a_generation(
    caller: PlainCaller,
):
    subject = await stored(caller, "expired")
    before = await caller.get(subject.id)

    await tell(caller, subject, "connect")
    after = await caller.get(subject.id)

    assert before["credentials"] is not None
    assert after["connected_at"] == before["connected_at"]
    assert after["generation"] == before["generation"] + 1
    assert datetime.fromisoformat(after["updated_at"]) > datetime.fromisoformat(
        before["updated_at"]
    )


async def test_disconnecting_clears_the_credentials_for_good(caller: PlainCaller):
    subject = await stored(caller)

    await tell(caller, subject, "disconnect")
    got = await caller.get(subject.id)

    assert (got["status"], got["credentials"], got["generation"]) == ("disconnected", None, 1)


async def test_synced_notes_the_time_and_nothing_else(caller: PlainCaller):
    subject = await stored(caller)
    before = await caller.get(subject.id)

    await tell(caller, subject, "synced")
    after = await caller.get(subject.id)

    assert after == before | {
        "last_sync_at": after["updated_at"],
        "updated_at": after["updated_at"],
    }
    assert after["last_sync_at"] is not None


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "connect"])
async def test_an_unknown_connection_is_not_found(caller: PlainCaller, verb: str):
    answer = await tell(caller, nobody(), verb)

    extra = {"needs_user_action": False} if verb == "refresh" else {}
    assert is_refused(answer, "CONNECTION_NOT_FOUND", "Connection not found", **extra)


async def test_a_refresh_checks_existence_then_credentials_then_the_status(caller: PlainCaller):
    null = {"credentials": None}
    revoked = (await stored(caller, "revoked")).id

    unknown = await caller.ask(f"connection.{uuid4()}.refresh", null)
    empty = await caller.ask(f"connection.{revoked}.refresh", null)
    inactive = await caller.ask(f"connection.{revoked}.refresh", {"credentials": CREDENTIALS})

    no = {"needs_user_action": False}
    yes = {"needs_user_action": True}
    assert is_refused(unknown, "CONNECTION_NOT_FOUND", "Connection not found", **no)
    assert is_refused(empty, "INVALID_CREDENTIALS", "Invalid or missing credentials", **no)
    status = {"detail": "the connection is revoked"}
    assert is_refused(inactive, "NOT_ACTIVE", "Connection is not active", **yes, **status)


@pytest.mark.parametrize(
    ("credentials", "detail"),
    [
        (None, "credentials are null"),
        ({}, "credentials are empty"),
        ({"credential_type": "oauth2", "secret": {}}, "secret is empty"),
        ({"credential_type": "oauth2", "secret": {"access_token": ""}}, "access_token is empty"),
        ({"credential_type": "oauth2", "encrypted_data": ""}, "encrypted_data is empty"),
        ({"credential_type": "cookie", "secret": {"a": "b"}}, "credential_type is none of the six"),
    ],
)
async def test_credentials_that_are_null_empty_or_of_an_unknown_type_are_invalid(
    caller: PlainCaller, credentials: object, detail: str
):
    subject = await stored(caller)
    body = fields(nobody().body("connect") or {}, credentials=credentials)

    refreshed = await caller.ask(f"connection.{subject.id}.refresh", {"credentials": credentials})
    connected = await caller.ask("connect", body)

    for answer in (refreshed, connected):
        assert is_refused(
            answer,
            "INVALID_CREDENTIALS",
            "Invalid or missing credentials",
            needs_user_action=False,
            detail=detail,
        )
    assert (await caller.get(subject.id))["generation"] == 1


@pytest.mark.parametrize(
    "kind", ["oauth2", "api_key", "link_token", "certificate", "file_import", "custom"]
)
@pytest.mark.parametrize(
    "sealed", [{"secret": {"access_token": "a", "more": [1]}}, {"encrypted_data": "AAEC/w=="}]
)
async def test_each_type_of_credentials_is_taken_open_or_sealed_by_the_caller(
    caller: PlainCaller, kind: str, sealed: dict[str, Any]
):
    subject = await stored(caller)
    credentials = {"credential_type": kind, "expires_at": "2031-05-01T12:00:00+02:00"} | sealed

    answer = await caller.ask(f"connection.{subject.id}.refresh", {"credentials": credentials})
    got = await caller.get(subject.id)

    assert answer.body == OK
    assert got["generation"] == 2
    assert got["credentials"] == {"credential_type": kind, "expires_at": "2031-05-01T10:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"user_id": ABSENT}, "user_id"),
        ({"user_id": "nobody"}, "user_id"),
        ({"provider_id": 7}, "provider_id"),
        ({"provider_slug": "Schwab"}, "provider_slug"),
        ({"provider_slug": ""}, "provider_slug"),
        ({"provider_slug": "s" * 51}, "provider_slug"),
        ({"credentials": ABSENT}, "credentials"),
        ({"credentials": "secret"}, "credentials"),
        ({"credentials": {"credential_type": "oauth2"}}, "secret"),
        ({"credentials": CREDENTIALS | {"encrypted_data": "AA=="}}, "secret"),
        ({"credentials": CREDENTIALS | {"expires_at": "tomorrow"}}, "expires_at"),
        ({"credentials": CREDENTIALS | {"expires_at": "2031-05-01T12:00:00"}}, "expires_at"),
        ({"credentials": CREDENTIALS | {"secret": {"refresh_token": "r"}}}, "access_token"),
        ({"credentials": CREDENTIALS | {"extra": 1}}, "extra"),
        ({"alias": "a" * 101}, "alias"),
        ({"connection_id": "mine"}, "connection_id"),
        ({"params": {"dc": 1}}, "params"),
        ({"pending": "yes"}, "pending"),
        ({"pending": True}, "credentials"),
        ({"token": "x"}, "token"),
    ],
)
async def test_a_connect_that_is_not_what_the_table_says_is_refused_naming_the_field(
    caller: PlainCaller, changes: dict[str, Any], named: str
):
    answer = await caller.ask("connect", fields(nobody().body("connect") or {}, **changes))

    assert is_refused(answer, "INVALID_COMMAND")
    assert named in answer.body["error"]["message"]


async def test_the_id_in_the_body_must_be_the_one_in_the_subject(caller: PlainCaller):
    subject = nobody()
    body = subject.body("connect") or {}

    other = await caller.ask(
        f"connection.{subject.id}.connect", fields(body, connection_id=str(uuid4()))
    )
    same = await caller.ask(
        f"connection.{subject.id}.connect", fields(body, connection_id=subject.id)
    )

    assert is_refused(other, "INVALID_COMMAND")
    assert same.body == {"ok": connect_value(subject)}


async def test_only_the_owner_disconnects_and_reconnects(caller: PlainCaller):
    subject = await stored(caller, "expired")
    stranger = subject._replace(user_id=str(uuid4()))

    for verb in ("disconnect", "connect"):
        answer = await tell(caller, stranger, verb)

        assert is_refused(answer, "NOT_OWNED_BY_USER", "Connection not owned by user")
    assert (await caller.get(subject.id))["status"] == "expired"


async def test_credentials_over_the_limit_are_too_large_and_those_at_the_limit_are_not(
    caller: PlainCaller,
):
    subject = await stored(caller)

    def body(size: int) -> dict[str, Any]:
        frame = len(json.dumps({"access_token": ""}))
        secret = {"access_token": "x" * (size - frame)}
        return {"credentials": {"credential_type": "oauth2", "secret": secret}}

    at_the_limit = await caller.ask(f"connection.{subject.id}.refresh", body(65_536))
    over = await caller.ask(f"connection.{subject.id}.refresh", body(65_537))
    far_over = await caller.ask(f"connection.{subject.id}.refresh", body(900_000))

    assert at_the_limit.body == OK
    assert is_refused(over, "TOO_LARGE")
    assert is_refused(far_over, "TOO_LARGE")
    assert (await caller.get(subject.id))["generation"] == 2


@pytest.mark.parametrize("header", ["", "0", "-1", "1.5", "4s", "99999999", "٤٠٠٠", " 10", "1e3"])
async def test_a_time_limit_that_is_no_number_of_milliseconds_is_refused(
    caller: PlainCaller, header: str
):
    subject = await stored(caller)

    answer = await tell(caller, subject, "refresh", headers={"Refreshd-Timeout-Ms": header})

    if header.strip() == "10":  # NATS trims a header's value
        assert answer.body == OK
    else:
        assert is_refused(answer, "INVALID_COMMAND")
        assert "Refreshd-Timeout-Ms" in answer.body["error"]["message"]


async def test_a_time_limit_in_range_is_taken(caller: PlainCaller):
    subject = await stored(caller)

    for header in ("2000", "4000", "60000"):
        answer = await tell(caller, subject, "refresh", headers={"Refreshd-Timeout-Ms": header})

        assert answer.body == OK


async def test_a_message_without_a_reply_subject_is_executed_all_the_same(caller: PlainCaller):
    subject = await stored(caller)

    for _ in range(3):
        body = json.dumps(subject.body("refresh")).encode()
        await caller.client.publish(f"refreshd.v1.connection.{subject.id}.refresh", body)
    last = await tell(caller, subject, "refresh")

    assert last.body == OK
    assert (await caller.get(subject.id))["generation"] == 5


async def test_a_listing_finds_by_owner_slug_and_status_and_goes_on_by_its_cursor(
    caller: PlainCaller,
):
    subjects = [nobody()._replace(user_id=(owner := str(uuid4())))]
    subjects += [nobody()._replace(user_id=owner, provider_slug="acme") for _ in range(4)]
    for subject in subjects:
        assert (await tell(caller, subject, "connect")).code == "ok"
    await tell(caller, subjects[1], "revoke")

    async def found(**query: object) -> list[str]:
        pages: list[str] = []
        cursor = None
        while True:
            answer = await caller.ask("connections.list", {"cursor": cursor, **query})
            assert set(answer.body["ok"]) == {"connections", "cursor"}
            pages += [connection["id"] for connection in answer.body["ok"]["connections"]]
            cursor = answer.body["ok"]["cursor"]
            if cursor is None:
                return sorted(pages)

    everything, acme, revoked, by_twos = await asyncio.gather(
        found(user_id=owner),
        found(user_id=owner, provider_slug="acme"),
        found(user_id=owner, status="revoked"),
        found(user_id=owner, limit=2),
    )
    shown = (await caller.ask("connections.list", {"user_id": owner})).body["ok"]["connections"]

    assert everything == by_twos == sorted(subject.id for subject in subjects)
    assert acme == sorted(subject.id for subject in subjects[1:])
    assert revoked == [subjects[1].id]
    assert all([connection == await caller.get(connection["id"]) for connection in shown])


@pytest.mark.parametrize(
    "query",
    [
        *({"limit": 0}, {"limit": 1001}, {"status": "dead"}, {"cursor": "99.1"}, {"cursor": "x"}),
        *({"user_id": "me"}, {"provider_slug": "A"}, {"page": 1}, []),
    ],
)
async def test_a_query_that_is_not_what_the_table_says_is_refused(
    caller: PlainCaller, query: object
):
    assert is_refused(await caller.ask("connections.list", query), "INVALID_COMMAND")
