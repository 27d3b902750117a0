"""The published documents are what the code says, and say what the code takes and gives."""

import json
import re
import typing
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft7Validator, Draft202012Validator

from domain.connection import ProviderConnection
from domain.decision import AccessToken, ConnectionRef
from domain.events import Event, traced
from domain.explanation import explained
from domain.result import Failure, FailureCode, Success
from domain.trace import Trace
from runtime.contract.asyncapi import asyncapi
from runtime.contract.commands import COMMANDS
from runtime.contract.schemas import json_schema
from runtime.gateway.replies import failure_body, reply_body, value_body
from runtime.gateway.wire import CONNECTION_VERBS, MalformedError
from runtime.ledger.cloud_events import encode_event
from tests.domain.shapes import CONNECTION_ID, NOW, connections
from tests.fakes.held_to_schema import FILES, SCHEMA_FOLDER, faults
from tests.fixtures.wire_bodies import CONNECT, GOOD, OAUTH2, OPAQUE, body_of, read, without
from tests.runtime.ledger.test_cloud_events import EVENTS, event_of

DOCUMENTS: dict[str, dict[str, Any]] = {
    "asyncapi": asyncapi("refreshd.v1"),
    "json": json_schema(),
}
READERS = {
    "connect": "connect",
    "connections.list": "list",
    "connection.{connection_id}.history": "history",
}
BODIES = {
    READERS.get(one.subject, f"id.{one.subject.rpartition('.')[2]}"): one.body.__name__
    for one in COMMANDS
    if one.subject != "status"
}
"""The schema of a body, by the fixture's name of its reader."""


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_the_files_are_what_the_code_says(kind: str):
    text = (SCHEMA_FOLDER / FILES[kind]).read_text()

    assert text == json.dumps(DOCUMENTS[kind], indent=2) + "\n", (
        f"write it anew: refreshd schema {kind} > clients/schema/{FILES[kind]}"
    )


def test_every_schema_is_one_by_either_draft():
    Draft202012Validator.check_schema(DOCUMENTS["json"])
    for schema in DOCUMENTS["asyncapi"]["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_every_reference_leads_somewhere(kind: str):
    refs = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENTS[kind])))

    assert refs
    for ref in refs:
        place: Any = DOCUMENTS[kind]
        for step in ref.split("/"):
            place = place[step]


def test_every_command_is_there():
    subjects = {one.subject for one in COMMANDS}

    ids = {f"connection.{{connection_id}}.{verb}" for verb in CONNECTION_VERBS}
    history = "connection.{connection_id}.history"
    assert subjects == {"connect", "connections.list", "status", history} | ids


def test_every_event_is_on_its_subject():
    channels = DOCUMENTS["asyncapi"]["channels"].values()
    told = {
        name: channel["address"]
        for channel in channels
        for name in channel["messages"]
        if ".event." in (channel["address"] or "")
    }

    place = "refreshd.v1.event.{provider_slug}.{connection_id}"
    assert told == {
        kind.__name__: f"{place}.{kind.workflow}.{kind.outcome}" for kind in typing.get_args(Event)
    }


def test_the_subjects_are_of_the_configured_prefix():
    addresses = [one["address"] for one in asyncapi("acme.tokens")["channels"].values()]

    assert all(one is None or one.startswith("acme.tokens.") for one in addresses)


def test_no_pattern_is_pythons_and_no_text_speaks_of_papers_that_are_not_here():
    text = json.dumps(DOCUMENTS)

    assert "\\\\A" not in text
    assert "\\\\Z" not in text
    assert not re.search(r"DESIGN\.md|PROVIDERS\.md|seed", text)


