"""What a command says of a connection's end is stored with it, and gone with new credentials."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain.commands import ChangeStatus, Connect, Disconnect
from domain.connection import ConnectionStatus, Ended, ProviderConnection, Trouble
from domain.decision import decide
from domain.ending import ending, is_by_provider
from domain.explanation import explained
from domain.profile import FailureClass
from domain.result import Success
from tests.domain.shapes import CONNECTION_ID, NOW, PROVIDER_ID, SLUG, USER_ID, sealed, stored
from tests.fakes.world import CountingIds

WHY = "their user asked us to"
MOVES = [
    (ConnectionStatus.ACTIVE, ConnectionStatus.EXPIRED),
    (ConnectionStatus.ACTIVE, ConnectionStatus.REVOKED),
    (ConnectionStatus.PENDING, ConnectionStatus.FAILED),
]


def after(connection: ProviderConnection, command: Any) -> ProviderConnection:
    decision = decide(connection, command, now=NOW, ids=CountingIds())
    assert isinstance(decision.reply, Success)
    assert decision.connection is not None
    return decision.connection


@pytest.mark.parametrize(("before", "status"), MOVES)
def test_the_time_and_the_reason_of_an_end_are_kept_until_there_are_new_credentials(
    before: ConnectionStatus, status: ConnectionStatus
) -> None:
    command = ChangeStatus(connection_id=CONNECTION_ID, to_status=status, reason=WHY)

    ended = after(stored(before), command)
    again = after(
        ended,
        Connect(
            connection_id=CONNECTION_ID,
            user_id=USER_ID,
            provider_id=PROVIDER_ID,
            provider_slug=SLUG,
            credentials=sealed("new"),
        ),
    )

    assert ending(ended) == Ended(at=NOW, reason=WHY)
    assert again.ended is None
    assert ending(again) is None


def test_a_disconnect_is_an_end_of_its_own_and_the_first_one_counts() -> None:
    command = Disconnect(connection_id=CONNECTION_ID, user_id=USER_ID)
    revoked = Ended(at=NOW - timedelta(days=1), reason=WHY)
    before = msgspec.structs.replace(stored(ConnectionStatus.REVOKED), ended=revoked)

    ended = after(before, command)

    assert ending(ended) == Ended(at=NOW)
    assert after(ended, command) is ended


@pytest.mark.parametrize("failure_class", FailureClass)
def test_only_a_grant_that_its_provider_refused_has_ended_by_its_last_failure(
    failure_class: FailureClass,
) -> None:
    why = Trouble(failure_class=failure_class, code="c", reason="It is over", at=NOW)
    expired = msgspec.structs.replace(stored(ConnectionStatus.EXPIRED), trouble=why)
    is_refused = failure_class is FailureClass.USER

    assert is_by_provider(expired) is is_refused
    assert ending(expired) == (
        Ended(at=NOW, reason="It is over") if is_refused else Ended(at=expired.updated_at)
    )
    by_command = msgspec.structs.replace(expired, ended=Ended(at=NOW, reason=WHY))
    assert ending(by_command) == Ended(at=NOW, reason=WHY)
    assert not is_by_provider(by_command)


ENDED_WORDS = {
    ConnectionStatus.EXPIRED: "it was marked as expired",
    ConnectionStatus.REVOKED: "it was revoked",
    ConnectionStatus.FAILED: "it was marked as failed",
    ConnectionStatus.DISCONNECTED: "its owner disconnected it",
}


@pytest.mark.parametrize(("status", "words"), ENDED_WORDS.items())
def test_what_a_command_has_ended_says_when_and_why_whatever_failed_before(
    status: ConnectionStatus, words: str
):
    ended = Ended(at=NOW - timedelta(minutes=1), reason="their user asked us to")
    failed = Trouble(
        failure_class=FailureClass.TRANSIENT,
        code="a_code",
        reason="The reason",
        at=NOW - timedelta(minutes=2),
    )

    connection = msgspec.structs.replace(stored(status), ended=ended, trouble=failed)

    assert explained(connection, None, None, now=NOW).because == (
        f"{words} 2026-03-01T12:59:00Z (60 s ago): their user asked us to",
        "before that the last refresh failed 2026-03-01T12:58:00Z (2 min ago): The reason (a_code)",
    )


@pytest.mark.parametrize(("status", "words"), ENDED_WORDS.items())
def test_of_what_an_earlier_versions_command_has_ended_the_last_change_is_the_end(
    status: ConnectionStatus, words: str
):
    [why] = explained(stored(status), None, None, now=NOW).because

    is_told = status is not ConnectionStatus.DISCONNECTED
    assert why == f"{words} 2026-03-01T12:00:00Z (60 min ago)" + ", and no reason is kept" * is_told
