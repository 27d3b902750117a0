"""When a grant ends, and by when it must be used again: by the calendar, nobody being asked.

Some ends stay where they are however often the grant is used (Schwab: 7 days from consent);
others are put off by each use (Xero: 60 days unused). An end that answers tell is of either kind,
and the second answer shows which: ``grant_slides``. Until then it is taken for one that slides,
and from then on for one that stays, where answers tell none.

Source:
    PROVIDERS.md quirks 25, 26, 27 and 38.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from domain.connection import UNKNOWN_SLUG, ProviderConnection
from domain.credentials import Sealed
from domain.expiry import shifted
from domain.profile import ProviderProfile

WARNING_LEADS_S = (7 * 86_400, 86_400, 43_200)
"""How long before its end a grant's user is to be told, the least urgent first."""
NO_REFRESH_TOKEN_NOTE = "no_refresh_token"  # noqa: S105 -- a note


class EndCause(StrEnum):
    """Why a grant ends."""

    LIFETIME = "lifetime"
    """So long after consent, however often it is used."""
    IDLE = "idle"
    """So long after its last use."""
    NO_REFRESH_TOKEN = "no_refresh_token"  # noqa: S105 -- a cause
    """With its access token, for there is nothing to refresh it by."""


NO_PROFILE = ProviderProfile(slug=UNKNOWN_SLUG)
"""What is taken for the profile of a provider that has none."""


class GrantEnd(NamedTuple):
    """One end of a grant."""

    at: datetime
    cause: EndCause
    leads_s: tuple[int, ...]
    """Which of ``WARNING_LEADS_S`` are to be told of it. What each use puts off is refreshed before
    half of its time is over, so of that only what lies in the second half is news."""


def is_refreshable(connection: ProviderConnection) -> bool:
    """Whether the credentials may hold something to refresh them by, as far as can be seen."""
    credentials = connection.credentials
    return (
        credentials is not None
        and isinstance(credentials.payload, Sealed)
        and credentials.credential_type.is_refreshable
        and NO_REFRESH_TOKEN_NOTE not in credentials.notes
    )


def used_at(connection: ProviderConnection) -> datetime:
    """Return when the grant was last used or given to us, by our clock as it is now.

    The user may have consented long before that.
    """
    credentials = connection.credentials
    issued_at = credentials.issued_at if credentials else None
    if credentials is not None and issued_at is not None:
        return min(issued_at, credentials.redated_at or issued_at)
    created_at = connection.created_at
    return max(connection.granted_at or created_at, connection.connected_at or created_at)


def access_ends_at(connection: ProviderConnection) -> datetime | None:
    """Return when the access token ends, by our clock as it is now; None: never."""
    credentials = connection.credentials
    if credentials is None or credentials.expires_at is None:
        return None
    ends_at, issued_at, redated_at = (
        credentials.expires_at,
        credentials.issued_at,
        credentials.redated_at,
    )
    if issued_at is None or redated_at is None or redated_at >= issued_at:
        return ends_at
    return shifted(ends_at, (redated_at - issued_at).total_seconds())


def grant_ends_at(connection: ProviderConnection, profile: ProviderProfile) -> datetime | None:
    """Return when refreshing ends by the calendar: as an answer told, or as the profile has it."""
    ends = (connection.grant_expires_at, _lifetime_ends_at(connection, profile))
    return min((end for end in ends if end is not None), default=None)


def is_over_by(connection: ProviderConnection, profile: ProviderProfile, at: datetime) -> bool:
    """Return whether a grant will have ended by the calendar, its credentials being of before."""
    over_at, credentials = grant_ends_at(connection, profile), connection.credentials
    issued_at = None if credentials is None else credentials.issued_at
    return over_at is not None and over_at <= at and (issued_at is None or issued_at < over_at)


def idle_ends(connection: ProviderConnection, profile: ProviderProfile) -> Iterator[datetime]:
    """Yield when the grant ends unless it is used before."""
    if profile.grant_idle_s is not None:
        yield shifted(used_at(connection), profile.grant_idle_s)
    if connection.grant_expires_at is not None and connection.grant_slides is not False:
        yield connection.grant_expires_at
    access_at = access_ends_at(connection) if profile.presents == "access_token" else None
    if access_at is not None:
        yield access_at


