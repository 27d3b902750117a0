"""A failed refresh is answered by its class, and a grant ends by the earlier word."""

import pytest
from msgspec.structs import replace

from domain.grant_life import grant_ends_at
from domain.result import Failure
from domain.time_words import instant
from domain.token_read import failure_of, reauth_required
from tests.domain.shapes import NOW
from tests.domain.test_token_read import (
    DAY_S,
    PLAIN,
    WEEK,
    A,
    FailureClass,
    O,
    T,
    U,
    after,
    held,
    misconfigured_for,
    read,
    trouble,
    unavailable,
)


@pytest.mark.parametrize(
    ("failure_class", "retry_s", "expected"),
    [
        (U, None, reauth_required("It broke")),
        (O, 900.0, misconfigured_for(900.0)),
        (O, None, misconfigured_for(1.0)),
        (T, 2.04, unavailable(2.1)),
        (A, 2.0, unavailable(2.0)),
        (A, -5.0, unavailable(1.0)),
    ],
)
def test_a_failed_refresh_is_answered_by_its_class(
    failure_class: FailureClass, retry_s: float | None, expected: Failure
) -> None:
    assert failure_of(held(trouble=trouble(failure_class, retry_s)), NOW) == expected


@pytest.mark.parametrize("failure_class", [O, T, A])
def test_while_a_failure_is_waited_out_it_is_said_of_when_it_is(failure_class: FailureClass):
    failed = replace(trouble(failure_class, 60.0), at=after(-120))

    reading = read(held(-1, trouble=failed))

    assert isinstance(reading, Failure)
    assert (reading.message, reading.retry_after_s) == ("It broke", 60.0)
    at = instant(after(-120))
    assert reading.detail == f"so it was at {at}, and the provider was not asked again since"


@pytest.mark.parametrize("told_s", [None, 50.0, 8 * DAY_S])
def test_a_grant_ends_by_whichever_word_is_the_earlier(told_s: float | None) -> None:
    told_at = None if told_s is None else after(told_s)
    connection = held(grant_expires_at=told_at, granted_at=after(-DAY_S))

    assert grant_ends_at(connection, WEEK) == after(50 if told_s == 50 else 6 * DAY_S)
    assert grant_ends_at(connection, PLAIN) == told_at
    assert grant_ends_at(replace(connection, granted_at=None), WEEK) == told_at
