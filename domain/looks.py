"""When a connection is looked at next, as its record and the due index have it.

The index has one entry that counts for each record: under the minute of ``next_due``. So that
connections which are written often leave no trail of entries behind, the entry that is there
stays where what is due now comes later: the look at its time finds that, and moves it on.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from domain.connection import ProviderConnection
from domain.due import next_due
from domain.expiry import shifted
from domain.grant_life import access_ends_at, grant_ends_at, idle_ends
from domain.profile import ProviderProfile

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
    due = next_due(connection, profile, now=now)
    if due is None:
        return None
    if no_sooner is not None:
        return max(due.at, no_sooner)
    return known if known is not None and now < known <= due.at else due.at


def is_moved(known: datetime | None, look_at: datetime | None) -> bool:
    """Whether the index lacks the entry for a look that was to be at ``known`` so far."""
    return look_at is not None and (known is None or minute_of(known) != minute_of(look_at))


def urgent_at(
    connection: ProviderConnection, profile: ProviderProfile | None, look_at: datetime
) -> datetime:
    """Return when something is lost if nobody looks: access, or in a day's time the grant.

    So a grant that has less than a day to live comes before tokens that have ended since then.
    """
    profile = profile or ProviderProfile(slug=connection.provider_slug)
    grant_ends = [grant_ends_at(connection, profile), *idle_ends(connection, profile)]
    return min(
        access_ends_at(connection) or look_at,
        *(shifted(ends_at, -_GRANT_LEAD_S) for ends_at in grant_ends if ends_at is not None),
        datetime.max.replace(tzinfo=UTC),
    )
