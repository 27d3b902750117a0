"""What is known of a grant goes with it: its intent, its trouble, its doubts and its end."""

import pytest
from msgspec.structs import replace

from domain.commands import ChangeStatus, Command, Connect, Disconnect, Refresh
from domain.connection import ConnectionStatus, Ended, ProviderConnection, Trouble
from domain.decision import decide
from domain.profile import FailureClass
from tests.domain.shapes import ABOUT, BEGUN_AT, CONNECTION_ID, FLYING, NOW, USER_ID, sealed, stored
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


def test_new_credentials_are_kept_as_the_next_generation() -> None:
    refreshed = after(STORIED, Refresh(connection_id=CONNECTION_ID, credentials=sealed("new")))
    connected = after(EXPIRED, Connect(credentials=sealed("new"), **ABOUT))

    for left, before in ((refreshed, STORIED), (connected, EXPIRED)):
        assert left.credentials == sealed("new")
        assert left.generation == before.generation + 1
        assert left.granted_at == NOW
        assert left.connected_at == before.connected_at != NOW


@pytest.mark.parametrize("status", [ConnectionStatus.PENDING, ConnectionStatus.FAILED])
def test_a_connection_is_connected_from_its_first_credentials_on(status: ConnectionStatus) -> None:
    left = after(stored(status), Connect(credentials=sealed("new"), **ABOUT))

    assert (left.connected_at, left.generation) == (NOW, 1)


@pytest.mark.parametrize("status", [ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED])
def test_a_status_that_is_set_ends_the_attempt_and_keeps_the_rest(status: ConnectionStatus) -> None:
    left = after(STORIED, ChangeStatus(connection_id=CONNECTION_ID, to_status=status))

    assert left == replace(STORIED, status=status, intent=None, updated_at=NOW, ended=Ended(at=NOW))
