"""Each command, in each state, comes to exactly the outcome that DESIGN.md section 2 names."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from domain.commands import ChangeStatus, Command, Connect, Disconnect, Get, MarkSynced, Refresh
from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import CredentialType, Secret, Unsealed
from domain.decision import ConnectionRef, decide, store_failed
from domain.events import Event
from domain.profile import RefreshMode
from domain.result import Failure, Success
from tests.domain.shapes import (
    CONNECTION_ID,
    CREATED_AT,
    NOW,
    OTHER_PROVIDER_ID,
    OTHER_USER_ID,
    PROVIDER_ID,
    SLUG,
    USER_ID,
    sealed,
    stored,
)
from tests.fakes.world import CountingIds

NEW = sealed("new")


def connect(**changes: object) -> Connect:
    """Return a connect by the owner, with ``changes``."""
    fields: dict[str, object] = {
        "connection_id": CONNECTION_ID,
        "user_id": USER_ID,
        "provider_id": PROVIDER_ID,
        "provider_slug": SLUG,
        "credentials": NEW,
    }
    return Connect(**(fields | changes))  # pyright: ignore[reportArgumentType] -- test shorthand


def change(to_status: str) -> ChangeStatus:
    """Return the command that sets ``to_status``."""
    return ChangeStatus(
        connection_id=CONNECTION_ID, to_status=ConnectionStatus(to_status), reason="because"
    )


COMMANDS: dict[str, Command] = {
    "connect": connect(),
    "connect, pending": connect(credentials=None, pending=True),
    "connect, no credentials": connect(credentials=None),
    "connect, another user": connect(user_id=OTHER_USER_ID),
    "connect, another provider": connect(provider_id=OTHER_PROVIDER_ID),
    "connect, another slug": connect(provider_slug="google"),
    "refresh": Refresh(connection_id=CONNECTION_ID, credentials=NEW),
    "refresh, no credentials": Refresh(connection_id=CONNECTION_ID, credentials=None),
    "expire": change("expired"),
    "revoke": change("revoked"),
    "fail": change("failed"),
    "synced": MarkSynced(connection_id=CONNECTION_ID),
    "disconnect": Disconnect(connection_id=CONNECTION_ID, user_id=USER_ID),
    "disconnect, another user": Disconnect(connection_id=CONNECTION_ID, user_id=OTHER_USER_ID),
    "get": Get(connection_id=CONNECTION_ID),
}

REFUSALS: dict[str, tuple[str, str, bool | None]] = {
    "absent": ("CONNECTION_NOT_FOUND", "Connection not found", None),
    "absent!": ("CONNECTION_NOT_FOUND", "Connection not found", False),
    "empty!": ("INVALID_CREDENTIALS", "Invalid or missing credentials", False),
    "idle": ("NOT_ACTIVE", "Connection is not active", None),
    "idle!": ("NOT_ACTIVE", "Connection is not active", True),
    "owner": ("NOT_OWNED_BY_USER", "Connection not owned by user", None),
    "no-act": ("INVALID_TRANSITION", "Cannot transition to ACTIVE from current state", None),
    "no-exp": ("INVALID_TRANSITION", "Cannot transition to EXPIRED, must be ACTIVE", None),
    "no-rev": ("INVALID_TRANSITION", "Cannot transition to REVOKED, must be ACTIVE", None),
    "no-fai": ("INVALID_TRANSITION", "Cannot transition to FAILED, must be PENDING", None),
    "id": (
        "INVALID_COMMAND",
        "provider_id is not the one that the connection is stored with",
        None,
    ),
    "slug": (
        "INVALID_COMMAND",
        "provider_slug is not the one that the connection is stored with",
        None,
    ),
}
"""Code, message and needs_user_action by the words of the table below."""

# A cell is the status after the command, "-" for nothing stored, or a refusal.
TABLE = """
command                   | nothing | pending | active  | expired | revoked | failed  | disconnected
connect                   | active  | active  | no-act  | active  | active  | active  | no-act
connect, pending          | pending | empty!  | empty!  | empty!  | empty!  | empty!  | empty!
connect, no credentials   | empty!  | empty!  | empty!  | empty!  | empty!  | empty!  | empty!
connect, another user     | active  | owner   | no-act  | owner   | owner   | owner   | no-act
connect, another provider | active  | id      | no-act  | id      | id      | id      | no-act
connect, another slug     | active  | slug    | no-act  | slug    | slug    | slug    | no-act
refresh                   | absent! | idle!   | active  | idle!   | idle!   | idle!   | idle!
refresh, no credentials   | absent! | empty!  | empty!  | empty!  | empty!  | empty!  | empty!
expire                    | absent  | no-exp  | expired | no-exp  | no-exp  | no-exp  | no-exp
revoke                    | absent  | no-rev  | revoked | no-rev  | no-rev  | no-rev  | no-rev
fail                      | absent  | failed  | no-fai  | no-fai  | no-fai  | no-fai  | no-fai
synced                    | absent  | idle    | active  | idle    | idle    | idle    | idle
disconnect                | absent  | disconnected | disconnected | disconnected | disconnected | disconnected | disconnected
disconnect, another user  | absent  | owner   | owner   | owner   | owner   | owner   | owner
get                       | absent  | pending | active  | expired | revoked | failed  | disconnected
"""


def cells() -> list[tuple[str, str, str]]:
    """Return (command, state, outcome) of each cell of the table."""
    header, *rows = ([cell.strip() for cell in line.split("|")] for line in TABLE.split("\n")[1:-1])
    return [
        (row[0], state, outcome)
        for row in rows
        for state, outcome in zip(header[1:], row[1:], strict=True)
    ]


def connection_in(state: str) -> ProviderConnection | None:
    """Return what is stored in ``state``."""
    return None if state == "nothing" else stored(ConnectionStatus(state))


def names_of(events: tuple[Event, ...]) -> list[str]:
    """Return the types of ``events``, in order."""
    return [type(event).__name__ for event in events]


def whose(events: tuple[Event, ...]) -> set[tuple[UUID, UUID, str]]:
    """Return the users, providers and slugs that ``events`` name."""
    return {(event.user_id, event.provider_id, event.provider_slug) for event in events}


def story_of(name: str, outcome: str) -> list[str]:
    """Return the types of the events of command ``name`` that ends with ``outcome``."""
    stories = {
        "connect": "ProviderConnection",
        "refresh": "ProviderTokenRefresh",
        "disconnect": "ProviderDisconnection",
    }
    verb = name.split(",", maxsplit=1)[0]
    if verb in stories:
        return [f"{stories[verb]}Attempted", f"{stories[verb]}{outcome}"]
    if verb in ("expire", "revoke", "fail") and outcome == "Succeeded":
        return ["ProviderConnectionStatusChanged"]
    return []


def test_the_table_has_a_row_for_every_command_and_a_column_for_every_state() -> None:
    states = {"nothing", *ConnectionStatus}

    assert {(name, state) for name, state, _ in cells()} == {
        (name, state) for name in COMMANDS for state in states
    }


@pytest.mark.parametrize(("name", "state", "outcome"), cells())
def test_every_command_in_every_state(name: str, state: str, outcome: str) -> None:
    before = connection_in(state)

    decision = decide(before, COMMANDS[name], now=NOW, ids=CountingIds())

    if outcome in REFUSALS:
        code, message, needs_user_action = REFUSALS[outcome]
        assert isinstance(decision.reply, Failure)
        assert decision.reply.code == code
        assert decision.reply.message == message
        assert decision.reply.needs_user_action is needs_user_action
        assert decision.reply.retry_after_s is None
        assert decision.connection is before
        assert names_of(decision.events) == story_of(name, "Failed")
        for event in decision.events[1:]:
            assert getattr(event, "reason", None) == message
            if name.startswith("refresh"):
                assert getattr(event, "needs_user_action", None) is bool(needs_user_action)
    else:
        assert isinstance(decision.reply, Success)
        assert decision.connection is not None
        assert decision.connection.status == outcome
        assert names_of(decision.events) == story_of(name, "Succeeded")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connect", ConnectionRef(CONNECTION_ID)),
        ("connect, pending", ConnectionRef(CONNECTION_ID)),
        ("refresh", None),
        ("expire", None),
        ("revoke", None),
        ("fail", None),
        ("synced", None),
        ("disconnect", None),
        ("get", stored(ConnectionStatus.ACTIVE)),
    ],
)
def test_the_reply_is_the_value_of_the_command_table(name: str, value: object) -> None:
    state = {"connect": "nothing", "connect, pending": "nothing", "fail": "pending"}
    before = connection_in(state.get(name, "active"))

    decision = decide(before, COMMANDS[name], now=NOW, ids=CountingIds())

    assert decision.reply == Success(value)


@pytest.mark.parametrize(("name", "at"), [("connect", NOW), ("connect, pending", None)])
def test_a_grant_begins_with_its_first_credentials(name: str, at: datetime | None) -> None:
    after = decide(None, COMMANDS[name], now=NOW, ids=CountingIds()).connection

    assert after is not None
    assert (after.connected_at, after.granted_at) == (at, at)
    assert (after.created_at, after.updated_at) == (NOW, NOW)


@pytest.mark.parametrize("status", [None, ConnectionStatus.EXPIRED])
def test_a_grant_that_was_given_before_keeps_its_times(status: ConnectionStatus | None) -> None:
    before = None if status is None else stored(status)
    week = timedelta(days=7)
    command = connect(granted_at=NOW - week, grant_expires_at=NOW + week)
    tomorrow = connect(granted_at=NOW + week)

    after = decide(before, command, now=NOW, ids=CountingIds()).connection
    at_most_now = decide(before, tomorrow, now=NOW, ids=CountingIds()).connection

    assert after is not None
    assert (after.granted_at, after.grant_expires_at) == (NOW - week, NOW + week)
    assert at_most_now is not None
    assert (at_most_now.granted_at, at_most_now.grant_expires_at) == (NOW, None)


def test_what_a_caller_is_to_be_warned_of_stands_in_the_reply() -> None:
    decision = decide(None, connect(warnings=("careful",)), now=NOW, ids=CountingIds())

    assert decision.reply == Success(ConnectionRef(CONNECTION_ID, ("careful",)))


@pytest.mark.parametrize("name", ["refresh", "refresh, no credentials", "disconnect"])
def test_an_unknown_connection_stands_in_for_its_user_and_provider(name: str) -> None:
    decision = decide(None, COMMANDS[name], now=NOW, ids=CountingIds())

    assert len(decision.events) == 2
    for event in decision.events:
        assert event.user_id == event.provider_id == event.connection_id == CONNECTION_ID
        assert event.provider_slug == "unknown"


def test_a_refused_connect_to_nothing_tells_who_asked() -> None:
    command = COMMANDS["connect, no credentials"]

    decision = decide(None, command, now=NOW, ids=CountingIds())

    assert names_of(decision.events) == story_of("connect", "Failed")
    assert whose(decision.events) == {(USER_ID, PROVIDER_ID, SLUG)}


def test_a_stranger_who_connects_is_told_nothing_of_and_changes_nothing_in_the_events() -> None:
    before = stored(ConnectionStatus.EXPIRED)
    command = connect(user_id=OTHER_USER_ID, provider_id=OTHER_PROVIDER_ID, provider_slug="google")

    decision = decide(before, command, now=NOW, ids=CountingIds())

    assert names_of(decision.events) == story_of("connect", "Failed")
    assert whose(decision.events) == {(USER_ID, PROVIDER_ID, SLUG)}


@pytest.mark.parametrize("name", ["expire", "revoke"])
def test_credentials_are_kept_for_audit(name: str) -> None:
    before = stored(ConnectionStatus.ACTIVE)

    after = decide(before, COMMANDS[name], now=NOW, ids=CountingIds()).connection

    assert after is not None
    assert after.credentials == before.credentials
    assert after.generation == before.generation
    assert after.updated_at == NOW


def test_a_repeated_disconnect_succeeds_and_changes_nothing() -> None:
    before = stored(ConnectionStatus.DISCONNECTED)

    decision = decide(before, COMMANDS["disconnect"], now=NOW, ids=CountingIds())

    assert decision.connection is before
    assert names_of(decision.events) == story_of("disconnect", "Succeeded")


@pytest.mark.parametrize("given", [True, False])
def test_a_reconnect_changes_alias_params_and_refresh_only_when_given(*, given: bool) -> None:
    before = replace(stored(ConnectionStatus.REVOKED), refresh=RefreshMode.PROACTIVE)
    alias, params = ("yours", {"subdomain": "other"}) if given else (None, None)
    refresh = RefreshMode.ON_DEMAND if given else None
    command = connect(alias=alias, params=params, refresh=refresh)

    after = decide(before, command, now=NOW, ids=CountingIds()).connection

    assert after is not None
    assert after.alias == (alias or before.alias)
    assert after.params == (params or before.params)
    assert after.refresh == (refresh or before.refresh)
    assert after.credentials == NEW
    assert after.connected_at == before.connected_at


@pytest.mark.parametrize("name", ["refresh", "expire", "revoke", "synced", "disconnect"])
def test_every_change_is_dated_and_a_clock_set_back_does_not_take_updated_at_with_it(
    name: str,
) -> None:
    before = stored(ConnectionStatus.ACTIVE)
    earlier = CREATED_AT - timedelta(days=1)
    for now, updated_at in ((NOW, NOW), (earlier, before.updated_at)):
        after = decide(before, COMMANDS[name], now=now, ids=CountingIds()).connection

        assert after is not None
        assert after.updated_at == updated_at


@pytest.mark.parametrize("state", ["nothing", "active"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_store_that_fails_is_told_with_its_cause_and_its_events(name: str, state: str) -> None:
    before, command = connection_in(state), COMMANDS[name]
    known = before or (command if isinstance(command, Connect) else None)
    unknown = (CONNECTION_ID, CONNECTION_ID, "unknown")

    decision = store_failed(before, command, cause="no quorum", now=NOW, ids=CountingIds())

    assert isinstance(decision.reply, Failure)
    assert decision.reply.code == "DATABASE_ERROR"
    assert decision.reply.message == "Database error occurred: no quorum"
    assert decision.reply.needs_user_action is False
    assert decision.reply.retry_after_s == 1.0
    assert decision.connection is before
    assert names_of(decision.events) == story_of(name, "Failed")
    assert whose(decision.events) <= {
        (known.user_id, known.provider_id, known.provider_slug) if known else unknown
    }
    assert {event.occurred_at for event in decision.events} <= {NOW}
    for event in decision.events[1:]:
        assert getattr(event, "reason", None) == "Database error occurred: no quorum"
        assert getattr(event, "needs_user_action", False) is False


def test_plaintext_never_gets_as_far_as_a_decision() -> None:
    unsealed = Unsealed(credential_type=CredentialType.OAUTH2, secret=Secret(b"{}"))
    for command in (
        connect(credentials=unsealed),
        Refresh(connection_id=CONNECTION_ID, credentials=unsealed),
    ):
        for before in (None, stored(ConnectionStatus.EXPIRED), stored(ConnectionStatus.ACTIVE)):
            if before is None and isinstance(command, Refresh):
                continue
            with pytest.raises(AssertionError):
                decide(before, command, now=NOW, ids=CountingIds())


def test_a_command_for_another_connection_is_a_bug() -> None:
    command = Get(connection_id=UUID(int=1))

    with pytest.raises(AssertionError):
        decide(stored(ConnectionStatus.ACTIVE), command, now=NOW, ids=CountingIds())
