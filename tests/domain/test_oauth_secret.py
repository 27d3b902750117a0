"""A refresh replaces what was answered, keeps everything else, and shows nothing."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.credentials import Secret
from domain.exchange import Tokens
from domain.oauth_secret import OAuthSecret
from tests.domain.shapes import NOW

CANARY = "tok-3f9a-canary"
FIELDS: dict[str, Any] = {
    "access_token": f"{CANARY}-a1",
    "refresh_token": f"{CANARY}-r1",
    "token_type": "bearer",
    "scope": "read write",
    "id_token": f"{CANARY}-i1",
    "realm": {"id": 123456789012345678901234567890, "empty": None, "nested": [1, 2.5, "€"]},
}
ANSWERED = Tokens(
    access_token="a2", refresh_token="r2", token_type="mac", scope="read", expires_at=NOW
)


def secret(fields: object) -> OAuthSecret:
    """Return the secret that holds ``fields``."""
    return OAuthSecret(Secret(msgspec.json.encode(fields)))


def renewed(tokens: Tokens, fields: object = FIELDS) -> dict[str, Any]:
    """Return the fields after a refresh."""
    return msgspec.json.decode(secret(fields).renewed(tokens).reveal())


def test_all_that_was_answered_replaces_what_was_held() -> None:
    new = {"access_token": "a2", "refresh_token": "r2", "token_type": "mac", "scope": "read"}

    assert renewed(ANSWERED) == FIELDS | new


def test_a_refresh_token_alone_replaces_itself_alone() -> None:
    after = msgspec.json.decode(secret(FIELDS).rotated(Secret(b"r2")).reveal())

    assert after == FIELDS | {"refresh_token": "r2"}


@pytest.mark.parametrize("name", ["refresh_token", "token_type", "scope"])
def test_what_was_not_answered_stays(name: str) -> None:
    after = renewed(replace(ANSWERED, **{name: None}))

    assert after[name] == FIELDS[name]
    assert renewed(replace(ANSWERED, **{name: None}), {}).keys() == {
        "access_token",
        "refresh_token",
        "token_type",
        "scope",
    } - {name}


def test_renewing_leaves_the_secret_before_it_alone() -> None:
    before = secret(FIELDS)

    before.renewed(ANSWERED)

    assert (before.access_token, before.text("refresh_token")) == (
        f"{CANARY}-a1",
        f"{CANARY}-r1",
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_unknown_fields_stay_whatever_they_hold(fields: dict[str, Any]) -> None:
    tokens = Tokens(access_token="a2", expires_at=NOW)

    assert renewed(tokens, fields) == fields | {"access_token": "a2"}


@given(st.binary().filter(lambda plaintext: b"{" not in plaintext))
@example(b"[]")
@example(b'{"access_token":"a1"')
@example(b'{"access_token":"a\xff"}')
@example(b'{"a":' * 100_000)
def test_what_is_no_object_holds_nothing(plaintext: bytes) -> None:
    held = OAuthSecret(Secret(plaintext))

    assert (held.access_token, held.token_type) == (None, "Bearer")
    assert msgspec.json.decode(held.renewed(replace(ANSWERED, scope=None)).reveal()) == {
        "access_token": "a2",
        "refresh_token": "r2",
        "token_type": "mac",
    }


@pytest.mark.parametrize("value", ["", None, 5, ["x"], {"x": "y"}, True])
def test_a_field_is_a_text_that_is_not_empty_or_there_is_none(value: object) -> None:
    held = secret({"access_token": value, "token_type": value, "refresh_token": value})

    assert (held.access_token, held.text("refresh_token")) == (None, None)
    assert held.token_type == "Bearer"
    assert held.text("missing") is None


def test_texts_are_read_as_they_are() -> None:
    held = secret(FIELDS)

    assert (held.access_token, held.token_type) == (f"{CANARY}-a1", "bearer")
    assert (held.text("refresh_token"), held.text("scope")) == (f"{CANARY}-r1", "read write")


def test_no_way_of_printing_shows_what_is_held() -> None:
    for carrier in (secret(FIELDS), secret(FIELDS).renewed(ANSWERED)):
        for text in (repr(carrier), str(carrier), f"{carrier}", repr([carrier])):
            assert CANARY not in text
            assert "***" in text
