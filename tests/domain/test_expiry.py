"""An expiry is read in every shape that a provider writes it in, and never costs the tokens.

Case ids name the quirk of PROVIDERS.md section 2. Every request begins at ``NOW``.
"""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from domain.answers import read_answer
from domain.exchange import Tokens
from domain.expiry import CENTURY_S
from domain.profile import AnswerPaths, ExpiryShape, ProviderProfile
from tests.domain.oauth_answers import answered
from tests.domain.shapes import NOW

DEFAULT_S, MAX_S = 3600.0, 10 * 365 * 86_400.0
EPOCH_S = NOW.timestamp()
OPAQUE = "at-1"
ABSENT = ...


def read(
    value: object,
    *,
    date: datetime | None = None,
    took_s: float = 0.0,
    token: str = OPAQUE,
    **profile: Any,
) -> Tokens:
    """Return the tokens of an answer with ``value`` as its expiry."""
    body: object = {"access_token": token} | ({} if value is ABSENT else {"expires_in": value})
    if isinstance(value, int) and abs(value) > 2**63:
        body = f'{{"access_token":"{token}","expires_in":{value}}}'  # msgspec writes no such number
    answer = answered(body, date=date, took_s=took_s)
    tokens = read_answer(ProviderProfile(slug="p", **profile), answer)
    assert isinstance(tokens, Tokens)
    return tokens


def life_s(tokens: Tokens) -> float:
    """Return how long the access token lives from the start of the request on."""
    return (tokens.expires_at - NOW).total_seconds()


def jwt(**claims: object) -> str:
    """Return an unsigned JWT."""
    parts = [msgspec.json.encode(part) for part in ({"alg": "none"}, claims)]
    return ".".join(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts) + ".sig"


KNOWN = {
    "quirk-5-integer": ("seconds", 2700, 2700),
    "quirk-5-text": ("seconds", "2700", 2700),
    "quirk-5-text-with-spaces": ("seconds", " 2700 ", 2700),
    "quirk-5-float": ("seconds", 3599.9, 3599),
    "quirk-5-text-of-a-float": ("seconds", "3599.9", 3599),
    "quirk-5-zero": ("seconds", 0, 0),
    "quirk-5-negative": ("seconds", -5, 0),
    "quirk-5-huge": ("seconds", 10**12, MAX_S),
    "quirk-5-huge-beyond-floats": ("seconds", "9" * 400, MAX_S),
    "quirk-5-huge-integer-beyond-floats": ("seconds", 10**400, MAX_S),
    "quirk-5-negative-beyond-floats": ("seconds", -(10**400), 0),
    "quirk-5-infinite": ("seconds", "Infinity", MAX_S),
    "quirk-5-infinitely-negative": ("seconds", "-1e999", 0),
    "quirk-7-milliseconds": ("milliseconds", 90_500, 90.5),
    "quirk-7-text-of-milliseconds": ("milliseconds", "1800000", 1800),
    "quirk-7-absolute-seconds": ("epoch_s", EPOCH_S + 600, 600),
    "quirk-7-absolute-seconds-as-text": ("epoch_s", f"{EPOCH_S + 600:.0f}", 600),
    "quirk-7-absolute-seconds-past": ("epoch_s", EPOCH_S - 1, 0),
    "quirk-7-absolute-seconds-of-milliseconds": ("epoch_s", EPOCH_S * 1000, MAX_S),
    "quirk-7-absolute-milliseconds": ("epoch_ms", (EPOCH_S + 600) * 1000, 600),
    "quirk-7-iso-with-zulu": ("iso8601", "2026-03-01T13:10:00Z", 600),
    "quirk-7-iso-with-offset": ("iso8601", "2026-03-01T15:10:00+02:00", 600),
    "quirk-7-iso-without-zone": ("iso8601", "2026-03-01T13:10:00.500", 600.5),
    "quirk-7-iso-in-another-age": ("iso8601", "9999-12-31T23:59:59-23:00", MAX_S),
    "quirk-7-tableau-duration": ("duration", "177:05:38", 177 * 3600 + 5 * 60 + 38),
}


