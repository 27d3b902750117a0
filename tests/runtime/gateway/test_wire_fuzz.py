"""Whatever comes in, only ``MalformedError`` gets out, and it quotes no value."""

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.gateway.replies import printable
from runtime.gateway.wire import (
    MalformedError,
    read_connection_id,
    read_timeout_s,
)
from tests.fixtures.wire_bodies import GOOD, body_of, read

CANARY = "canary7f"
CANARY_NUMBER = 918273645

readers = st.sampled_from(sorted(GOOD))
names = st.sampled_from(
    sorted({name for body in GOOD.values() for name in body})
) | st.sampled_from(["credential_type", "expires_at", "secret", "encrypted_data", "access_token"])
canaries = st.sampled_from(
    [
        CANARY,
        f"{CANARY}\n",
        f"` - at `$.{CANARY}",
        f"{CANARY}.>",
        CANARY * 2000,
        f"\x00{CANARY}\x1b[0m",
        f"é{CANARY}€",
        CANARY_NUMBER,
        -CANARY_NUMBER,
        CANARY_NUMBER * 10**40,
        CANARY_NUMBER + 0.5,
        [CANARY],
        {"access_token": [CANARY]},
        {"credential_type": CANARY},
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | canaries,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(names | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def message_of(reader: str, body: bytes) -> str | None:
    """Return the message of the refusal, held to its rules, or None where there is none."""
    try:
        read(reader, body)
    except MalformedError as error:
        message = str(error)
        assert message
        assert len(message) <= 200
        assert message.isascii()
        assert message.isprintable()
        return message
    return None


def assert_quotes_nothing(message: str | None) -> None:
    """Hold that no canary came through."""
    assert message is None or (CANARY not in message and str(CANARY_NUMBER) not in message)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside ``value``."""
    if not isinstance(value, dict):
        return [path]
    inner = [place for key, item in value.items() for place in places(item, (*path, key))]
    return [path, *inner] if path else inner


PLACES = [(reader, path) for reader, body in GOOD.items() for path in places(body)]


@given(reader=readers, body=st.binary(max_size=300))
@example(reader="id.refresh", body=b'{"credentials":{"secret":\xff}}')
def test_arbitrary_bytes_are_read_or_refused(reader: str, body: bytes) -> None:
    message_of(reader, body)


@given(reader=readers, value=json_values)
def test_arbitrary_json_is_read_or_refused_without_a_quotation(reader: str, value: object) -> None:
    message = message_of(reader, json.dumps(value).encode())

    assert_quotes_nothing(message)


@given(
    reader=readers, fields=st.dictionaries(names, json_values, max_size=5), is_ascii=st.booleans()
)
def test_known_fields_with_arbitrary_values_are_read_or_refused(
    reader: str, fields: dict[str, object], *, is_ascii: bool
) -> None:
    changed = {**GOOD[reader], **fields}

    assert_quotes_nothing(message_of(reader, json.dumps(changed, ensure_ascii=is_ascii).encode()))


@given(place=st.sampled_from(PLACES), value=canaries | json_values)
def test_a_value_in_any_place_is_never_quoted(
    place: tuple[str, tuple[Any, ...]], value: object
) -> None:
    reader, path = place
    fields = copy.deepcopy(GOOD[reader])
    holder = fields
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value

    assert_quotes_nothing(message_of(reader, json.dumps(fields).encode()))


@given(reader=readers, at=st.integers(0, 2000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_body_is_read_or_refused(reader: str, at: int, byte: int, *, cut: bool) -> None:
    body = body_of(GOOD[reader])
    at %= len(body)

    message_of(reader, body[:at] + (b"" if cut else bytes([byte]) + body[at + 1 :]))


@given(name=st.text())
@example(name=f"a`{CANARY} - at `$.x`")
@example(name=f"a` - at `$.{CANARY}")
@example(name=f"{CANARY} with a space")
@example(name="a" * 10_000)
def test_the_name_of_an_unknown_field_cannot_break_the_message(name: str) -> None:
    for reader, fields in GOOD.items():
        message_of(reader, body_of({**fields, name: CANARY}))
        assert_quotes_nothing(message_of(reader, body_of({**fields, f"{name} `{CANARY}": 1})))


@given(token=st.text() | st.uuids().map(str) | st.uuids().map(lambda uuid: str(uuid).upper()))
def test_an_id_in_a_subject_is_canonical_or_refused(token: str) -> None:
    try:
        connection_id = read_connection_id(token)
    except MalformedError as error:
        message = str(error)
    else:
        assert str(connection_id) == token
        return

    assert message == "connection_id is not a UUID in canonical lower-case form"


@given(header=st.text() | st.integers(-10, 100_000).map(str))
def test_a_timeout_is_in_range_or_refused(header: str) -> None:
    is_number = header.isascii() and header.isdigit() and len(header) <= 6

    if is_number and 1 <= int(header) <= 60_000:
        assert read_timeout_s(header) == int(header) / 1000
        return
    with pytest.raises(MalformedError, match=r"\ARefreshd-Timeout-Ms is not a whole number"):
        read_timeout_s(header)


@given(text=st.text())
@example(text="x" * 200)
@example(text="x" * 201)
@example(text="a\r\nNats-Service-Error-Code: 200\r\n\x7f")
def test_printable_text_is_one_short_line_of_ascii(text: str) -> None:
    clean = printable(text)

    assert len(clean) == min(len(text), 200)
    assert clean.isascii()
    assert clean.isprintable()
    if text.isascii() and text.isprintable() and len(text) <= 200:
        assert clean == text


@pytest.mark.parametrize(("reader", "path"), PLACES)
@pytest.mark.parametrize(
    "value", [CANARY, f"{CANARY}\n", CANARY_NUMBER, [CANARY], {CANARY[0]: CANARY}]
)
def test_a_canary_in_each_place_in_turn_is_never_quoted(
    reader: str, path: tuple[Any, ...], value: object
) -> None:
    fields = copy.deepcopy(GOOD[reader])
    holder = fields
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value

    assert_quotes_nothing(message_of(reader, body_of(fields)))