BAD: list[tuple[str, object]] = [
    ("connect", without(CONNECT, "user_id")),
    ("connect", without(CONNECT, "credentials")),
    ("connect", {**CONNECT, "user_id": 1}),
    ("connect", {**CONNECT, "provider_slug": "Not A Slug"}),
    ("connect", {**CONNECT, "provider_slug": "a" * 51}),
    ("connect", {**CONNECT, "alias": "a" * 101}),
    ("connect", {**CONNECT, "params": {"a b": "c"}}),
    ("connect", {**CONNECT, "refresh": "sometimes"}),
    ("connect", {**CONNECT, "surprise": 1}),
    ("connect", {**CONNECT, "credentials": {**OAUTH2, **OPAQUE}}),
    ("connect", {**CONNECT, "credentials": {"credential_type": "oauth2"}}),
    ("id.refresh", {}),
    ("id.token", {"min_ttl_s": -1}),
    ("id.token", {"if_generation": 1.5}),
    ("id.token", {"force": "yes"}),
    ("id.expire", {"reason": "a" * 501}),
    ("id.synced", {"a": 1}),
    ("id.disconnect", {}),
    ("list", {"status": "lost"}),
    ("list", {"limit": 0}),
    ("list", {"provider_slug": "\n"}),
]


@pytest.mark.parametrize("reader", GOOD)
def test_a_body_with_every_field_is_good_by_the_code_and_by_its_schema(reader: str):
    read(reader, body_of(GOOD[reader]))

    assert faults(BODIES[reader], GOOD[reader]) == []


@pytest.mark.parametrize(("reader", "body"), BAD, ids=range(len(BAD)))
def test_a_body_that_the_code_refuses_is_refused_by_its_schema(reader: str, body: object):
    with pytest.raises(MalformedError):
        read(reader, body_of(body))

    assert faults(BODIES[reader], body, is_closed=False)


@given(connections())
def test_whatever_a_get_shows_is_in_its_schema(connection: ProviderConnection):
    assert faults("GetAnswer", json.loads(reply_body(Success(connection)))) == []


@given(connections(troubled=True))
def test_whatever_is_explained_is_in_its_schema(connection: ProviderConnection):
    words = explained(connection, None, None, now=NOW)

    assert faults("ExplainAnswer", json.loads(value_body(words))) == []


def test_a_history_is_in_its_schema():
    kind, extra, _subject = EVENTS[0]
    event = json.loads(encode_event(event_of(kind, extra), source="/refreshd/d-1").body)
    page = {"events": [{"sequence": 1, "event": event}], "cursor": None}

    assert faults("HistoryAnswer", {"ok": page}) == []


def test_what_else_is_answered_is_in_its_schema():
    token = AccessToken(
        access_token="a",
        token_type="Bearer",
        expires_at=None,
        generation=1,
        stale=True,
        expires_in_s=1,
        endpoint_base="https://eu.example.com",
        detail="why",
    )
    made = ConnectionRef(CONNECTION_ID, warnings=("soon",))

    assert faults("TokenAnswer", json.loads(reply_body(Success(token)))) == []
    assert faults("ConnectAnswer", json.loads(reply_body(Success(made)))) == []
    assert faults("RevokeAnswer", json.loads(reply_body(Success(None)))) == []
    for code in FailureCode:
        told = Failure(
            code=code, message="m", needs_user_action=True, retry_after_s=1.5, detail="d"
        )
        assert faults("RevokeAnswer", json.loads(failure_body(told))) == []
    assert faults("RevokeAnswer", {"ok": 1})
    assert faults("TokenAnswer", {"ok": None})
    assert faults("TokenAnswer", {"error": {"code": "NEW", "message": "m"}})


@pytest.mark.parametrize(("kind", "extra", "_subject"), EVENTS, ids=range(len(EVENTS)))
def test_every_type_of_event_is_in_its_schema(
    kind: type[Event], extra: dict[str, Any], _subject: str
):
    event = event_of(kind, extra)
    body = json.loads(encode_event(event, source="/refreshd/d-1").body)
    (of_a_trace,) = traced([event], Trace("00-0af7-b7ad-01", "vendor=1"))
    with_trace = json.loads(encode_event(of_a_trace, source="/refreshd/d-1").body)

    assert with_trace["traceparent"] == "00-0af7-b7ad-01"
    assert faults(kind.__name__, with_trace) == []
    assert faults(kind.__name__, body) == []
    assert faults(kind.__name__, {**body, "id": "1"})
    assert faults(kind.__name__, {**body, "data": without(body["data"], "user_id")})
