"""Whatever is asked of a connection, in whatever order and by whatever clock, its laws hold.

The model is a dictionary that knows the transition table of DESIGN.md section 2 and shares
no code with the domain.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.commands import ChangeStatus, Command, Connect, Disconnect, Get, MarkSynced, Refresh
from domain.connection import ConnectionStatus, ProviderConnection, broken_invariant
from domain.credentials import Credentials
from domain.decision import ConnectionRef, decide
from domain.events import Event
from domain.profile import RefreshMode
from domain.result import Failure, Success
from tests.domain.shapes import (
    CONNECTION_ID,
    OTHER_PROVIDER_ID,
    OTHER_USER_ID,
    PROVIDER_ID,
    SLUG,
    USER_ID,
    sealed,
)
from tests.fakes.examples import examples
from tests.fakes.world import EPOCH, CountingIds

NOT_FOUND = ("CONNECTION_NOT_FOUND", "Connection not found")
NO_CREDENTIALS = ("INVALID_CREDENTIALS", "Invalid or missing credentials")
NOT_ACTIVE = ("NOT_ACTIVE", "Connection is not active")
NOT_OWNED = ("NOT_OWNED_BY_USER", "Connection not owned by user")
NOT_CONNECTABLE = ("INVALID_TRANSITION", "Cannot transition to ACTIVE from current state")
OTHER_PROVIDER = (
    "INVALID_COMMAND",
    "provider_id is not the one that the connection is stored with",
)
OTHER_SLUG = ("INVALID_COMMAND", "provider_slug is not the one that the connection is stored with")
STORIES = {
    "Connect": "ProviderConnection",
    "Disconnect": "ProviderDisconnection",
    "Refresh": "ProviderTokenRefresh",
}
STATUS_MOVES = {"expired": "active", "revoked": "active", "failed": "pending"}

Refusal = tuple[str, str] | None
FLAWS = ["user", "provider", "slug", "credentials"]
mostly_true = st.sampled_from([True, True, True, True, False])
aliases = st.none() | st.sampled_from(["home", "work"])


class ConnectionLife(RuleBasedStateMachine):
    """One connection, its owner, a stranger, and a clock that may be set back."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: ProviderConnection | None = None
        self.model: dict[str, Any] | None = None
        self.now = EPOCH
        self.ids = CountingIds()
        self.event_ids: set[UUID] = set()
        self.credentials_given = 0
        self.credentials_stored = 0
        self.first_connected_at: datetime | None = None
        self.last_updated_at: datetime | None = None
        self.has_ended = False

    @rule(by_s=st.integers(-100_000, 100_000))
    def clock_is_set(self, by_s: int) -> None:
        self.now += timedelta(seconds=by_s)

    @rule(alias=aliases, flaw=st.sampled_from([None, None, None, None, *FLAWS]))
    def user_connects(self, alias: str | None, flaw: str | None) -> None:
        command = Connect(
            connection_id=CONNECTION_ID,
            user_id=OTHER_USER_ID if flaw == "user" else USER_ID,
            provider_id=OTHER_PROVIDER_ID if flaw == "provider" else PROVIDER_ID,
            provider_slug="google" if flaw == "slug" else SLUG,
            credentials=None if flaw == "credentials" else self._new_credentials(),
            alias=alias,
            params={"alias": alias} if alias else None,
            refresh=RefreshMode.ON_DEMAND if alias else None,
        )
        refusal: Refusal = None
        if flaw == "credentials":
            refusal = NO_CREDENTIALS
        elif self.model is not None and self.model["status"] in ("active", "disconnected"):
            refusal = NOT_CONNECTABLE
        elif self.model is not None:
            refusal = self._stranger(command)
        self._ask(command, refusal)

    @rule(alias=aliases)
    def user_begins_to_connect(self, alias: str | None) -> None:
        command = Connect(
            connection_id=CONNECTION_ID,
            user_id=USER_ID,
            provider_id=PROVIDER_ID,
            provider_slug=SLUG,
            credentials=None,
            alias=alias,
            pending=True,
        )
        self._ask(command, None if self.model is None else NO_CREDENTIALS)

    @rule(gives_credentials=mostly_true)
    def caller_refreshes(self, *, gives_credentials: bool) -> None:
        credentials = self._new_credentials() if gives_credentials else None
        refusal = NOT_FOUND if self.model is None else None
        if refusal is None and not gives_credentials:
            refusal = NO_CREDENTIALS
        self._ask(
            Refresh(connection_id=CONNECTION_ID, credentials=credentials),
            refusal or self._unless_active(),
        )

    @rule(to_status=st.sampled_from(sorted(STATUS_MOVES)), reason=st.none() | st.just("why"))
    def operator_sets_status(self, to_status: str, reason: str | None) -> None:
        refusal: Refusal = None
        if self.model is None:
            refusal = NOT_FOUND
        elif self.model["status"] != STATUS_MOVES[to_status]:
            words = to_status.upper(), STATUS_MOVES[to_status].upper()
            refusal = ("INVALID_TRANSITION", "Cannot transition to {}, must be {}".format(*words))
        command = ChangeStatus(
            connection_id=CONNECTION_ID, to_status=ConnectionStatus(to_status), reason=reason
        )
        self._ask(command, refusal)

    @rule()
    def caller_syncs(self) -> None:
        self._ask(MarkSynced(connection_id=CONNECTION_ID), self._unless_active())

    @rule(is_owner=st.sampled_from([False] * 5 + [True]))
    def user_disconnects(self, *, is_owner: bool) -> None:
        user_id = USER_ID if is_owner else OTHER_USER_ID
        refusal = NOT_FOUND if self.model is None else None
        if self.model is not None and user_id != self.model["user_id"]:
            refusal = NOT_OWNED
        self._ask(Disconnect(connection_id=CONNECTION_ID, user_id=user_id), refusal)

    @rule()
    def caller_gets(self) -> None:
        self._ask(Get(connection_id=CONNECTION_ID), None if self.model else NOT_FOUND)

    @invariant()
    def the_connection_is_what_the_model_says(self) -> None:
        if self.model is None:
            assert self.connection is None
            return
        for field, value in self.model.items():
            assert getattr(self.connection, field) == value, field

    @invariant()
    def active_has_credentials_and_disconnected_has_none(self) -> None:
        if self.connection is not None:
            if self.connection.status == "active":
                assert self.connection.credentials is not None
            if self.connection.status == "disconnected":
                assert self.connection.credentials is None
            assert broken_invariant(self.connection) is None

    @invariant()
    def nothing_leaves_disconnected(self) -> None:
        if self.has_ended:
            assert self.connection is not None
            assert self.connection.status == "disconnected"

    @invariant()
    def updated_at_never_goes_back(self) -> None:
        if self.connection is not None:
            if self.last_updated_at is not None:
                assert self.connection.updated_at >= self.last_updated_at
            self.last_updated_at = self.connection.updated_at

    @invariant()
    def generation_is_the_number_of_credentials_ever_stored(self) -> None:
        if self.connection is not None:
            assert self.connection.generation == self.credentials_stored

    @invariant()
    def connected_at_is_set_once(self) -> None:
        if self.first_connected_at is not None:
            assert self.connection is not None
            assert self.connection.connected_at == self.first_connected_at
        elif self.connection is not None:
            self.first_connected_at = self.connection.connected_at

    @invariant()
    def times_are_aware_utc(self) -> None:
        if self.connection is not None:
            for field in ("created_at", "updated_at", "connected_at", "last_sync_at"):
                time = getattr(self.connection, field)
                assert time is None or time.tzinfo is UTC

    def _new_credentials(self) -> Credentials:
        self.credentials_given += 1
        return sealed(f"pair {self.credentials_given}")

    def _stranger(self, command: Connect) -> Refusal:
        assert self.model is not None
        if command.user_id != self.model["user_id"]:
            return NOT_OWNED
        if command.provider_id != self.model["provider_id"]:
            return OTHER_PROVIDER
        return None if command.provider_slug == self.model["provider_slug"] else OTHER_SLUG

    def _unless_active(self) -> Refusal:
        if self.model is None:
            return NOT_FOUND
        return None if self.model["status"] == "active" else NOT_ACTIVE

    def _ask(self, command: Command, refusal: Refusal) -> None:
        """Decide ``command``, hold the decision against ``refusal``, and move the model."""
        before, known = self.connection, self.model
        decision = decide(before, command, now=self.now, ids=self.ids)
        if refusal is not None:
            assert isinstance(decision.reply, Failure)
            assert (decision.reply.code, decision.reply.message) == refusal
            assert decision.connection is before
        else:
            self._follow(command)
            self.connection = decision.connection
            value: object = ConnectionRef(CONNECTION_ID) if isinstance(command, Connect) else None
            value = self.connection if isinstance(command, Get) else value
            assert decision.reply == Success(value)
        self._check_events(decision.events, command, known, refusal)

    def _follow(self, command: Command) -> None:
        """Apply what DESIGN.md says of a command that is not refused."""
        model = {} if self.model is None else dict(self.model)
        at = max(self.now, model.get("updated_at", self.now))
        match command:
            case Connect():
                status = "pending" if command.credentials is None else "active"
                model.setdefault("user_id", command.user_id)
                model.setdefault("provider_id", command.provider_id)
                model.setdefault("provider_slug", command.provider_slug)
                model.setdefault("created_at", at)
                model.setdefault("last_sync_at", None)
                model["status"], model["credentials"] = status, command.credentials
                for field in ("alias", "params", "refresh"):
                    model[field] = getattr(command, field) or model.get(field)
                first = at if status == "active" else None
                model["connected_at"] = model.get("connected_at") or first
                self.credentials_stored += status == "active"
            case Refresh():
                model["credentials"] = command.credentials
                self.credentials_stored += 1
            case ChangeStatus():
                model["status"] = command.to_status.value
            case MarkSynced():
                model["last_sync_at"] = at
            case Disconnect():
                at = model["updated_at"] if self.has_ended else at
                model |= {"status": "disconnected", "credentials": None}
                self.has_ended = True
            case Get():
                return
        self.model = model | {"id": CONNECTION_ID, "updated_at": at}

    def _check_events(
        self,
        events: tuple[Event, ...],
        command: Command,
        known: dict[str, Any] | None,
        refusal: Refusal,
    ) -> None:
        outcome = "Succeeded" if refusal is None else "Failed"
        names: list[str] = []
        if isinstance(command, Connect | Disconnect | Refresh):
            story = STORIES[type(command).__name__]
            names = [f"{story}Attempted", f"{story}{outcome}"]
        elif isinstance(command, ChangeStatus) and refusal is None:
            names = ["ProviderConnectionStatusChanged"]
        assert [type(event).__name__ for event in events] == names

        about = _whose(known, command)
        for event in events:
            assert event.id not in self.event_ids
            self.event_ids.add(event.id)
            assert event.occurred_at == self.now
            assert {field: getattr(event, field) for field in about} == about
        if names and refusal is not None:
            assert getattr(events[-1], "reason", None) == refusal[1]
        if isinstance(command, ChangeStatus) and refusal is None:
            assert known is not None
            assert getattr(events[0], "from_status", None) == known["status"]
            assert getattr(events[0], "to_status", None) == command.to_status != known["status"]
            assert getattr(events[0], "reason", "absent") == command.reason


def _whose(known: dict[str, Any] | None, command: Command) -> dict[str, object]:
    """Return the fields that all events of ``command`` share."""
    fields = ("user_id", "provider_id", "provider_slug")
    about: dict[str, object] = {"connection_id": CONNECTION_ID}
    if known is not None:
        return about | {field: known[field] for field in fields}
    if isinstance(command, Connect):
        return about | {field: getattr(command, field) for field in fields}
    return about | dict(zip(fields, (CONNECTION_ID, CONNECTION_ID, "unknown"), strict=True))


ConnectionLife.TestCase.settings = settings(max_examples=examples(200), stateful_step_count=40)
TestConnectionLife = ConnectionLife.TestCase
