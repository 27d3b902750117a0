"""What read as a case for the provider is looked at again before the provider is asked."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.profile import NO_REUSE, FailureClass, ProviderProfile
from domain.token_read import may_still_ask
from tests.domain.shapes import NOW, SLUG, sealed, stored

STRICT = ProviderProfile(slug=SLUG, reuse_policy=NO_REUSE, grant_lifetime_s=100.0)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def held(left_s: float = 31, **changes: Any) -> ProviderConnection:
    credentials = sealed(expires_at=after(left_s))
    return replace(stored(ConnectionStatus.ACTIVE), credentials=credentials, **changes)


PAUSED = Trouble(
    failure_class=FailureClass.TRANSIENT, code="c", reason="r", at=NOW, retry_at=after(1)
)


@pytest.mark.parametrize(
    ("connection", "was_rejected", "expected"),
    [
        (held(), False, True),
        (held(trouble=PAUSED), False, False),
        (held(trouble=PAUSED), True, False),
        (held(trouble=replace(PAUSED, retry_at=NOW)), False, True),
        (held(doubted_at=NOW), False, False),
        (held(doubted_at=NOW), True, True),
        (held(30, doubted_at=NOW), False, True),
        (held(granted_at=after(-100)), False, False),
        (held(granted_at=after(-99)), False, True),
        (held(grant_expires_at=NOW), True, True),
        (held(0, grant_expires_at=NOW), False, True),
        (held(grant_expires_at=NOW), False, False),
        (held(grant_expires_at=NOW, doubted_at=NOW), True, False),
        (held(trouble=PAUSED, grant_expires_at=NOW), False, False),
    ],
)
def test_a_pause_a_doubt_or_an_end_that_came_meanwhile_keeps_the_token_back(
    connection: ProviderConnection, was_rejected: bool, expected: bool
) -> None:
    assert may_still_ask(connection, STRICT, was_rejected=was_rejected, now=NOW) is expected
