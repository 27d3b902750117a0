"""What has happened to a connection, in the past tense.

Each workflow has three events: Attempted, then exactly one of Succeeded and Failed. A change of
status, and of what is known of the grant's end, is one event of its own. The
class name is the CloudEvents ``type``; workflow and outcome are two tokens of the subject
(DESIGN.md section 4). No event has a field that could hold a credential.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from domain.connection import ConnectionStatus, ProviderConnection
from domain.grant_life import EndCause
from domain.profile import FailureClass
from domain.trace import Trace


class Workflow(StrEnum):
    """Which story an event belongs to."""

    CONNECTION = "connection"
    DISCONNECTION = "disconnection"
    TOKEN_REFRESH = "token_refresh"  # noqa: S105 -- the name of a workflow
    STATUS = "status"


class Outcome(StrEnum):
    """Which step of the story an event tells."""

    ATTEMPTED = "attempted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CHANGED = "changed"


class _Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, omit_defaults=True):
    """What all events say: which connection, whose, at which provider."""

    workflow: ClassVar[Workflow]
    outcome: ClassVar[Outcome]

    id: UUID
    """UUIDv7; also the ``Nats-Msg-Id`` of the published message."""
    occurred_at: datetime
    traceparent: str | None = None
    """The trace of the command that it came of (W3C), an attribute of the CloudEvent."""
    tracestate: str | None = None
    user_id: UUID
    connection_id: UUID
    provider_id: UUID
    provider_slug: str


class ProviderConnectionAttempted(_Event, frozen=True, kw_only=True):
    """Somebody asked to connect."""

    workflow = Workflow.CONNECTION
    outcome = Outcome.ATTEMPTED


class ProviderConnectionSucceeded(_Event, frozen=True, kw_only=True):
    """The connection is stored."""

    workflow = Workflow.CONNECTION
    outcome = Outcome.SUCCEEDED


class ProviderConnectionFailed(_Event, frozen=True, kw_only=True):
    """The connection was refused, or could not be stored."""

    workflow = Workflow.CONNECTION
    outcome = Outcome.FAILED
    reason: str


class ProviderDisconnectionAttempted(_Event, frozen=True, kw_only=True):
    """Somebody asked to disconnect."""

    workflow = Workflow.DISCONNECTION
    outcome = Outcome.ATTEMPTED


class ProviderDisconnectionSucceeded(_Event, frozen=True, kw_only=True):
    """The credentials are gone and the connection has ended."""

    workflow = Workflow.DISCONNECTION
    outcome = Outcome.SUCCEEDED


class ProviderDisconnectionFailed(_Event, frozen=True, kw_only=True):
    """The connection was not ended."""

    workflow = Workflow.DISCONNECTION
    outcome = Outcome.FAILED
    reason: str


class ProviderTokenRefreshAttempted(_Event, frozen=True, kw_only=True):
    """Somebody brought new credentials, or they are about to be asked for."""

    workflow = Workflow.TOKEN_REFRESH
    outcome = Outcome.ATTEMPTED
    attempt_id: UUID | None = None
    """Which refresh at the provider; None where a caller brought the credentials."""


class ProviderTokenRefreshSucceeded(_Event, frozen=True, kw_only=True):
    """The new credentials are stored."""

    workflow = Workflow.TOKEN_REFRESH
    outcome = Outcome.SUCCEEDED
    attempt_id: UUID | None = None


class ProviderTokenRefreshFailed(_Event, frozen=True, kw_only=True):
    """The new credentials were not stored; the old ones, if any, stay."""

    workflow = Workflow.TOKEN_REFRESH
    outcome = Outcome.FAILED
    reason: str
    needs_user_action: bool
    attempt_id: UUID | None = None
    failure_class: FailureClass | None = None
    code: str | None = None
    """The canonical code (RFC 6749 section 5.2, or a word of ours)."""
    provider_code: str | None = None
    """The provider's own, where it is a plain word."""
    retry_at: datetime | None = None


class ProviderConnectionStatusChanged(_Event, frozen=True, kw_only=True):
    """The status changed by a command that has no three-state events of its own."""

    workflow = Workflow.STATUS
    outcome = Outcome.CHANGED
    from_status: ConnectionStatus
    to_status: ConnectionStatus
    reason: str | None


class ProviderGrantExpiring(_Event, frozen=True, kw_only=True):
    """The grant ends soon, by the calendar."""

    workflow = Workflow.STATUS
    outcome = Outcome.CHANGED
    grant_ends_at: datetime
    within_s: int
    """One of ``WARNING_LEADS_S``: it ends within so many seconds, and this is told once."""
    cause: EndCause


class ProviderGrantNeedsReauth(_Event, frozen=True, kw_only=True):
    """The grant has ended: only its user can mend it."""

    workflow = Workflow.STATUS
    outcome = Outcome.CHANGED
    reason: str


class ProviderGrantRecovered(_Event, frozen=True, kw_only=True):
    """A grant that needed its user is there again."""

    workflow = Workflow.STATUS
    outcome = Outcome.CHANGED


class ProviderClientPaused(_Event, frozen=True, kw_only=True):
    """The provider refuses our configuration: at this connection it showed for one too many."""

    workflow = Workflow.STATUS
    outcome = Outcome.CHANGED
    code: str
    """As ``ProviderTokenRefreshFailed`` has it."""
    reason: str


class ProviderClientResumed(_Event, frozen=True, kw_only=True):
    """The provider takes our configuration again: this connection's refresh showed it."""

    workflow = Workflow.STATUS
    outcome = Outcome.CHANGED


Event = (
    ProviderConnectionAttempted
    | ProviderConnectionSucceeded
    | ProviderConnectionFailed
    | ProviderDisconnectionAttempted
    | ProviderDisconnectionSucceeded
    | ProviderDisconnectionFailed
    | ProviderTokenRefreshAttempted
    | ProviderTokenRefreshSucceeded
    | ProviderTokenRefreshFailed
    | ProviderConnectionStatusChanged
    | ProviderGrantExpiring
    | ProviderGrantNeedsReauth
    | ProviderGrantRecovered
    | ProviderClientPaused
    | ProviderClientResumed
)


def traced(events: Sequence[Event], trace: Trace | None) -> Sequence[Event]:
    """Return the events as of a trace, if there is one."""
    if trace is None:
        return events
    fields = {"traceparent": trace.parent, "tracestate": trace.state}
    return [msgspec.structs.replace(event, **fields) for event in events]


def about(connection: ProviderConnection) -> dict[str, Any]:
    """Return the fields that all events of a connection share."""
    return {
        "user_id": connection.user_id,
        "connection_id": connection.id,
        "provider_id": connection.provider_id,
        "provider_slug": connection.provider_slug,
    }
