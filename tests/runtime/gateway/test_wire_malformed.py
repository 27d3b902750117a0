"""A body that is not what the table says is refused by a message that names the field."""

import re
from typing import Any

import pytest

from domain.result import FailureCode
from runtime.gateway.queries import read_list_query
from runtime.gateway.wire import (
    MalformedError,
    body_bytes_max,
    read_connection_id,
    read_timeout_s,
)
from tests.fixtures.wire_bodies import (
    BYTES_MAX,
    CONNECT,
    CONNECTION_ID,
    GOOD,
    NEW_ID,
    OAUTH2,
    OPAQUE,
    body_of,
    command,
    connect,
    read,
    without,
)

HOSTILE_SLUGS = [
    "", "a.b", "*", ">", "a*", "a b", "a\tb", "a\n", "\na", "a\x00", "a\x7f", "A", "é", "a/b",
    "schwab ", "\uff53chwab", "x" * 51, "x" * 10_000,
]  # fmt: skip
NO_UUIDS = [
    "", "canary", "018900000000", "{01890000-0000-7000-8000-0000000000a1}", "\x00" * 36,
    "urn:uuid:01890000-0000-7000-8000-0000000000a1", "01890000-0000-7000-8000-0000000000a1\n",
    "01890000-0000-7000-8000-0000000000g1", "x" * 10_000,
]  # fmt: skip
NOT_CANONICAL = [
    str(CONNECTION_ID).upper(), CONNECTION_ID.hex, f"urn:uuid:{CONNECTION_ID}", "*", ">",
    f"{{{CONNECTION_ID}}}", f" {CONNECTION_ID}", f"{CONNECTION_ID}\n", f"{CONNECTION_ID}.get",
    "0x890000-0000-7000-8000-00000000c0de", "_1890000-0000-7000-8000-00000000c0de",
    "\u06601890000-0000-7000-8000-00000000c0de", *NO_UUIDS,
]  # fmt: skip


def refusal(reader: str, body: bytes) -> MalformedError:
    """Return the error that reading ``body`` raises."""
    with pytest.raises(MalformedError) as refused:
        read(reader, body)
    return refused.value


def assert_refused(reader: str, body: bytes, *, names: str) -> None:
    """Hold that ``body`` is INVALID_COMMAND and that the message names the field."""
    error = refusal(reader, body)
    assert error.code is FailureCode.INVALID_COMMAND
    assert re.search(rf"`(?:\$\.)?{re.escape(names)}`", str(error)), str(error)


def credentials_body(fields: dict[str, Any], **changes: object) -> bytes:
    """Return the body of a refresh."""
    return body_of({"credentials": {**fields, **changes}})


@pytest.mark.parametrize("reader", GOOD)
def test_an_unknown_field_is_refused_by_name(reader: str) -> None:
    assert_refused(reader, body_of(GOOD[reader], colour="red"), names="colour")


def test_an_unknown_field_of_the_credentials_is_refused_by_name() -> None:
    body = credentials_body(OAUTH2, colour="red")

    assert_refused("id.refresh", body, names="colour")
    assert_refused("id.refresh", body, names="credentials")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "canary here",
        "canary\n",
        "a`canary",
        "a` - at `$.canary",
        "can\u00e9ry",
        "c" * 41,
        "1canary",
    ],
)
def test_the_name_of_an_unknown_field_that_looks_like_none_is_not_repeated(name: str) -> None:
    for body in (body_of({name: 1}), credentials_body(OAUTH2, **{name: 1})):
        message = str(refusal("id.refresh", body))

        assert message == "Object contains an unknown field"


@pytest.mark.parametrize(
    ("reader", "field"),
    [
        ("connect", "user_id"),
        ("connect", "provider_id"),
        ("connect", "provider_slug"),
        ("id.connect", "credentials"),
        ("id.refresh", "credentials"),
        ("id.disconnect", "user_id"),
    ],
)
def test_a_missing_field_is_named(reader: str, field: str) -> None:
    assert_refused(reader, body_of(without(GOOD[reader], field)), names=field)


@pytest.mark.parametrize(
    ("reader", "field"),
    [
        (reader, field)
        for reader, fields in GOOD.items()
        for field, value in fields.items()
        if isinstance(value, bool) or not isinstance(value, int) or reader == "list"
    ],
)
@pytest.mark.parametrize("value", [918273, 1.5, [], ["canary"]])
def test_a_field_of_the_wrong_type_is_named(reader: str, field: str, value: object) -> None:
    assert_refused(reader, body_of(GOOD[reader], **{field: value}), names=field)


@pytest.mark.parametrize("field", ["min_ttl_s", "if_generation"])
@pytest.mark.parametrize("value", ["canary", -1, [], 1e300])
def test_a_number_of_a_token_that_is_none_or_out_of_range_is_named(
    field: str, value: object
) -> None:
    assert_refused("id.token", body_of(GOOD["id.token"], **{field: value}), names=field)


