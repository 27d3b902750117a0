"""Of an answer that breaks off whole values are taken, and what may be missing is in doubt."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.answers import read_answer
from domain.exchange import Exchange, Lost, Tokens, Verdict
from domain.profile import FailureClass, ProviderProfile
from domain.verdict_table import LOST
from domain.verdicts import judge
from tests.domain.oauth_answers import answered
from tests.domain.shapes import NOW

PLAIN = ProviderProfile(slug="plain")

DOUBTFUL: dict[str, tuple[bytes, bool]] = {
    # The body, and whether a refresh token that could not be read may have been in it.
    "cut-before-it": (b'{"access_token":"at-1","expires_in":60', True),
    "cut-behind-its-name": (b'{"access_token":"at-1","refresh_token"', True),
    "cut-in-it": (b'{"access_token":"at-1","refresh_token":"rt-', True),
    "cut-in-an-escape-of-it": (b'{"access_token":"at-1","refresh_token":"rt-\\"', True),
    "cut-in-a-character-of-it": (b'{"access_token":"at-1","refresh_token":"rt-\xc3', True),
    "cut-in-an-object": (b'{"access_token":"at-1","user":{"id":1', True),
    "brackets-that-do-not-match": (b'{"access_token":"at-1","a":[1},"refresh_token":"rt-1"}', True),
    "not-to-be-decoded": (b'{"access_token":"at-1","refresh_token":"rt-\\ud800"}', True),
    "decoded-with-a-loss": (b'{"access_token":"at-1","refresh_token":"rt-\xff"}', True),
    "no-text": (b'{"access_token":"at-1","refresh_token":["rt-1"]}', True),
    "whole-and-without": (b'{"access_token":"at-1"}', False),
    "whole-and-null": (b'{"access_token":"at-1","refresh_token":null}', False),
    "whole-and-empty": (b'{"access_token":"at-1","refresh_token":""}', False),
    "whole-and-blank": (b'{"access_token":"at-1","refresh_token":" "}', False),
    "whole-and-false": (b'{"access_token":"at-1","refresh_token":false}', False),
    "malformed-and-without": (b'{"a":NaN,"b":"\xff","c":"\\q","access_token":"at-1",}', False),
    "text-after-it": (b'{"access_token":"at-1","expires_in":NaN}<br>', False),
    "form-without": (b"access_token=at-1&expires_in=60", False),
}


@pytest.mark.parametrize(("body", "is_doubtful"), DOUBTFUL.values(), ids=DOUBTFUL)
@pytest.mark.parametrize("is_cut", [False, True])
def test_the_old_refresh_token_is_in_doubt_where_a_new_one_may_not_have_been_read(
    body: bytes, is_doubtful: bool, is_cut: bool
) -> None:
    read = read_answer(PLAIN, answered(body), is_cut=is_cut)

    assert isinstance(read, Tokens)
    assert (read.access_token, read.refresh_token) == ("at-1", None)
    is_doubtful = is_doubtful or (is_cut and not body.startswith(b"{"))
    assert read.replaces_unread == is_doubtful
    assert ("refresh_token_unread" in read.notes) == is_doubtful


WHOLE = msgspec.json.encode(
    {"access_token": 'at-"1\\\u20ac', "expires_in": 3600, "refresh_token": "rt-1", "scope": "a b"}
)


@given(at=st.integers(0, len(WHOLE)))
def test_of_json_that_breaks_off_anywhere_no_half_value_is_taken(at: int) -> None:
    read = read_answer(PLAIN, answered(WHOLE[:at]), is_cut=True)

    if isinstance(read, Tokens):
        assert read.access_token == 'at-"1\\\u20ac'
        assert read.refresh_token in (None, "rt-1")
        assert read.scope in (None, "a b")
        assert read.expires_at == NOW + timedelta(seconds=3600)
        assert read.replaces_unread == (read.refresh_token is None)


def test_a_number_at_a_broken_end_is_not_taken() -> None:
    read = read_answer(PLAIN, answered(b'{"access_token":"at-1","expires_in":36'))

    assert isinstance(read, Tokens)
    assert read.expires_at == NOW + timedelta(seconds=PLAIN.lifetime_default_s)
    assert "expiry_unknown" in read.notes


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"access_token=at-1&refresh_token=rt-1&scope=a", ("at-1", "rt-1", None)),
        (b"access_token=at-1&refresh_token=rt-1", ("at-1", None, None)),
        (b"access_token=at-1&", ("at-1", None, None)),
        (b"access_token=at-1", None),
    ],
)
def test_of_a_form_that_breaks_off_the_last_field_is_not_taken(
    body: bytes, expected: tuple[str | None, ...] | None
) -> None:
    read = read_answer(PLAIN, answered(body), is_cut=True)

    got = (read.access_token, read.refresh_token, read.scope) if isinstance(read, Tokens) else None
    assert got == expected


CUT = {
    "row-cut-before-the-refresh-token": b'{"access_token":"at-1","expires_in":600,"refresh_tok',
    "row-cut-in-the-refresh-token": b'{"access_token":"at-1","refresh_token":"rt-',
    "row-cut-behind-the-access-token": b'{"access_token":"at-1"',
    "row-cut-form": b"access_token=at-1&refresh_token=rt-",
}


@pytest.mark.parametrize("body", CUT.values(), ids=CUT)
def test_an_access_token_in_an_answer_that_broke_off_is_a_success_in_doubt(body: bytes) -> None:
    outcome = judge(PLAIN, Lost(code="timeout", cut=answered(body)), sent_scope=False)

    assert isinstance(outcome, Tokens)
    assert (outcome.access_token, outcome.refresh_token) == ("at-1", None)
    assert outcome.replaces_unread


ONLY_REFRESH_TOKEN: dict[str, Exchange] = {
    "no-access-token": answered({"refresh_token": "rt-2", "expires_in": 60}),
    "empty-access-token": answered({"access_token": "", "refresh_token": "rt-2"}),
    "no-text": answered({"access_token": {"value": "at-2"}, "refresh_token": "rt-2"}),
    "decoded-with-a-loss": answered(b'{"access_token":"at-\xff","refresh_token":"rt-2"}'),
    "form": answered(b"refresh_token=rt-2&access_token="),
    "cut-in-the-access-token": Lost(
        code="timeout", cut=answered(b'{"refresh_token":"rt-2","access_token":"at-')
    ),
    "cut-form": Lost(code="timeout", cut=answered(b"refresh_token=rt-2&access_token=at")),
}


@pytest.mark.parametrize("exchange", ONLY_REFRESH_TOKEN.values(), ids=ONLY_REFRESH_TOKEN)
def test_a_new_refresh_token_without_an_access_token_is_kept_and_in_no_doubt(
    exchange: Exchange,
) -> None:
    verdict = judge(PLAIN, exchange, sent_scope=False)

    assert isinstance(verdict, Verdict)
    assert verdict.refresh_token is not None
    assert verdict.refresh_token.reveal() == b"rt-2"
    assert not verdict.outcome_unknown
    assert verdict.failure_class in (FailureClass.TRANSIENT, FailureClass.AMBIGUOUS)
    assert "rt-2" not in repr(verdict)


NO_NEW_ONE: dict[str, tuple[ProviderProfile, Exchange]] = {
    "error-status": (PLAIN, answered({"refresh_token": "rt-2"}, 400)),
    "server-failed": (PLAIN, answered({"refresh_token": "rt-2"}, 500)),
    "error-in-a-success": (PLAIN, answered({"refresh_token": "rt-2", "error": "oops"})),
    "unreadable": (PLAIN, answered({"refresh_token": ["rt-2"]})),
    "cut-in-it": (PLAIN, Lost(code="timeout", cut=answered(b'{"refresh_token":"rt-'))),
    "presents-another": (
        ProviderProfile(slug="p", presents="access_token"),
        answered({"refresh_token": "rt-2"}),
    ),
}


@pytest.mark.parametrize(("of", "exchange"), NO_NEW_ONE.values(), ids=NO_NEW_ONE)
def test_what_is_no_success_or_not_to_be_presented_replaces_no_refresh_token(
    of: ProviderProfile, exchange: Exchange
) -> None:
    verdict = judge(of, exchange, sent_scope=False)

    assert isinstance(verdict, Verdict)
    assert verdict.refresh_token is None


USELESS_CUT = {
    "cut-in-the-access-token": (200, b'{"access_token":"at-'),
    "cut-form-in-the-access-token": (200, b"access_token=at-1"),
    "cut-error": (400, b'{"error":"invalid_grant","error_desc'),
    "cut-error-with-an-access-token": (400, b'{"access_token":"at-1","error":"x"'),
    "cut-page": (403, b"<html>"),
    "nothing-came": (200, b""),
}


@pytest.mark.parametrize(("status", "body"), USELESS_CUT.values(), ids=USELESS_CUT)
def test_an_answer_that_broke_off_before_its_tokens_is_lost_whatever_else_it_says(
    status: int, body: bytes
) -> None:
    cut = answered(body, status, retry_after="60")

    verdict = judge(PLAIN, Lost(code="timeout", cut=cut), sent_scope=False)

    assert verdict == replace(LOST, code="timeout")
