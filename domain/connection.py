r"""The provider connection: its fields, its state machine, its invariants.

The machine (seed, and DESIGN.md section 2)::

                       fail
      (nothing) --> PENDING -----> FAILED
          |            |             |
          | connect    | connect     | connect
          v            v             |
        ACTIVE <---------------------+
        |    ^ \\
        |    |  +--- refresh, synced (stay ACTIVE)
        |    | connect
        v    |
      EXPIRED, REVOKED            any --disconnect--> DISCONNECTED (terminal)

A transition is a method that returns a new connection or the refusal's text; who may ask
and what is published is decided in ``domain.decision``.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from domain.credentials import Credentials
from domain.profile import FailureClass, RefreshMode

SLUG_PATTERN = r"\A[a-z0-9_-]{1,50}\Z"
ALIAS_LENGTH_MAX = 100
UNKNOWN_SLUG = "unknown"
"""The slug in the events of a connection that is not stored."""


class ConnectionStatus(StrEnum):
    """Where a connection stands; the values are the wire's words."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    FAILED = "failed"
    DISCONNECTED = "disconnected"


CONNECTABLE = frozenset(
    {
        ConnectionStatus.PENDING,
        ConnectionStatus.EXPIRED,
        ConnectionStatus.REVOKED,
        ConnectionStatus.FAILED,
    }
)
"""The states from which new credentials make a stored connection ACTIVE."""

STATUS_CHANGES = {
    ConnectionStatus.EXPIRED: ConnectionStatus.ACTIVE,
    ConnectionStatus.REVOKED: ConnectionStatus.ACTIVE,
    ConnectionStatus.FAILED: ConnectionStatus.PENDING,
}
"""For each status that a command can set: the one status that it may be set from."""


class RefreshIntent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Written before a refresh token is presented; whoever finds it open knows it may be spent."""

    attempt_id: UUID
    """UUIDv7; also the id of the attempt's Attempted event."""
    generation: int
    """The credentials that are presented."""
    owner: str
    """The daemon that presents them."""
    started_at: datetime
    deadline_at: datetime
    """When the attempt is over for certain, answered or not."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why the last refresh failed, and what follows from it; gone with the next success."""

    failure_class: FailureClass
    code: str
    provider_code: str | None = None
    reason: str
    at: datetime
    failures: int = 0
    """How many counted failures came in a row."""
    ambiguous: int = 0
    """How many ambiguous ones came in a row."""
    retry_at: datetime | None = None
    """No refresh before this."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When a connection ended, and why, as far as whoever ended it said so."""

    at: datetime
    reason: str | None = None


class ProviderConnection(msgspec.Struct, frozen=True, kw_only=True):
    """One user's connection to one provider; every change is a new value."""

    id: UUID
    user_id: UUID
    provider_id: UUID
    provider_slug: str
    status: ConnectionStatus
    created_at: datetime
    updated_at: datetime
    generation: int = 0
    """How many credentials were ever stored; it only grows."""
    credentials: Credentials | None = None
    alias: str | None = None
    params: dict[str, str] | None = None
    """Values for the templates of the provider's profile."""
    connected_at: datetime | None = None
    last_sync_at: datetime | None = None
    intent: RefreshIntent | None = None
    """A refresh at the provider that has no outcome yet."""
    doubted_at: datetime | None = None
    """When the refresh token was first presented without its fate being known."""
    trouble: Trouble | None = None
    granted_at: datetime | None = None
    """When the user last consented: when credentials came from outside."""
    grant_expires_at: datetime | None = None
    """When refreshing ends, as far as an answer told; None: never, or nobody told."""
    endpoint_base: str | None = None
    """Where the provider wants later requests, as an answer told."""
    grant_slides: bool | None = None
    """Whether a use of the grant puts ``grant_expires_at`` off; None: not known."""
    warned_lead_s: int | None = None
    """How long before its end this grant's last warning was due; 0: its end was told."""
    refresh: RefreshMode | None = None
    """In place of the profile's."""
    ended: Ended | None = None
    """By the command that made it EXPIRED, REVOKED, FAILED or DISCONNECTED; None: by none, or by
    one of an earlier version."""

    @property
    def needs_reauth(self) -> bool:
        """Whether the grant is dead, by the provider's word or as was told by the calendar."""
        failure_class = None if self.trouble is None else self.trouble.failure_class
        return is_grant_dead(self.status, failure_class, self.warned_lead_s)

    @property
    def is_active(self) -> bool:
        """Whether credentials may be used and replaced."""
        return self.status is ConnectionStatus.ACTIVE

    def touched_at(self, now: datetime) -> datetime:
        """Return the ``updated_at`` of a change made now: it never goes back."""
        return max(now, self.updated_at)

    def connected(
        self,
        credentials: Credentials,
        *,
        alias: str | None,
        params: dict[str, str] | None,
        refresh: RefreshMode | None,
        granted_at: datetime | None,
        grant_expires_at: datetime | None,
        now: datetime,
    ) -> "ProviderConnection":
        """Return this connection ACTIVE with new credentials.

        ``connected_at`` keeps its first value; alias, params and refresh only change when given.
        """
        assert self.status in CONNECTABLE
        at = self.touched_at(now)
        return msgspec.structs.replace(
            self,
            status=ConnectionStatus.ACTIVE,
            credentials=credentials,
            generation=self.generation + 1,
            alias=self.alias if alias is None else alias,
            params=self.params if params is None else params,
            refresh=self.refresh if refresh is None else refresh,
            connected_at=at if self.connected_at is None else self.connected_at,
            updated_at=at,
            granted_at=at if granted_at is None else min(granted_at, at),
            **_NO_REFRESH_STATE | {"grant_expires_at": grant_expires_at},
        )

    def refreshed(self, credentials: Credentials, *, now: datetime) -> "ProviderConnection":
        """Return this connection with its credentials replaced, one generation on.

        They came from outside: what was known of the refresh token before them is void.
        """
        assert self.is_active
        at = self.touched_at(now)
        return msgspec.structs.replace(
            self,
            credentials=credentials,
            generation=self.generation + 1,
            updated_at=at,
            granted_at=at,
            **_NO_REFRESH_STATE,
        )

    def moved_to(
        self, status: ConnectionStatus, *, reason: str | None, now: datetime
    ) -> "ProviderConnection":
        """Return this connection EXPIRED, REVOKED or FAILED; credentials are kept for audit."""
        assert self.status is STATUS_CHANGES[status]
        at = self.touched_at(now)
        ended = Ended(at=at, reason=reason)
        return msgspec.structs.replace(self, status=status, intent=None, updated_at=at, ended=ended)

    def synced(self, *, now: datetime) -> "ProviderConnection":
        """Return this connection with ``last_sync_at`` set to now."""
        assert self.is_active
        at = self.touched_at(now)
        return msgspec.structs.replace(self, last_sync_at=at, updated_at=at)

    def disconnected(self, *, now: datetime) -> "ProviderConnection":
        """Return this connection at its end: no credentials, and nothing leaves this state."""
        if self.status is ConnectionStatus.DISCONNECTED:
            return self
        at = self.touched_at(now)
        return msgspec.structs.replace(
            self,
            status=ConnectionStatus.DISCONNECTED,
            credentials=None,
            updated_at=at,
            **_NO_REFRESH_STATE | {"ended": Ended(at=at)},
        )