@pytest.mark.parametrize("reader", ["connect", "id.connect", "list"])
@pytest.mark.parametrize("slug", HOSTILE_SLUGS)
def test_a_slug_that_could_break_a_subject_is_refused(reader: str, slug: str) -> None:
    assert_refused(reader, body_of(GOOD[reader], provider_slug=slug), names="provider_slug")


@pytest.mark.parametrize(
    ("reader", "field"),
    [
        ("connect", "user_id"),
        ("connect", "provider_id"),
        ("connect", "connection_id"),
        ("id.disconnect", "user_id"),
        ("list", "user_id"),
    ],
)
@pytest.mark.parametrize("value", NO_UUIDS)
def test_an_id_in_a_body_that_is_no_uuid_is_refused(reader: str, field: str, value: str) -> None:
    assert_refused(reader, body_of(GOOD[reader], **{field: value}), names=field)


@pytest.mark.parametrize("token", NOT_CANONICAL)
def test_an_id_in_a_subject_is_refused_in_any_other_form(token: str) -> None:
    with pytest.raises(MalformedError, match=r"\Aconnection_id is not a UUID in canonical"):
        read_connection_id(token)


def test_two_ids_that_differ_are_refused() -> None:
    body = body_of(CONNECT, connection_id=str(NEW_ID))

    assert_refused("id.connect", body, names="connection_id")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"alias": "x" * 101}, "alias"),
        ({"refresh": "never"}, "refresh"),
        ({"refresh": "on_demand\n"}, "refresh"),
        ({"refresh": True}, "refresh"),
        ({"pending": None}, "pending"),
        ({"pending": True}, "credentials"),
        ({"pending": True, "credentials": {}}, "credentials"),
        ({"params": {"a b": "x"}}, "params"),
        ({"params": {"": "x"}}, "params"),
        ({"params": {"a\n": "x"}}, "params"),
        ({"params": {"x" * 65: "x"}}, "params"),
        ({"params": {"a": "x" * 257}}, "params[...]"),
        ({"params": {"a": 1}}, "params[...]"),
        ({"params": {f"p{n}": "x" for n in range(33)}}, "params"),
    ],
)
def test_a_field_over_its_bounds_is_refused(changes: dict[str, object], field: str) -> None:
    assert_refused("connect", body_of(CONNECT, **changes), names=field)


@pytest.mark.parametrize("verb", ["expire", "revoke", "fail"])
def test_a_reason_has_a_length(verb: str) -> None:
    assert_refused(f"id.{verb}", body_of({"reason": "x" * 501}), names="reason")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 10**30}, "limit"),
        ({"status": "ACTIVE"}, "status"),
        ({"status": ""}, "status"),
        ({"cursor": "x" * 65}, "cursor"),
    ],
)
def test_a_query_over_its_bounds_is_refused(changes: dict[str, object], field: str) -> None:
    assert_refused("list", body_of(GOOD["list"], **changes), names=field)


@pytest.mark.parametrize(
    "credentials",
    [
        {**OAUTH2, "encrypted_data": "eA=="},
        {**OPAQUE, "secret": "canary"},
        {"credential_type": "oauth2"},
        {"credential_type": "oauth2", "secret": None, "encrypted_data": None},
    ],
)
def test_exactly_one_of_secret_and_encrypted_data_is_needed(credentials: dict[str, Any]) -> None:
    body = credentials_body(credentials)

    for field in ("secret", "encrypted_data", "credentials"):
        assert_refused("id.refresh", body, names=field)


@pytest.mark.parametrize(
    "credentials",
    [without(OAUTH2, "credential_type"), {"expires_at": None}, {"secret": None}],
)
def test_credentials_without_their_type_are_refused(credentials: dict[str, Any]) -> None:
    assert_refused("id.refresh", credentials_body(credentials), names="credential_type")


@pytest.mark.parametrize(
    "data", ["canary!", "eA", "eA=", "eA==\n", "e A==", "_-8=", "é", "====", "eA==eA=="]
)
def test_bad_base64_is_refused(data: str) -> None:
    body = credentials_body(OPAQUE, encrypted_data=data)

    assert_refused("id.refresh", body, names="credentials.encrypted_data")


@pytest.mark.parametrize(
    "expires_at",
    [
        "2026-01-01T00:00:00",
        "2026-01-01",
        "canary",
        "",
        1_767_225_600,
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+12:00",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00+25:00",
    ],
)
@pytest.mark.parametrize("credentials", [OAUTH2, OPAQUE], ids=["secret", "encrypted_data"])
def test_an_expiry_that_is_no_moment_is_refused(
    credentials: dict[str, Any], expires_at: object
) -> None:
    body = credentials_body(credentials, expires_at=expires_at)

    assert_refused("id.refresh", body, names="credentials.expires_at")