@pytest.mark.parametrize(("shape", "value", "expected_s"), KNOWN.values(), ids=KNOWN)
def test_an_expiry_counts_from_the_request_within_the_bounds(
    shape: str, value: object, expected_s: float
) -> None:
    tokens = read(value, expiry_shape=ExpiryShape(shape))

    assert (life_s(tokens), tokens.notes) == (expected_s, ())


SHAPES_THAT_TELL = [shape for shape in ExpiryShape if shape is not ExpiryShape.NONE]


@pytest.mark.parametrize("value", [ABSENT, None, ""], ids=["absent", "null", "empty"])
@pytest.mark.parametrize("shape", SHAPES_THAT_TELL)
def test_quirk_6_an_expiry_that_is_not_told_is_unknown_and_not_infinite(
    shape: ExpiryShape, value: object
) -> None:
    tokens = read(value, expiry_shape=shape)

    assert (life_s(tokens), tokens.notes) == (DEFAULT_S, ("expiry_unknown",))


UNREADABLE: list[tuple[str, object]] = [
    ("seconds", True),
    ("seconds", False),
    ("seconds", "nan"),
    ("seconds", "soon"),
    ("seconds", {"s": 1}),
    ("seconds", [60]),
    ("seconds", "2026-03-01T13:10:00Z"),
    ("milliseconds", True),
    ("epoch_s", "NaN"),
    ("epoch_s", "tomorrow"),
    ("epoch_ms", False),
    ("iso8601", 1_700_000_000),
    ("iso8601", "yesterday"),
    ("iso8601", "2026-13-01"),
    ("duration", 60),
    ("duration", "05:38"),
    ("duration", "-1:00:00"),
    ("duration", "1:00:00 or so"),
]


@pytest.mark.parametrize(("shape", "value"), UNREADABLE, ids=repr)
def test_quirk_4_an_expiry_that_cannot_be_read_is_the_default_and_noted(
    shape: str, value: object
) -> None:
    tokens = read(value, expiry_shape=ExpiryShape(shape))

    assert tokens.access_token == "at-1"
    assert (life_s(tokens), tokens.notes) == (DEFAULT_S, ("expiry_unreadable",))


@pytest.mark.parametrize(("digits", "expected_s"), [("9" * 6000, MAX_S), ("-" + "9" * 6000, 0)])
def test_quirk_5_a_number_that_no_parser_takes_is_still_a_number(
    digits: str, expected_s: float
) -> None:
    body = f'{{"access_token":"at-1","expires_in":{digits},"scope":"a"}}'

    tokens = read_answer(ProviderProfile(slug="p"), answered(body))

    assert isinstance(tokens, Tokens)
    assert (life_s(tokens), tokens.notes) == (expected_s, ("answer_malformed",))


@pytest.mark.parametrize("value", [ABSENT, 60, "soon"], ids=repr)
def test_quirk_7_a_lifetime_fixed_by_contract_is_the_profiles_and_nothing_is_odd(
    value: object,
) -> None:
    tokens = read(value, expiry_shape=ExpiryShape.NONE, lifetime_default_s=1200.0)

    assert (life_s(tokens), tokens.notes) == (1200.0, ())


@pytest.mark.parametrize("value", [ABSENT, "soon", 7200], ids=repr)
def test_no_lifetime_exceeds_the_profiles_maximum(value: object) -> None:
    assert life_s(read(value, lifetime_max_s=900.0)) == 900.0


@pytest.mark.parametrize("bound", [float("inf"), float("nan"), 1e300])
def test_a_maximum_that_is_no_time_span_leads_out_of_no_calendar(bound: float) -> None:
    assert life_s(read(10**300, lifetime_max_s=bound)) == 100 * 365 * 86_400