def grant_ends(connection: ProviderConnection, profile: ProviderProfile) -> list[GrantEnd]:
    """Return every end that an ACTIVE grant has, but for those that the provider has disproved."""
    credentials = connection.credentials
    if credentials is None or not connection.is_active:
        return []
    if NO_REFRESH_TOKEN_NOTE in credentials.notes:
        ends_at = access_ends_at(connection)
        cause = EndCause.NO_REFRESH_TOKEN
        return [] if ends_at is None else [GrantEnd(ends_at, cause, WARNING_LEADS_S)]
    lasts = profile.grant_idle_s is None and profile.grant_lifetime_s is None
    if lasts and connection.grant_expires_at is None and profile.presents != "access_token":
        return []
    if not is_refreshable(connection):
        return []
    since = used_at(connection)
    ends = [
        GrantEnd(at, EndCause.IDLE, _in_second_half((at - since).total_seconds()))
        for at in idle_ends(connection, profile)
    ]
    told_at = connection.grant_expires_at if connection.grant_slides is False else None
    issued_at = credentials.issued_at
    return ends + [
        GrantEnd(at, EndCause.LIFETIME, WARNING_LEADS_S)
        for at in (told_at, _lifetime_ends_at(connection, profile))
        if at is not None and (issued_at is None or issued_at < at)
    ]


def open_leads_s(ends: list[GrantEnd], now: datetime) -> set[int]:
    """Return the leads that have begun."""
    return {lead_s for end in ends for lead_s in end.leads_s if shifted(end.at, -lead_s) <= now}


def still_told_s(ends: list[GrantEnd], now: datetime, told_s: int | None) -> int | None:
    """Return which warning counts as told of a grant that was used: one that has begun anew.

    So an end that is put off by less than it is near is told once, and one that went far, again.
    """
    if told_s is None:
        return None
    return min((lead_s for lead_s in open_leads_s(ends, now) if lead_s >= told_s), default=None)


def warning_due_at(
    connection: ProviderConnection, profile: ProviderProfile | None, *, is_asked: bool
) -> datetime | None:
    """Return when something is to be told of the grant's end; None: nothing is left to tell.

    Args:
        connection: ACTIVE, with what was told of it.
        profile: The provider's.
        is_asked: Whether the provider will be asked, so that its own word tells of the end.
    """
    told_s = connection.warned_lead_s
    if told_s == 0:
        return None
    ends = grant_ends(connection, profile or NO_PROFILE)
    leads = [
        shifted(end.at, -lead_s)
        for end in ends
        for lead_s in end.leads_s
        if told_s is None or lead_s < told_s
    ]
    over_at = None if is_asked else calendar_over_at(connection, ends)
    return min([*leads, *([over_at] if over_at else [])], default=None)


def calendar_over_at(connection: ProviderConnection, ends: list[GrantEnd]) -> datetime | None:
    """Return when neither the grant nor its access token lives any more, by the calendar."""
    access_at = access_ends_at(connection)
    over_at = min((end.at for end in ends if end.cause is not EndCause.IDLE), default=None)
    return None if access_at is None or over_at is None else max(access_at, over_at)


def end_slides(connection: ProviderConnection, told_at: datetime, *, now: datetime) -> bool | None:
    """Return whether an end that an answer tells now is put off by use; None: not known yet.

    It is where it has moved by more than half of the time since the answer before.
    """
    before_at, issued_at = connection.grant_expires_at, None
    if connection.credentials is not None:
        issued_at = connection.credentials.issued_at
    if before_at is None or issued_at is None or issued_at >= now:
        return connection.grant_slides
    return (told_at - before_at) * 2 > now - issued_at


def _lifetime_ends_at(connection: ProviderConnection, profile: ProviderProfile) -> datetime | None:
    if profile.grant_lifetime_s is None or connection.granted_at is None:
        return None
    return shifted(connection.granted_at, profile.grant_lifetime_s)


def _in_second_half(lifetime_s: float) -> tuple[int, ...]:
    return tuple(lead_s for lead_s in WARNING_LEADS_S if lead_s < lifetime_s / 2)