@pytest.mark.parametrize(
    ("secret", "field"),
    [
        ("canary", "credentials.secret"),
        (["canary"], "credentials.secret"),
        (5, "credentials.secret"),
        (True, "credentials.secret"),
        ({"refresh_token": "canary"}, "access_token"),
        ({"access_token": None}, "credentials.secret.access_token"),
        ({"access_token": ["canary"]}, "credentials.secret.access_token"),
        ({"access_token": "x", "refresh_token": 5}, "credentials.secret.refresh_token"),
        ({"access_token": "x", "token_type": 5}, "credentials.secret.token_type"),
        ({"access_token": "x", "scope": ["a"]}, "credentials.secret.scope"),
    ],
)
def test_an_oauth2_secret_has_its_shape(secret: object, field: str) -> None:
    assert_refused("id.refresh", credentials_body(OAUTH2, secret=secret), names=field)


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000])
def test_a_number_out_of_range_in_a_secret_is_placed_there(number: bytes) -> None:
    body = b'{"credentials":{"credential_type":"custom","secret":{"n":%b}}}' % number

    assert_refused("id.refresh", body, names="credentials.secret[...]")


@pytest.mark.parametrize("reader", GOOD)
@pytest.mark.parametrize(
    "body",
    [
        b"null", b"[]", b'"canary"', b"5", b"{", b"{}}", b"{'a':1}", b"\x00", b"{}\x00", b"NaN",
        b"\xef\xbb\xbf{}", b'{"user_id":"\xff"}', b"\xff\xfe{\x00}\x00", b'{"a":"\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(reader: str, body: bytes) -> None:
    assert refusal(reader, body).code is FailureCode.INVALID_COMMAND


@pytest.mark.parametrize("reader", ["connect", "id.connect", "id.refresh", "id.disconnect"])
def test_an_empty_body_is_refused_where_the_row_has_one(reader: str) -> None:
    assert refusal(reader, b"").code is FailureCode.INVALID_COMMAND


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
@pytest.mark.parametrize(
    "field", ["credentials", "secret in", "extra secret in", "user_id", "colour"]
)
def test_deep_nesting_is_refused_not_overflowed(field: str, pair: tuple[bytes, bytes]) -> None:
    depth = 100_000
    deep = pair[0] * depth + b"1" + pair[1] * depth
    if field == "secret in":
        body = b'{"credentials":{"credential_type":"custom","secret":%b}}' % deep
    elif field == "extra secret in":
        secret = b'{"access_token":"x","y":%b}' % deep
        body = b'{"credentials":{"credential_type":"oauth2","secret":%b}}' % secret
    else:
        body = b'{"%b":%b}' % (field.encode(), deep)

    with pytest.raises(MalformedError) as refused:
        command("refresh", body, bytes_max=1024 * 1024)

    assert refused.value.code is FailureCode.INVALID_COMMAND
    assert "canary" not in str(refused.value)


def test_a_body_that_is_not_utf_8_says_so_and_where() -> None:
    body = b'{"credentials":{"credential_type":"oauth2","secret":{"access_token":"\xff"}}}'

    assert str(refusal("id.refresh", body)) == "the body is not UTF-8 - at `$.credentials.secret`"


@pytest.mark.parametrize("reader", GOOD)
def test_a_body_over_the_limit_is_too_large_before_it_is_read(reader: str) -> None:
    error = refusal(reader, b"{" * (body_bytes_max(BYTES_MAX) + 1))

    assert error.code is FailureCode.TOO_LARGE
    assert "too large" in str(error)


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("kind", ["secret", "encrypted_data"])
def test_credentials_have_a_size(kind: str, over: int) -> None:
    bytes_max = 300
    if kind == "secret":
        filler = "x" * (bytes_max + over - len('{"k": ""}'))
        body = credentials_body({"credential_type": "custom", "secret": {"k": filler}})
    else:
        data = "eHh4" * (bytes_max // 3) + ("eA==" if over else "")
        body = credentials_body({"credential_type": "custom", "encrypted_data": data})

    if not over:
        assert getattr(command("refresh", body, bytes_max), "credentials", None) is not None
        return
    with pytest.raises(MalformedError, match=r"at `\$\.credentials`") as refused:
        command("refresh", body, bytes_max)
    assert refused.value.code is FailureCode.TOO_LARGE


@pytest.mark.parametrize(
    "header",
    ["", "0", "60001", "1e3", " 5", "5\n", "+5", "-1", "5.0", "\u0665", "9" * 5000, "canary"],
)
def test_a_timeout_that_is_no_number_in_range_is_refused(header: str) -> None:
    with pytest.raises(MalformedError, match=r"\ARefreshd-Timeout-Ms is not a whole number"):
        read_timeout_s(header)


@pytest.mark.parametrize("verb", ["", "canary", "GET", "get\n", "list"])
def test_a_verb_that_is_none_is_refused(verb: str) -> None:
    with pytest.raises(MalformedError, match=r"\Ano such command\Z"):
        command(verb, b"{}")


def test_a_query_needs_no_room_for_credentials() -> None:
    with pytest.raises(MalformedError) as refused:
        read_list_query(b" " * (body_bytes_max(0) + 1))

    assert refused.value.code is FailureCode.TOO_LARGE


def test_credentials_of_the_largest_size_fit_into_a_body_as_base64() -> None:
    body = body_of(CONNECT, credentials={**OPAQUE, "encrypted_data": "eHh4" * (BYTES_MAX // 3)})

    assert connect(body).credentials is not None
