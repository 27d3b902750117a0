"""Anything on any subject leaves the daemon alive, and is answered by the table of section 3."""

import json
import string
import zlib
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import nats.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.daemon_process import CREDENTIALS, DaemonProcess, PlainCaller
from tests.fakes.eventually import eventually
from tests.fakes.examples import examples
from tests.fakes.plain_contract import (
    VERBS,
    Subject,
    events_of,
    is_by_the_table,
    is_refused,
    nobody,
    stored,
    tell,
)

MIB = 1024 * 1024
BODIES: dict[str, bytes] = {
    "no json": b"credentials please",
    "half an object": b'{"credentials": {',
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "not a number": b"NaN",
    "no utf-8": b'{"credentials": "\xff\xfe"}',
    "utf-16": '{"credentials": null}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a null byte": b'{"credentials"\x00: null}',
    "half a surrogate": rb'{"reason": "\ud800"}',
    "a wrong type": b'{"credentials": 5, "user_id": {}, "reason": []}',
    "an unknown field": b'{"credentials": null, "user_id": null, "nonsense": 1}',
    "a field twice": b'{"credentials": 1, "credentials": {}}',
    "a number without end": b'{"credentials": ' + b"9" * 5000 + b"}",
    "too deep": b'{"credentials": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too deep a secret": b'{"credentials": {"credential_type": "custom", "secret": {"a":'
    + b"[" * 20_000
    + b"]" * 20_000
    + b"}}}",
    "a mebibyte of spaces": b" " * MIB,
    "a mebibyte of noise": b"\x80" * MIB,
    "a mebibyte of secret": b'{"credentials":"' + b"s" * (MIB - 18) + b'"}',
}
IDS = {
    "upper case": str(uuid4()).upper(),
    "no hyphens": uuid4().hex,
    "braces": f"{{{uuid4()}}}",
    "an urn": f"urn:uuid:{uuid4()}",
    "too short": str(uuid4())[:-1],
    "too long": str(uuid4()) + "0",
    "very long": "a" * 3000,
    "unicode hyphens": str(uuid4()).replace("-", "\u2010"),
    "full width digits": "\uff11" * 36,
    "control characters": "a\x01\x7f\x1b[31m",
    "a path": "%2e%2e%2fetc",
    "a dollar": "$JS",
}
SLUGS = [
    *("a.b", "*", ">", "a b", "a\tb", "a\nb", "a\r\nX: y", "\x00", "ünïcode", "UPPER", ""),
    *(".", "..", "a.*.>", "$KV", "s" * 51, "s" * 10_000, "a/b", "schwab\n", "\u202eslug"),
]
SECRETS = {
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a number out of range": b'{"a": -1e999}',
    "no utf-8 in a value": b'{"a": "\xff"}',
    "no utf-8 in a name": b'{"\xff": "a"}',
    "half a surrogate": rb'{"a": "\ud800"}',
    "too deep": b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a list": b'["at"]',
    "text": b'"at"',
    "true": b"true",
}
TIMES = [
    *("tomorrow", "", "2031-13-01T12:00:00Z", "2031-05-01", "2031-05-01T12:00:00", "\u0660"),
    *("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", 1936785600, 1e18, True, []),
]
CURSORS = ["0", "0.", ".1", "8.1", "-1.1", "0.-1", "0.1\n", "0.1.1", "\u0660.1", "0." + "9" * 20]
AIMS = [
    "$JS.API.STREAM.DELETE.REFRESHD_EVENTS",
    "$JS.API.STREAM.PURGE.KV_refreshd_connections_{partition}",
    "$KV.refreshd_connections_{partition}.{id}",
    "$KV.refreshd_cluster.{id}",
    "$SRV.PING.{id}",
    "refreshd.v1.connection.{id}.revoke",
    "refreshd.v1.connection.{id}.get",
    "refreshd.v1.event.schwab.{id}.token_refresh.succeeded",
]


@pytest.fixture
async def survivor(daemon: DaemonProcess, caller: PlainCaller) -> AsyncGenerator[Subject]:
    """A connection that is there before and after whatever a test does, in the same daemon."""
    subject = await stored(caller)
    before = await caller.get(subject.id)
    yield subject
    assert await caller.get(subject.id) == before
    assert (await tell(caller, subject, "refresh")).body == {"ok": None}
    assert daemon.process.returncode is None
    assert not [line for line in daemon.said if "Traceback" in line or "crashed" in line]


@pytest.mark.parametrize("verb", ["connect", "refresh", "disconnect"])
async def test_an_empty_body_lacks_what_these_verbs_need(
    caller: PlainCaller, survivor: Subject, verb: str
):
    for body in (b"", b"{}"):
        answer = await caller.ask(f"connection.{survivor.id}.{verb}", body)

        assert is_refused(answer, "INVALID_COMMAND")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_body_that_is_not_what_the_table_says_changes_nothing(
    caller: PlainCaller, survivor: Subject, verb: str, body: bytes
):
    answer = await caller.ask(f"connection.{survivor.id}.{verb}", body)

    code = "TOO_LARGE" if len(body) > 110_000 else "INVALID_COMMAND"
    assert is_refused(answer, code)
    assert len(answer.body["error"]["message"]) <= 200


@pytest.mark.parametrize("subject", ["connect", "connections.list"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_connect_and_a_listing_take_no_such_body_either(
    caller: PlainCaller, survivor: Subject, subject: str, body: bytes
):
    answer = await caller.ask(subject, body)

    bytes_max = 110_000 if subject == "connect" else 16 * 1024  # a query holds no credentials
    assert is_refused(answer, "TOO_LARGE" if len(body) > bytes_max else "INVALID_COMMAND")


@pytest.mark.parametrize("kind", ["oauth2", "custom"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
async def test_a_secret_that_is_no_object_that_can_be_read_is_refused_and_not_quoted(
    caller: PlainCaller, survivor: Subject, secret: bytes, kind: str
):
    head = b'{"credentials": {"credential_type": "%s", "secret": ' % kind.encode()

    answer = await caller.ask(f"connection.{survivor.id}.refresh", head + secret + b"}}")

    assert is_refused(answer, "INVALID_COMMAND")
    assert "99" not in answer.body["error"]["message"]


@pytest.mark.parametrize("time", TIMES, ids=ascii)
async def test_a_time_that_is_none_is_refused_naming_the_field(
    caller: PlainCaller, survivor: Subject, time: object
):
    body = {"credentials": CREDENTIALS | {"expires_at": time}}

    answer = await caller.ask(f"connection.{survivor.id}.refresh", body)

    assert is_refused(answer, "INVALID_COMMAND")
    assert "expires_at" in answer.body["error"]["message"]


@pytest.mark.parametrize("cursor", CURSORS, ids=ascii)
async def test_a_cursor_that_no_listing_gave_is_refused(
    caller: PlainCaller, survivor: Subject, cursor: str
):
    answer = await caller.ask("connections.list", {"cursor": cursor})

    assert is_refused(answer, "INVALID_COMMAND")
    assert "cursor" in answer.body["error"]["message"]


@pytest.mark.parametrize("aim", AIMS)
async def test_a_command_whose_answer_would_hit_something_is_executed_and_answered_nowhere(
    caller: PlainCaller, survivor: Subject, aim: str
):
    subject = await stored(caller)
    partition = f"{zlib.crc32(survivor.id.encode()) % 4:02d}"
    reply = aim.format(id=survivor.id, partition=partition)
    # The buckets lag behind: their own writes come first, in all partitions.
    await caller.ask("connections.list", {"user_id": str(uuid4())})
    heard = await caller.client.subscribe(reply)
    body = json.dumps(subject.body("refresh")).encode()

    async def is_executed() -> bool:
        return (await caller.get(subject.id))["generation"] == 2

    await caller.client.publish(f"refreshd.v1.connection.{subject.id}.refresh", body, reply=reply)
    await eventually(is_executed)
    await caller.get(subject.id)  # answers go out in order: a stray one would be here before
    steps = [event.step for event in await events_of(caller, subject.id)]
    stray = heard.pending_msgs
    await heard.unsubscribe()

    assert stray == 0
    assert steps[2:] == ["token_refresh.attempted", "token_refresh.succeeded"]
    assert len(await events_of(caller, survivor.id)) == 2


@pytest.mark.parametrize("given_id", IDS.values(), ids=IDS)
async def test_an_id_that_is_no_canonical_uuid_is_refused(
    caller: PlainCaller, survivor: Subject, given_id: str
):
    for verb in VERBS:
        answer = await caller.ask(f"connection.{given_id}.{verb}", survivor.body(verb))

        message = "connection_id is not a UUID in canonical lower-case form"
        assert is_refused(answer, "INVALID_COMMAND", message)


@pytest.mark.parametrize("slug", SLUGS, ids=ascii)
async def test_a_hostile_slug_reaches_no_subject(caller: PlainCaller, survivor: Subject, slug: str):
    subject = nobody()
    await caller.events_caught_up()
    everything = await caller.client.subscribe("refreshd.v1.event.>")

    connected = await tell(caller, subject._replace(provider_slug=slug), "connect")
    listed = await caller.ask("connections.list", {"provider_slug": slug})
    await tell(caller, subject, "refresh")
    first = await everything.next_msg(timeout=5)
    await everything.unsubscribe()

    for answer in (connected, listed):
        assert is_refused(answer, "INVALID_COMMAND")
        assert "provider_slug" in answer.body["error"]["message"]
    assert first.subject == f"refreshd.v1.event.unknown.{subject.id}.token_refresh.attempted"


@pytest.mark.parametrize(
    "subject",
    ["", ".connection", "connection", "token", "connection.{id}.token.now", "nothing.at.all"],
)
async def test_a_subject_that_nobody_serves_has_no_responders(
    caller: PlainCaller, survivor: Subject, subject: str
):
    whole = f"refreshd.v1.{subject.format(id=survivor.id)}".strip(".").replace("..", ".")

    with pytest.raises(nats.errors.NoRespondersError):
        await caller.client.request(whole, b"{}", timeout=5)


@pytest.mark.parametrize(
    "headers",
    [
        {"Refreshd-Timeout-Ms": "NaN"},
        {"refreshd-timeout-ms": "-1"},
        {"Nats-Expected-Last-Sequence": "1", "Nats-Rollup": "all", "KV-Operation": "PURGE"},
        {"Nats-Service-Error": "mine", "Nats-Service-Error-Code": "200"},
        {"Status": "503", "Description": "No Responders"},
        {"X": "x" * 100_000},
        {f"X-{number}": "y" for number in range(2000)},
        {"Nats-Msg-Id": "ü" * 100, "X": "\x01\x7f"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_odd_headers_do_no_harm(
    caller: PlainCaller, survivor: Subject, headers: dict[str, str]
):
    other = await stored(caller)

    answer = await tell(caller, other, "refresh", headers=headers)

    assert is_by_the_table(answer)
    assert answer.code in ("ok", "INVALID_COMMAND")
    generation = (await caller.get(other.id))["generation"]
    assert generation == (2 if answer.code == "ok" else 1)


async def test_large_values_within_the_limits_are_kept_as_they_are(caller: PlainCaller):
    subject = nobody()
    params = {f"n{number}": "v" * 256 for number in range(32)}
    wide: dict[str, Any] = {"alias": "\U0001f600" * 100, "params": params}
    body = (subject.body("connect") or {}) | {"provider_slug": "s" * 50} | wide
    reason = {"reason": "\U0001f600" * 500}

    made = await caller.ask(f"connection.{subject.id}.connect", body)
    told = await caller.ask(f"connection.{subject.id}.expire", reason)
    got = await caller.get(subject.id)

    assert (made.code, told.code) == ("ok", "ok")
    assert got["alias"] == wide["alias"]
    assert got["params"] == params


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *("user_id", "provider_id", "provider_slug", "credentials", "alias", "connection_id"),
    *(
        "params",
        "refresh",
        "pending",
        "reason",
        "status",
        "cursor",
        "limit",
        "secret",
        "credential_type",
    ),
)
CREDENTIALS_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "credential_type": st.sampled_from(["oauth2", "api_key", "odd"]) | JSON,
        "secret": st.just(CREDENTIALS["secret"]) | JSON,
        "expires_at": st.datetimes().map(lambda time: f"{time.isoformat()}Z") | JSON,
        "encrypted_data": st.sampled_from(["AA==", "", "AA"]) | JSON,
    },
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(), CREDENTIALS_LIKE | JSON, max_size=6)
TOKENS = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=".*>"), min_size=1, max_size=40
)
HEADER_TEXT = st.text(string.ascii_letters + string.digits + "-_ ü", max_size=20)


@settings(max_examples=examples(150))
@given(
    place=st.sampled_from([*VERBS, "connect at once", "list"]),
    whose=st.sampled_from(["stored", "unknown"]) | TOKENS,
    body=st.binary(max_size=300) | (OBJECTS | JSON).map(lambda value: json.dumps(value).encode()),
    mends=st.sets(st.sampled_from(["user_id", "provider_id", "provider_slug", "credentials"])),
    headers=st.dictionaries(
        st.sampled_from(["Refreshd-Timeout-Ms", "Nats-Msg-Id", "X"]), HEADER_TEXT, max_size=2
    ),
)
async def test_whatever_is_asked_there_is_one_answer_by_the_table(
    *,
    caller: PlainCaller,
    daemon: DaemonProcess,
    place: str,
    whose: str,
    body: bytes,
    mends: set[str],
    headers: dict[str, str],
):
    subject = await stored(caller) if whose == "stored" else nobody()
    token = subject.id if whose in ("stored", "unknown") else whose
    whole = {"connect at once": "connect", "list": "connections.list"}.get(
        place, f"connection.{token}.{place}"
    )
    right = subject.body("connect") or {}
    if body.startswith(b"{") and body.endswith(b"}"):
        body = json.dumps(json.loads(body) | {name: right[name] for name in mends}).encode()

    answer = await caller.ask(whole, body, headers=headers or None)

    assert is_by_the_table(answer)
    assert answer.code != "DATABASE_ERROR"
    assert daemon.process.returncode is None
    assert not [line for line in daemon.said if "crashed" in line]
