"""Telling that a grant ends, in time and once; and which grants need somebody to act.

What was told is a field of the connection (``warned_lead_s``), so a restart tells nothing twice;
new credentials, and an end that is put off, begin anew. Where several warnings have been missed
the most urgent alone is told, and none of an end that is past. A grant that has ended by the
calendar needs its user when its access token has ended, too, and the provider is not going to be
asked of it; else the provider's word tells.

Source:
    DESIGN.md section 7; PROVIDERS.md quirks 25, 26 and 38, requirement 7.
"""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from domain.connection import ConnectionStatus, ProviderConnection
from domain.due import refresh_due
from domain.ending import ending
from domain.events import Event, ProviderGrantExpiring, ProviderGrantNeedsReauth, about
from domain.expiry import shifted
from domain.grant_life import (
    NO_PROFILE,
    EndCause,
    GrantEnd,
    calendar_over_at,
    grant_ends,
    open_leads_s,
    warning_due_at,
)
from domain.profile import ProviderProfile
from domain.refreshing import Step
from domain.time_words import instant
from domain.token_read import GRANT_EXPIRED, NO_REFRESH_TOKEN

_ENDED = (ConnectionStatus.EXPIRED, ConnectionStatus.REVOKED, ConnectionStatus.FAILED)


def warned(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    *,
    now: datetime,
    ids: Iterator[UUID],
) -> Step | None:
    """Return the step that tells what is due of the grant's end, or None where nothing is.

    Args:
        connection: The newest state.
        profile: The provider's; None where the slug has none.
        now: Aware UTC.
        ids: At least one.
    """
    if connection.intent is not None or not connection.is_active:
        return None
    is_asked = refresh_due(connection, profile, now=now) is not None
    due_at = warning_due_at(connection, profile, is_asked=is_asked)
    if due_at is None or due_at > now:
        return None
    ends = _ends(connection, profile)
    over_at = None if is_asked else calendar_over_at(connection, ends)
    events: tuple[Event, ...] = ()
    if over_at is not None and over_at <= now:
        lead_s = 0
        has_none = any(end.cause is EndCause.NO_REFRESH_TOKEN for end in ends)
        reason = NO_REFRESH_TOKEN if has_none else GRANT_EXPIRED
        events = (
            ProviderGrantNeedsReauth(
                id=next(ids), occurred_at=now, reason=reason, **about(connection)
            ),
        )
    else:
        lead_s = min(open_leads_s(ends, now))
        soonest = min(
            (end for end in ends if _is_open(end, lead_s, now) and now < end.at), default=None
        )
        if soonest is not None:
            events = (
                ProviderGrantExpiring(
                    id=next(ids),
                    occurred_at=now,
                    grant_ends_at=soonest.at,
                    within_s=lead_s,
                    cause=soonest.cause,
                    **about(connection),
                ),
            )
    after = replace(connection, warned_lead_s=lead_s, updated_at=connection.touched_at(now))
    return Step(after, events)


def action_needed(
    connection: ProviderConnection, profile: ProviderProfile | None, now: datetime
) -> str | None:
    """Return in words why somebody must act soon for a connection to go on; None: nobody must.

    It has ended, it ends within a warning's time, or it ends and has no refresh token.
    """
    if connection.status in _ENDED and (ended := ending(connection)) is not None:
        why = f": {ended.reason}" if ended.reason else ""
        return f"the connection is {connection.status} since {instant(ended.at)}{why}"
    ends = _ends(connection, profile)
    end = min(
        (one for one in ends if one.leads_s and _is_open(one, one.leads_s[0], now)), default=None
    )
    without = next((one for one in ends if one.cause is EndCause.NO_REFRESH_TOKEN), None)
    if without is not None:
        return f"it {_when(without, now)}, and there is no refresh token"
    if end is None:
        return None
    unless = " unless it is refreshed" if end.cause is EndCause.IDLE else ""
    return f"the grant {_when(end, now)}{unless}"


def is_action_told(
    status: ConnectionStatus, warned_lead_s: int | None, ends_at: datetime | None
) -> bool:
    """Whether somebody must act soon for a connection to go on, by what is stored and told of it.

    That is what ``action_needed`` finds as soon as the warning that is due has been told.

    Args:
        status: The connection's.
        warned_lead_s: As ``ProviderConnection`` has it.
        ends_at: When its access token ends, where there is no refresh token.
    """
    is_warned = warned_lead_s is not None or ends_at is not None
    return status in _ENDED or (status is ConnectionStatus.ACTIVE and is_warned)


def _ends(connection: ProviderConnection, profile: ProviderProfile | None) -> list[GrantEnd]:
    return grant_ends(connection, profile or NO_PROFILE)


def _is_open(end: GrantEnd, lead_s: int, now: datetime) -> bool:
    return lead_s in end.leads_s and shifted(end.at, -lead_s) <= now


def _when(end: GrantEnd, now: datetime) -> str:
    verb = "ends" if now < end.at else "ended"
    return f"{verb} at {instant(end.at)}"
