"""When a connection is looked at next, as its record and the due index have it.

The index has one entry that counts for each record: under the minute of ``next_due``. So that
connections which are written often leave no trail of entries behind, the entry that is there
stays where what is due now comes later: the look at its time finds that, and moves it on.
"""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from domain.connection import ProviderConnection
from domain.due import KEEP_ALIVE_SPREAD, SPREAD, next_due
from domain.expiry import shifted
from domain.grant_life import (
    NO_PROFILE,
    access_ends_at,
    grant_ends_at,
    idle_ends,
    is_refreshable,
    used_at,
)
from domain.profile import ProviderProfile, RefreshMode

_MINUTE_S = 60
_GRANT_LEAD_S = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Look(NamedTuple):
    """When a connection is looked at next."""

    at: datetime
    urgent_at: datetime
    """Of several that are late the least comes first; see ``urgent_at``."""


def minute_of(at: datetime) -> int:
    """Return the minute of a time, since the epoch."""
    return minute_of_s(epoch_s(at))


def minute_of_s(at_s: float) -> int:
    """Return the minute of a time that is given in seconds since the epoch."""
    return int(at_s // _MINUTE_S)


def epoch_s(at: datetime) -> float:
    """Return an aware time in seconds since the epoch; any year of the calendar will do."""
    return (at - _EPOCH).total_seconds()


def next_look(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    known: datetime | None,
    *,
    now: datetime,
    no_sooner: datetime | None = None,
) -> datetime | None:
    """Return when to look at a connection next; None: never.

    Args:
        connection: As it is about to be stored.
        profile: The provider's; None where there is none.
        known: When it was to be looked at so far.
        now: Aware UTC.
        no_sooner: Not before this, where nothing can be done sooner.
    """
    if (
        no_sooner is None
        and known is not None
        and profile is not None
        and now < known
        and _is_put_off(connection, profile, known)
    ):
        return known
    return reckoned_look(connection, profile, known, now=now, no_sooner=no_sooner)


def reckoned_look(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    known: datetime | None,
    *,
    now: datetime,
    no_sooner: datetime | None = None,
) -> datetime | None:
    """Do as ``next_look``, whatever it costs."""
    if connection.intent is not None and known is not None:
        # The entry that is there finds an attempt that a crash leaves open.
        return known
    due = next_due(connection, profile, now=now)
    if due is None:
        return None
    if no_sooner is not None:
        return max(due.at, no_sooner)
    return known if known is not None and now < known <= due.at else due.at


def _is_put_off(connection: ProviderConnection, profile: ProviderProfile, known: datetime) -> bool:
    """Whether nothing can be due before ``known``, as far as is seen at a glance.

    Most refreshes put off what was due; reckoning when costs as much as deciding them.
    """
    if (
        not connection.is_active
        or connection.intent is not None
        or connection.trouble is not None
        or connection.doubted_at is not None
        or connection.grant_expires_at is not None
        or connection.warned_lead_s is not None
        or profile.grant_lifetime_s is not None
        or profile.max_lead_s is not None
        or profile.presents != "refresh_token"
        or (connection.refresh or profile.refresh) is not RefreshMode.PROACTIVE
        or not is_refreshable(connection)
    ):
        return False
    ends_at, since = access_ends_at(connection), used_at(connection)
    if ends_at is None or ends_at <= since:
        return False
    if (ends_at - known).total_seconds() < profile.margin_s * (1 + SPREAD):
        return False
    idle_s = profile.grant_idle_s
    half_s = math.inf if idle_s is None else idle_s / 2 * (1 - KEEP_ALIVE_SPREAD)
    return (known - since).total_seconds() <= half_s


def is_moved(known: datetime | None, look_at: datetime | None) -> bool:
    """Whether the index lacks the entry for a look that was to be at ``known`` so far."""
    return look_at is not None and (known is None or minute_of(known) != minute_of(look_at))


def urgent_at(
    connection: ProviderConnection, profile: ProviderProfile | None, look_at: datetime
) -> datetime:
    """Return when something is lost if nobody looks: access, or in a day's time the grant.

    So a grant that has less than a day to live comes before tokens that have ended since then.
    """
    profile = profile or NO_PROFILE
    grant_ends = [grant_ends_at(connection, profile), *idle_ends(connection, profile)]
    return min(
        access_ends_at(connection) or look_at,
        *(shifted(ends_at, -_GRANT_LEAD_S) for ends_at in grant_ends if ends_at is not None),
        datetime.max.replace(tzinfo=UTC),
    )
