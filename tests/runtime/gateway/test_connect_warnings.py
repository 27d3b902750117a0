"""A connect says what will not work later, and is not refused for it."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from domain.commands import Connect
from domain.decision import ConnectionRef, decide
from domain.profile import ProviderProfile
from domain.remembered import recalled, remembering
from domain.result import Success
from runtime.gateway.connect_warnings import with_warnings
from runtime.gateway.replies import reply_body
from runtime.gateway.wire import read_connect
from tests.domain.shapes import NOW, sealed
from tests.fakes.world import CountingIds

OPEN = {"credential_type": "oauth2", "secret": {"access_token": "a", "refresh_token": "r"}}
PROFILE = ProviderProfile(slug="schwab")
ENDS = {"expires_at": "2026-08-01T02:00:00+02:00"}
BARE = OPEN | {"secret": {"access_token": "a"}}
CANNOT_LAST = (
    "the secret has no refresh_token, so it ends and cannot be refreshed: ask schwab for offline "
    "access, and let the user sign in once more"
)
NO_PROFILE = "no profile is configured for provider schwab: its tokens will not be refreshed"


@dataclass(frozen=True)
class Case:
    credentials: dict[str, Any] | None
    has_profile: bool
    is_warned: bool


CASES = {
    "oauth2 without a profile": Case(OPEN, False, True),
    "link_token without a profile": Case(OPEN | {"credential_type": "link_token"}, False, True),
    "oauth2 with a profile": Case(OPEN, True, False),
    "an api key needs none": Case(OPEN | {"credential_type": "api_key"}, False, False),
    "sealed by the caller needs none": Case(
        {"credential_type": "oauth2", "encrypted_data": "AAEC"}, False, False
    ),
    "no credentials need none": Case(None, False, False),
}


def connect(credentials: dict[str, Any] | None) -> Connect:
    body = {
        "user_id": str(uuid4()),
        "provider_id": str(uuid4()),
        "provider_slug": "schwab",
        "credentials": credentials,
        "pending": credentials is None,
    }
    return read_connect(
        msgspec.json.encode(body), new_id=lambda _: uuid4(), credential_bytes_max=1000
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_slug_without_a_profile_is_told_where_its_tokens_would_be_refreshed(case: Case):
    command = with_warnings(
        connect(case.credentials), lambda _slug: PROFILE if case.has_profile else None
    )

    assert command.warnings == ((NO_PROFILE,) if case.is_warned else ())


@pytest.mark.parametrize(
    ("credentials", "presents", "is_warned"),
    [
        (BARE | ENDS, "refresh_token", True),
        (BARE | ENDS, "access_token", False),
        (OPEN | ENDS, "refresh_token", False),
        (BARE, "refresh_token", False),
        (BARE | ENDS | {"credential_type": "api_key"}, "refresh_token", False),
    ],
    ids=["ends", "is presented itself", "has one", "never ends", "no token"],
)
def test_what_will_end_and_cannot_be_refreshed_is_told(
    credentials: dict[str, Any], presents: str, *, is_warned: bool
):
    profile = msgspec.structs.replace(PROFILE, presents=presents)

    command = with_warnings(connect(credentials), lambda _slug: profile)

    assert command.warnings == ((CANNOT_LAST,) if is_warned else ())


def test_warnings_are_in_the_answer_and_in_a_repeats_answer_and_absent_where_there_are_none():
    command = msgspec.structs.replace(
        with_warnings(connect(OPEN), lambda _slug: None), credentials=sealed()
    )

    reply = decide(None, command, now=NOW, ids=CountingIds()).reply
    again = recalled(remembering((), b"id", reply), b"id")
    plain = reply_body(Success(ConnectionRef(command.connection_id)))

    assert msgspec.json.decode(reply_body(reply)) == {
        "ok": {"connection_id": str(command.connection_id), "warnings": [NO_PROFILE]}
    }
    assert again == reply
    assert msgspec.json.decode(plain) == {"ok": {"connection_id": str(command.connection_id)}}