@pytest.mark.parametrize("ahead_s", [-3600, -31, -2, 2, 31, 3600])
@pytest.mark.parametrize("shape", ["epoch_s", "epoch_ms", "iso8601"])
def test_quirk_9_an_absolute_expiry_is_corrected_by_the_providers_clock(
    shape: str, ahead_s: int
) -> None:
    date = NOW + timedelta(seconds=ahead_s)
    ends_at = date + timedelta(seconds=600)
    told = {
        "epoch_s": ends_at.timestamp(),
        "epoch_ms": ends_at.timestamp() * 1000,
        "iso8601": ends_at.isoformat(),
    }

    tokens = read(told[shape], date=date, expiry_shape=ExpiryShape(shape))

    # The fraction that a Date lacks is taken for delay, and the end for the earlier one.
    cut_off_s = 1 if ahead_s < 0 else 0
    notes = () if -31 <= ahead_s <= 30 else ("clock_skew",)
    assert (life_s(tokens), tokens.notes) == (600 - cut_off_s, notes)


@pytest.mark.parametrize(("ahead_s", "took_s"), [(-1, 0), (0, 0), (0, 20), (10, 20), (20, 20)])
def test_quirk_9_a_difference_that_may_be_mere_delay_corrects_nothing(
    ahead_s: int, took_s: float
) -> None:
    date = NOW + timedelta(seconds=ahead_s)

    tokens = read(EPOCH_S + 600, date=date, took_s=took_s, expiry_shape=ExpiryShape.EPOCH_S)

    assert (life_s(tokens), tokens.notes) == (600, ())


@pytest.mark.parametrize(("ahead_s", "took_s", "offset_s"), [(9, 4, 5), (-9, 4, -8)])
def test_quirk_9_a_small_difference_is_corrected_and_need_not_be_told(
    ahead_s: int, took_s: float, offset_s: int
) -> None:
    date = NOW + timedelta(seconds=ahead_s)

    tokens = read(EPOCH_S + 600, date=date, took_s=took_s, expiry_shape=ExpiryShape.EPOCH_S)

    assert (life_s(tokens), tokens.notes) == (600 - offset_s, ())


def test_quirk_8_a_relative_expiry_counts_from_our_clock_whatever_the_providers_says() -> None:
    tokens = read(600, date=NOW + timedelta(hours=5))

    assert (life_s(tokens), tokens.notes) == (600, ("clock_skew",))


def test_a_date_without_a_zone_is_utc() -> None:
    assert read(600, date=(NOW + timedelta(hours=5)).replace(tzinfo=None)).notes == ("clock_skew",)


@pytest.mark.parametrize(
    ("exp", "value", "expected_s"),
    [
        (EPOCH_S + 300, 600, 300),
        (EPOCH_S + 900, 600, 600),
        (EPOCH_S + 300, ABSENT, 300),
        (EPOCH_S - 300, 600, 0),
        (10**300, 600, 600),
        (True, 600, 600),
        ("60", 600, 600),
        (None, 600, 600),
    ],
)
def test_quirk_6_the_exp_of_a_jwt_is_an_upper_bound(
    exp: object, value: object, expected_s: float
) -> None:
    assert life_s(read(value, token=jwt(exp=exp), expiry_from_jwt=True)) == expected_s


def test_quirk_6_the_exp_of_a_jwt_is_by_the_providers_clock() -> None:
    date = NOW + timedelta(hours=1)

    tokens = read(9000, date=date, token=jwt(exp=EPOCH_S + 3900), expiry_from_jwt=True)

    assert life_s(tokens) == 300


@pytest.mark.parametrize(
    "token",
    ["opaque", "a.b.c", "a.b", "..", "a.é.c", "a." + "W" * 90_001 + ".c", "a.W10.c", jwt()],
    ids=lambda token: token[:9],
)
def test_quirk_6_what_is_no_jwt_is_no_bound(token: str) -> None:
    assert life_s(read(600, token=token, expiry_from_jwt=True)) == 600


@pytest.mark.parametrize("told", [*("x" * n for n in range(9)), "?>?>?>", "~~~?>?>~~~"])
def test_quirk_6_a_jwt_is_read_in_base64url_without_its_padding(told: str) -> None:
    token = jwt(jti=told, exp=EPOCH_S + 300)

    assert ("-" in token, "_" in token) == ("?" in told, "?" in told)
    assert life_s(read(600, token=token, expiry_from_jwt=True)) == 300


@pytest.mark.parametrize("parts", [2, 4, 5])
def test_quirk_6_only_three_parts_are_a_signed_jwt(parts: int) -> None:
    token = ".".join([*jwt(exp=EPOCH_S + 1).split("."), "x", "y"][:parts])

    assert life_s(read(600, token=token, expiry_from_jwt=True)) == 600


