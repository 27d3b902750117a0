"""Whatever a token endpoint writes, its tokens are found where the profile says, or it holds none.

Case ids name the quirk of PROVIDERS.md section 2.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.answers import (
    DEPTH_MAX,
    DESCRIPTION_CHARS_MAX,
    SUB_CODES_MAX,
    Refusal,
    at,
    read_answer,
)
from domain.exchange import Tokens
from domain.profile import AnswerPaths, ProviderProfile
from tests.domain.oauth_answers import FORM, answered

PLAIN = ProviderProfile(slug="plain")
PAIR = {"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 60}
CANARY = "tok-3f9a-canary"


def with_paths(**paths: Any) -> ProviderProfile:
    """Return the plain profile with other paths into the answer."""
    return ProviderProfile(slug="plain", answer=AnswerPaths(**paths))


def tokens(body: object, profile: ProviderProfile = PLAIN, status: int = 200) -> Tokens:
    """Return the tokens of an answer that must hold some."""
    read = read_answer(profile, answered(body, status))
    assert isinstance(read, Tokens)
    return read


def refusal(body: object, profile: ProviderProfile = PLAIN, status: int = 200) -> Refusal:
    """Return what an answer that holds no tokens says."""
    read = read_answer(profile, answered(body, status))
    assert isinstance(read, Refusal)
    return read


BODIES = {
    "json": b'{"access_token":"at-1","refresh_token":"rt-1","expires_in":60}',
    "quirk-14-json-after-a-byte-order-mark": b'\xef\xbb\xbf{"access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-14-json-between-whitespace": b'\r\n\t {"access_token":"at-1","refresh_token":"rt-1"} \n',
    "quirk-14-form": b"access_token=at-1&refresh_token=rt-1&expires_in=60",
    "quirk-14-form-that-ends-in-a-newline": b"access_token=at-1&refresh_token=rt-1\r\n",
    "quirk-14-form-with-escapes": b"access_token=at%2D1&refresh_token=rt%2d1&scope=a+b",
    "json-with-escapes": b'{"access_token":"\\u0061t-1","refresh_token":"rt\\u002d1"}',
}


@pytest.mark.parametrize("content_type", ["application/json", FORM, "text/html", ""])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_read_by_what_it_holds_whatever_its_content_type(
    body: bytes, content_type: str
) -> None:
    read = read_answer(PLAIN, answered(body, content_type=content_type))

    assert isinstance(read, Tokens)
    assert (read.access_token, read.refresh_token) == ("at-1", "rt-1")
    assert "answer_malformed" not in read.notes


MALFORMED = {
    "quirk-4-not-a-number": b'{"expires_in":NaN,"access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-a-number-beyond-floats": b'{"a":1e999,"access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-bytes-that-are-no-text": b'{"a":"\xff\xfe","access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-half-a-character": b'{"a":"\\ud800","access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-a-raw-line-break": b'{"a":"x\ny","access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-an-unknown-escape": b'{"a":"\\q","access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-a-trailing-comma": b'{"access_token":"at-1","refresh_token":"rt-1",}',
    "quirk-4-text-after-it": b'{"access_token":"at-1","refresh_token":"rt-1"}<br>Notice: x',
    "quirk-4-cut-off-in-a-later-text": b'{"access_token":"at-1","refresh_token":"rt-1","scope":"a',
    "quirk-4-cut-off-in-a-later-object": b'{"access_token":"at-1","refresh_token":"rt-1","x":{"y":[1',
    "quirk-4-an-endless-integer": b'{"expires_in":' + b"9" * 6000 + b',"access_token":"at-1",'
    b'"refresh_token":"rt-1"}',
    "quirk-4-a-broken-field-deep-inside": b'{"a":{"b":[{"c":NaN}],"access_token":"no"},'
    b'"access_token":"at-1","refresh_token":"rt-1"}',
    "quirk-4-brackets-that-do-not-match": b'{"access_token":"at-1","refresh_token":"rt-1","a":[1},'
    b'"access_token":"no"}',
    "quirk-4-a-key-that-is-no-text": b'{"\xff":1,"access_token":"at-1","refresh_token":"rt-1"}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_does_not_lose_the_tokens_before_or_after_the_bad_field(
    body: bytes,
) -> None:
    read = tokens(body)

    assert (read.access_token, read.refresh_token) == ("at-1", "rt-1")
    assert "answer_malformed" in read.notes


def test_a_malformed_body_is_followed_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> object:
        path = ".".join("a" * depth) + ".access_token"
        body = '{"a":' * depth + '{"access_token":"at-1"}' + "}" * depth + "}"
        return read_answer(with_paths(access_token=path), answered(body))

    assert isinstance(nested(DEPTH_MAX - 1), Tokens)
    assert isinstance(nested(DEPTH_MAX), Refusal)


def test_a_malformed_array_is_followed_to_its_elements() -> None:
    body = b'[NaN,{"access_token":"at-1","refresh_token":"rt-1"},"x"'
    paths = {"access_token": "1.access_token", "refresh_token": "1.refresh_token", "scope": "2"}

    read = tokens(body, with_paths(**paths))

    assert (read.access_token, read.refresh_token, read.scope) == ("at-1", "rt-1", "x")


UNUSABLE = {
    "quirk-15-empty": b"",
    "quirk-15-blank": b" \r\n\t",
    "quirk-15-empty-object": b"{}",
    "array": b'["access_token","at-1"]',
    "array-of-objects": b'[{"access_token":"at-1"}]',
    "number": b"42",
    "text": b'"access_token"',
    "null": b"null",
    "html": b"<html><a href='?x=1&access_token=at-1&refresh_token=rt-1'>",
    "html-after-a-mark": b"\xef\xbb\xbf <!doctype html>&access_token=at-1",
    "plain-words": b"Bad Request",
    "quirk-13-token-is-null": b'{"access_token":null}',
    "quirk-13-token-is-empty": b'{"access_token":""}',
    "quirk-13-token-is-blank": b'{"access_token":"  "}',
    "quirk-13-token-is-a-number": b'{"access_token":1}',
    "quirk-13-token-is-an-object": b'{"access_token":{"value":"at-1"}}',
    "quirk-13-token-is-cut-off": b'{"access_token":"at-1',
    "quirk-13-token-is-no-text": b'{"access_token":"at-\xff"}',
    "quirk-13-form-token-is-empty": b"access_token=&refresh_token=rt-1",
    "quirk-16-token-in-an-envelope": b'{"data":{"access_token":"at-1"}}',
    "quirk-16-token-in-a-malformed-envelope": b'{"data":{"access_token":"at-1","x":NaN}}',
    "invalid-utf-8": b"\xff\xfe\x00\x01=\xff",
    "deep-arrays": b"[" * 200_000,
    "deep-objects": b'{"a":' * 50_000,
    "deep-and-closed": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "many-form-fields": b"a=1&" * 60_000,
    "256-kib-of-one-text": b'{"a":"' + b"x" * (256 * 1024),
    "256-kib-of-backslashes": b'{"a":"' + b"\\" * (256 * 1024),
}


@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
def test_a_body_without_a_usable_access_token_holds_no_tokens(body: bytes) -> None:
    assert isinstance(read_answer(PLAIN, answered(body)), Refusal)


@pytest.mark.parametrize(
    "value", [..., None, "", " ", 7, ["rt-1"], {"a": 1}, False, "rt-\ufffd"], ids=repr
)
def test_quirk_1_without_a_new_refresh_token_the_old_one_is_kept(value: object) -> None:
    body = {"access_token": "at-1"} | ({} if value is ... else {"refresh_token": value})

    assert tokens(body).refresh_token is None


def test_quirk_2_the_same_refresh_token_again_is_returned_as_it_is() -> None:
    assert tokens(PAIR | {"refresh_token": "rt-0"}).refresh_token == "rt-0"


NOT_SUCCESSFUL = {
    "quirk-13-github-200-bad_refresh_token": ({"error": "bad_refresh_token"}, PLAIN),
    "quirk-13-an-error-beside-an-access-token": (
        {"access_token": "at-1", "error": "invalid_grant"},
        PLAIN,
    ),
    "quirk-13-an-error-that-is-an-object": (
        {"access_token": "at-1", "error": {"code": 190}},
        PLAIN,
    ),
    "quirk-13-slack-ok-false": (
        {"ok": False, "access_token": "at-1"},
        with_paths(success_flag="ok"),
    ),
    "quirk-13-a-flag-that-is-the-text-false": (
        {"success": "False", "access_token": "at-1"},
        with_paths(success_flag="success"),
    ),
}


@pytest.mark.parametrize("flag", [False, 0, "false", "FALSE", "0", " 0 "], ids=repr)
def test_a_success_flag_that_is_false_in_any_writing_is_an_error(flag: object) -> None:
    assert refusal({"ok": flag}, with_paths(success_flag="ok")).has_error


@pytest.mark.parametrize(("body", "profile"), NOT_SUCCESSFUL.values(), ids=NOT_SUCCESSFUL)
def test_a_200_that_says_that_it_is_an_error_is_none(body: object, profile: Any) -> None:
    assert refusal(body, profile).has_error


@pytest.mark.parametrize("error", [None, "", 0, False, [], {}], ids=repr)
def test_an_error_field_that_is_empty_is_no_error(error: object) -> None:
    assert tokens(PAIR | {"error": error}).access_token == "at-1"


@pytest.mark.parametrize("flag", [True, 1, "true", None, ...], ids=repr)
def test_a_success_flag_that_is_not_false_is_no_error(flag: object) -> None:
    body = PAIR | ({} if flag is ... else {"ok": flag})

    assert tokens(body, with_paths(success_flag="ok")).notes == ()


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503, 302])
def test_quirk_37_a_pair_of_tokens_in_an_error_is_not_lost(status: int) -> None:
    read = tokens(PAIR | {"error": "access_denied"}, status=status)

    assert (read.access_token, read.refresh_token) == ("at-1", "rt-1")
    assert read.notes == ("tokens_in_error",)


def test_quirk_37_a_pair_in_a_200_that_says_error_is_not_lost() -> None:
    assert tokens(PAIR | {"error": "rate_limited"}).notes == ("tokens_in_error",)


@pytest.mark.parametrize("status", [199, 300, 400, 401, 500, 503])
def test_an_access_token_alone_in_an_answer_that_is_no_2xx_is_not_taken(status: int) -> None:
    assert not refusal({"access_token": "at-1"}, status=status).has_error


ELSEWHERE = {
    "quirk-16-tiktok-envelope": (
        {"data": {"access_token": "at-1", "refresh_token": "rt-1"}},
        {"access_token": "data.access_token", "refresh_token": "data.refresh_token"},
    ),
    "quirk-16-slack-user-beside-bot": (
        {
            "ok": True,
            "access_token": "bot",
            "authed_user": {"access_token": "at-1", "refresh_token": "rt-1"},
        },
        {
            "access_token": "authed_user.access_token",
            "refresh_token": "authed_user.refresh_token",
            "success_flag": "ok",
        },
    ),
    "quirk-16-sentry-renamed": (
        {"token": "at-1", "refreshToken": "rt-1"},
        {"access_token": "token", "refresh_token": "refreshToken"},
    ),
    "an-array-element": (
        {"tokens": [{}, {"a": "at-1", "r": "rt-1"}]},
        {"access_token": "tokens.1.a", "refresh_token": "tokens.1.r"},
    ),
}


@pytest.mark.parametrize(("body", "paths"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_tokens_are_taken_from_the_paths_of_the_profile(body: object, paths: Any) -> None:
    read = tokens(body, with_paths(**paths))

    assert (read.access_token, read.refresh_token) == ("at-1", "rt-1")


@pytest.mark.parametrize(
    "path", ["b", "a.b.c", "l.2", "l.-1", "l.x", "l.²", "l.\u0661", "l.99999", "a.0", "t.0"]
)
def test_a_path_that_leads_nowhere_finds_nothing(path: str) -> None:
    assert at({"a": {"b": 1}, "l": [1, 2], "t": "text"}, path) is None


@pytest.mark.parametrize(
    ("asked", "given", "is_narrowed"),
    [
        ("a b", "a", True),
        ("a b", "b a", False),
        ("a b", "a b c", False),
        ("a b", "a,b", False),
        ("a b", ["b", "a"], False),
        ("a b", ["a"], True),
        ("a b", None, False),
        ("a b", "", False),
        (None, "a", False),
    ],
)
def test_quirk_29_a_narrower_scope_is_noted_and_no_failure(
    asked: str | None, given: object, is_narrowed: bool
) -> None:
    profile = ProviderProfile(slug="plain", scope=asked)

    read = tokens(PAIR | {"scope": given}, profile)

    assert read.notes == (("scope_narrowed",) if is_narrowed else ())


def test_a_scope_that_is_an_array_is_kept_as_rfc_6749_writes_it() -> None:
    assert tokens(PAIR | {"scope": ["a", 1, "b"]}).scope == "a b"


def test_token_type_scope_and_endpoint_base_are_kept_where_they_are_texts() -> None:
    profile = with_paths(endpoint_base="instance_url")
    told = PAIR | {"token_type": "bearer", "scope": "a", "instance_url": "https://x.example"}
    odd = PAIR | {"token_type": 1, "scope": {}, "instance_url": ["https://x.example"]}

    kept, left = tokens(told, profile), tokens(odd, profile)

    assert (kept.token_type, kept.scope) == ("bearer", "a")
    assert kept.endpoint_base == "https://x.example"
    assert (left.token_type, left.scope, left.endpoint_base) == (None, None, None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        *(("a", "a"), (190, "190"), (10**18 - 1, "9" * 18), (-(10**18) + 1, "-" + "9" * 18)),
        *((True, None), (1.5, None), ({"a": 1}, None), (10**18, None), (10**30, None)),
    ],
    ids=repr,
)
def test_an_error_code_is_a_text_or_a_whole_number(error: object, code: str | None) -> None:
    read = refusal({"error": error}, status=400)

    assert (read.has_error, read.code) == (True, code)


def test_an_error_code_of_0_is_none() -> None:
    read = refusal({"error": 0}, status=400)

    assert (read.has_error, read.code) == (False, None)


def test_only_whole_numbers_in_a_list_are_microsofts_codes() -> None:
    codes = [1, 10**9 - 1, "50173", True, 7.0, -1, 0, 10**9, None]
    body = {"error": "e", "error_codes": codes, "suberror": "s"}

    assert refusal(body, status=400).sub_codes == ("AADSTS1", "AADSTS999999999", "s")
    assert refusal({"error": "e", "error_codes": 50076}, status=400).sub_codes == ()


def test_of_a_long_answer_no_more_is_kept_than_its_bounds_allow() -> None:
    codes = list(range(1, SUB_CODES_MAX + 2))
    body = {"error": "e", "error_description": "x" * 5000, "error_codes": codes}

    read = refusal(body, status=400)

    assert read.description == "x" * DESCRIPTION_CHARS_MAX
    assert len(read.sub_codes) == SUB_CODES_MAX


def test_what_was_read_shows_nothing() -> None:
    body = {"error": CANARY, "error_description": CANARY, "suberror": CANARY}

    read = refusal(body, status=400)

    assert read.description == CANARY
    assert CANARY not in repr(read) + str(read)


@given(body=st.binary(max_size=300), status=st.integers(0, 700))
def test_no_bytes_make_reading_raise(body: bytes, status: int) -> None:
    assert read_answer(PLAIN, answered(body, status)) is not None


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*PAIR, "error", "scope", "error_codes"]), inner)
    ),
    max_leaves=12,
)


@given(tree=trees, cut=st.integers(0, 200), junk=st.binary(max_size=3))
def test_no_json_and_no_broken_json_makes_reading_raise(
    tree: object, cut: int, junk: bytes
) -> None:
    text = msgspec.json.encode(tree)

    for body in (text, text[:cut] + junk + text[cut:], b"{" + text[:cut]):
        assert read_answer(PLAIN, answered(body)) is not None


@given(extra=st.dictionaries(st.sampled_from(["expires_in", "scope", "token_type", "x"]), trees))
def test_no_other_field_loses_the_tokens(extra: dict[str, Any]) -> None:
    read = tokens(PAIR | extra)

    assert (read.access_token, read.refresh_token) == ("at-1", "rt-1")