_NO_REFRESH_STATE: dict[str, Any] = {
    "intent": None,
    "doubted_at": None,
    "trouble": None,
    "grant_expires_at": None,
    "endpoint_base": None,
    "grant_slides": None,
    "warned_lead_s": None,
    "ended": None,
}
"""What is left of a grant's story when another grant begins."""


def is_grant_dead(
    status: ConnectionStatus, failure_class: FailureClass | None, warned_lead_s: int | None
) -> bool:
    """Whether only its user can mend a grant, by the provider's word or by the calendar.

    Args:
        status: The connection's.
        failure_class: Of its last failure, if that was not followed by a success.
        warned_lead_s: As ``ProviderConnection`` has it.
    """
    is_refused = status is ConnectionStatus.EXPIRED and failure_class is FailureClass.USER
    return warned_lead_s == 0 or is_refused


def broken_invariant(connection: ProviderConnection) -> str | None:
    """Return which law of DESIGN.md section 2 ``connection`` breaks, or None.

    Used by the store when it reads a record, and by the tests after every step.
    """
    credentials, intent, trouble = connection.credentials, connection.intent, connection.trouble
    times = (
        connection.created_at,
        connection.updated_at,
        connection.connected_at,
        connection.last_sync_at,
        connection.doubted_at,
        connection.granted_at,
        connection.grant_expires_at,
        *(
            (credentials.expires_at, credentials.issued_at, credentials.redated_at)
            if credentials
            else ()
        ),
        *((intent.started_at, intent.deadline_at) if intent else ()),
        *((trouble.at, trouble.retry_at) if trouble else ()),
        *((connection.ended.at,) if connection.ended else ()),
    )
    if any(time is not None and time.tzinfo is not UTC for time in times):
        return "times are timezone-aware UTC"
    laws = {
        "ACTIVE implies credentials": credentials is not None or not connection.is_active,
        "DISCONNECTED implies no credentials": credentials is None
        or connection.status is not ConnectionStatus.DISCONNECTED,
        "generation counts the credentials": connection.generation >= (credentials is not None),
        "only an ACTIVE connection is being refreshed": intent is None or connection.is_active,
        "an intent presents the present credentials": intent is None
        or intent.generation == connection.generation,
        "updated_at never goes back": connection.updated_at >= connection.created_at,
        "provider_slug is 1-50 of [a-z0-9_-]": re.match(SLUG_PATTERN, connection.provider_slug),
        f"alias is at most {ALIAS_LENGTH_MAX} characters": len(connection.alias or "")
        <= ALIAS_LENGTH_MAX,
    }
    return next((law for law, is_kept in laws.items() if not is_kept), None)