def test_a_jwt_is_looked_into_only_where_the_profile_says_so() -> None:
    assert life_s(read(600, token=jwt(exp=EPOCH_S + 1))) == 600


GRANT_ENDS = {
    "quirk-27-seconds": (86_400, 86_400, ()),
    "quirk-27-text": ("86400", 86_400, ()),
    "quirk-27-a-second": (1, 1, ()),
    "quirk-27-a-century-is-never": (100 * 365 * 86_400, None, ()),
    "quirk-27-zero-is-never": (0, None, ()),
    "quirk-27-zero-as-text-is-never": ("0", None, ()),
    "quirk-27-negative-is-not-told": (-1, UNSET, ()),
    "quirk-27-huge-is-never": (10**15, None, ()),
    "quirk-27-infinite-is-never": ("inf", None, ()),
    "quirk-27-null": (None, UNSET, ()),
    "quirk-27-unreadable": ("later", UNSET, ("grant_expiry_unreadable",)),
    "quirk-27-a-truth": (True, UNSET, ("grant_expiry_unreadable",)),
}


@pytest.mark.parametrize(("value", "expected_s", "notes"), GRANT_ENDS.values(), ids=GRANT_ENDS)
def test_the_end_of_the_refresh_token_is_a_hint_that_counts_from_the_request(
    value: object, expected_s: float | UnsetType | None, notes: tuple[str, ...]
) -> None:
    paths = AnswerPaths(refresh_token_expiry="refresh_expires_in")
    body = {"access_token": "at-1", "expires_in": 60, "refresh_expires_in": value}

    tokens = read_answer(ProviderProfile(slug="p", answer=paths), answered(body))

    assert isinstance(tokens, Tokens)
    expected = expected_s
    if isinstance(expected_s, int):
        expected = NOW + timedelta(seconds=expected_s)
    assert (tokens.grant_expires_at, tokens.notes) == (expected, notes)


@pytest.mark.parametrize(
    ("told", "ahead_s"),
    [
        (None, 0),
        (NOW, 0),
        (NOW + timedelta(hours=1), 3600),
        (NOW - timedelta(hours=1), 0),
        (datetime.max.replace(microsecond=0, tzinfo=UTC), CENTURY_S - 1800),
    ],
)
def test_the_end_of_the_refresh_token_counts_by_the_clock_that_is_ahead(
    told: datetime | None, ahead_s: float
) -> None:
    paths = AnswerPaths(refresh_token_expiry="refresh_expires_in")
    body = {"access_token": "at-1", "expires_in": 60, "refresh_expires_in": 1800}

    tokens = read_answer(ProviderProfile(slug="p", answer=paths), answered(body, date=told))

    assert isinstance(tokens, Tokens)
    assert tokens.grant_expires_at == NOW + timedelta(seconds=1800 + ahead_s)
    assert tokens.expires_at == NOW + timedelta(seconds=60)


def test_the_end_of_the_refresh_token_is_read_only_where_the_profile_says_so() -> None:
    body = {"access_token": "at-1", "refresh_token_expiry": 60, "refresh_expires_in": 60}

    tokens = read_answer(ProviderProfile(slug="p"), answered(body))

    assert isinstance(tokens, Tokens)
    assert tokens.grant_expires_at is UNSET


@given(
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    shape=st.sampled_from(ExpiryShape),
    skew_s=st.integers(-(10**9), 10**9),
    token=st.text(min_size=1, max_size=40).filter(str.strip) | st.builds(jwt, exp=st.floats()),
)
def test_no_expiry_raises_or_leaves_its_bounds(
    value: object, shape: ExpiryShape, skew_s: int, token: str
) -> None:
    body = {"access_token": token, "expires_in": value}
    profile = ProviderProfile(slug="p", expiry_shape=shape, expiry_from_jwt=True)

    tokens = read_answer(profile, answered(body, date=NOW + timedelta(seconds=skew_s)))

    if isinstance(tokens, Tokens):
        assert 0 <= life_s(tokens) <= MAX_S
