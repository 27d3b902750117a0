"""What is known of a grant goes with it: its intent, its trouble, its doubts and its end."""

import pytest
from msgspec.structs import replace

from domain.commands import ChangeStatus, Command, Connect, Disconnect, Refresh
from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.decision import decide
from domain.profile import FailureClass
from tests.domain.shapes import ABOUT, BEGUN_AT, CONNECTION_ID, FLYING, NOW, USER_ID, sealed
from tests.fakes.world import CountingIds

TROUBLE = Trouble(failure_class=FailureClass.TRANSIENT, code="c", reason="r", at=BEGUN_AT)
STORIED = replace(FLYING, trouble=TROUBLE, doubted_at=BEGUN_AT)
EXPIRED = replace(STORIED, status=ConnectionStatus.EXPIRED, intent=None)


def after(before: ProviderConnection, command: Command) -> ProviderConnection:
    """Return the connection after a command that must succeed."""
    connection = decide(before, command, now=NOW, ids=CountingIds()).connection
    assert connection is not None
    assert connection.updated_at == NOW
    return connection


@pytest.mark.parametrize(
    ("before", "command"),
    [
        (STORIED, Refresh(connection_id=CONNECTION_ID, credentials=sealed("new"))),
        (EXPIRED, Connect(credentials=sealed("new"), **ABOUT)),
        (STORIED, Disconnect(connection_id=CONNECTION_ID, user_id=USER_ID)),
    ],
    ids=["refresh", "connect", "disconnect"],
)
def test_of_a_grant_that_was_replaced_or_given_up_nothing_is_left(
    before: ProviderConnection, command: Command
) -> None:
    left = after(before, command)

    assert (left.intent, left.trouble, left.doubted_at) == (None, None, None)
    assert (left.grant_expires_at, left.endpoint_base) == (None, None)


@pytest.mark.parametrize("status", [ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED])
def test_a_status_that_is_set_ends_the_attempt_and_keeps_the_rest(status: ConnectionStatus) -> None:
    left = after(STORIED, ChangeStatus(connection_id=CONNECTION_ID, to_status=status))

    assert left == replace(STORIED, status=status, intent=None, updated_at=NOW)
