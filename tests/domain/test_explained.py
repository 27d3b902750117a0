"""Beside the seed's message an answer says what is the matter in this very case."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from domain.commands import ChangeStatus, Command, Connect, GetToken, MarkSynced, Refresh
from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.decision import decide
from domain.profile import NO_REUSE, FailureClass, ProviderProfile
from domain.result import Failure
from domain.token_read import TOO_LONG_ASKED, Serve, read_token
from tests.domain.shapes import ABOUT, CONNECTION_ID, NOW, SLUG, sealed, stored
from tests.fakes.world import CountingIds

PLAIN = ProviderProfile(slug=SLUG, reuse_policy=NO_REUSE)
BROKEN = Trouble(
    failure_class=FailureClass.TRANSIENT,
    code="server_error",
    reason="It broke",
    at=NOW,
    retry_at=NOW + timedelta(seconds=10),
)

SHORT = replace(BROKEN, retry_at=NOW + timedelta(seconds=0.4))


def held(left_s: float, age_s: float = 600, **changes: Any) -> ProviderConnection:
    credentials = replace(
        sealed(expires_at=NOW + timedelta(seconds=left_s)), issued_at=NOW - timedelta(seconds=age_s)
    )
    return replace(stored(ConnectionStatus.ACTIVE), credentials=credentials, **changes)


@pytest.mark.parametrize("status", [s for s in ConnectionStatus if s != "active"])
def test_what_only_an_active_connection_allows_names_the_status(status: ConnectionStatus):
    connection = stored(status)
    commands = (
        MarkSynced(connection_id=CONNECTION_ID),
        Refresh(connection_id=CONNECTION_ID, credentials=sealed()),
        ChangeStatus(connection_id=CONNECTION_ID, to_status=ConnectionStatus.EXPIRED),
    )
    ask = GetToken(connection_id=CONNECTION_ID)
    replies = [decide(connection, one, now=NOW, ids=CountingIds()).reply for one in commands]

    for reply in (*replies, read_token(connection, ask, PLAIN, presented=True, now=NOW)):
        assert isinstance(reply, Failure)
        assert reply.detail == f"the connection is {status}"


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        (
            Connect(credentials=None, unusable="access_token is empty", **ABOUT),
            "access_token is empty",
        ),
        (Connect(credentials=None, pending=True, **ABOUT), "the connection is there already"),
        (Refresh(connection_id=CONNECTION_ID, credentials=None, unusable="no text"), "no text"),
        (Refresh(connection_id=CONNECTION_ID, credentials=None), None),
    ],
)
def test_credentials_that_cannot_be_used_are_told_what_is_wrong_with_them(
    command: Command, detail: str | None
):
    connection = stored(ConnectionStatus.ACTIVE)

    reply = decide(connection, command, now=NOW, ids=CountingIds()).reply

    assert isinstance(reply, Failure)
    assert (reply.code, reply.detail) == ("INVALID_CREDENTIALS", detail)


@pytest.mark.parametrize(
    ("connection", "ask", "presented", "said"),
    [
        (held(2900), {"min_ttl_s": 99999.0}, True, "min_ttl_s asks for more than half"),
        (held(0.2, age_s=0.5), {}, True, "the last refresh was too short a time"),
        (held(2900), {"force": True}, False, "there is no refresh token"),
        (held(2900, grant_expires_at=NOW), {"force": True}, True, "reached its end"),
        (held(2900, trouble=BROKEN), {"force": True}, True, "It broke; not for 10 s"),
        (held(2900, trouble=SHORT), {"force": True}, True, "It broke; not for 1 s"),
        (held(2900, doubted_at=NOW), {"force": True}, True, "may be spent; not for 2870 s"),
        (held(1e9, doubted_at=NOW), {"force": True}, True, "may be spent; not for 31622400 s"),
    ],
)
def test_a_stale_token_says_why_the_provider_was_not_asked(
    connection: ProviderConnection, ask: dict[str, Any], presented: bool, said: str
):
    wish = GetToken(connection_id=CONNECTION_ID, **ask)

    reading = read_token(connection, wish, PLAIN, presented=presented, now=NOW)

    assert isinstance(reading, Serve)
    assert reading.stale
    assert reading.why is not None
    assert reading.why.startswith("The provider was not asked")
    assert said in reading.why


@pytest.mark.parametrize(
    ("changes", "presented", "said"),
    [
        ({}, False, "there is no refresh token"),
        ({"grant_expires_at": NOW, "doubted_at": NOW}, True, "the grant has reached its end"),
    ],
)
def test_a_rejected_token_that_nothing_can_replace_says_why_the_provider_was_not_asked(
    changes: dict[str, Any], presented: bool, said: str
):
    connection = held(2900, **changes)
    wish = GetToken(connection_id=CONNECTION_ID, if_generation=connection.generation)

    reading = read_token(connection, wish, PLAIN, presented=presented, now=NOW)

    assert isinstance(reading, Failure)
    assert reading.detail == f"The provider was not asked: {said}"


def test_more_than_the_provider_allows_is_said_to_be_asked_for():
    profile = replace(PLAIN, max_lead_s=30.0)
    wish = GetToken(connection_id=CONNECTION_ID)

    assert read_token(held(31), wish, profile, presented=True, now=NOW) == Serve(
        stale=True, why=TOO_LONG_ASKED
    )


def test_a_token_that_lives_long_enough_needs_no_words():
    wish = GetToken(connection_id=CONNECTION_ID)

    assert read_token(held(61), wish, PLAIN, presented=True, now=NOW) == Serve(stale=False)
