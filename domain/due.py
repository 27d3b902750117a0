"""When a connection is to be looked at next, although nobody asks.

Pure, of what is stored alone: no clock is read, so a time that is returned may be past, which means
now. Whoever acts on it must have the result stored; then the next time is another.

- **Refresh**: so long before the access token ends as the profile's margin says, or that fraction
  of its lifetime where it is less. Each connection has a share of half as much again, the same
  each time, so that what was refreshed together drifts further apart with each refresh; never
  sooner than ``max_lead_s`` allows nor than ``interval_s_min`` after the last. A token that was
  issued as ended (``expires_in`` 0) is refreshed when it is asked for: doing so ahead of nobody
  would never end.
- **Keep-alive**: before half of what is left until the grant ends unused; one that was issued as
  ended, never.
- **Retry**: what failed, when its pause is over; what is in doubt, when ``domain.token_read`` lets
  it be presented; an attempt that a crash left open, at its deadline.
- **Warning**: what ``domain.grant_end.warned`` has to tell.

What was sealed by its caller, or holds nothing to refresh it by, is never refreshed, nor is a grant
that has ended, but for the trials that ``grant_trial_interval_s`` grants.

``on_demand`` leaves out refreshes, and keep-alives while an access token lives, for they may end
it; once that has ended by itself, a grant is not let die.

Source:
    DESIGN.md section 7; PROVIDERS.md quirks 10, 11, 12 and 23 to 27.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from domain.connection import ProviderConnection
from domain.expiry import shifted
from domain.grant_life import (
    access_ends_at,
    grant_ends_at,
    idle_ends,
    is_refreshable,
    used_at,
    warning_due_at,
)
from domain.profile import ProviderProfile, RefreshMode
from domain.token_read import REPLAY_LEAD_S

SPREAD = 0.5
"""How much earlier than it must be a refresh may be due, by the length of its lead."""
KEEP_ALIVE_SPREAD = 0.2
_MAX_LEAD_USED = 0.9
"""How much of a provider's ``max_lead_s`` is used: its clock counts, not ours."""


class DueKind(StrEnum):
    """What is to be done."""

    REFRESH = "refresh"
    KEEP_ALIVE = "keep_alive"
    RETRY = "retry"
    WARNING = "warning"


class Due(NamedTuple):
    """When, and what."""

    at: datetime
    kind: DueKind


def next_due(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    *,
    now: datetime | None = None,
) -> Due | None:
    """Return what is due first; None: never look. Never raises, whatever the times.

    Args:
        connection: As it is stored, or is about to be.
        profile: The provider's; None where the slug has none: then nothing is refreshed.
        now: Aware UTC. With it a refresh that was missed is due when it may be made from now on:
            what comes at ``now`` or before may be done now, anything else not yet.
    """
    if connection.intent is not None:
        return Due(connection.intent.deadline_at, DueKind.RETRY)
    if not connection.is_active:
        return None
    refresh = refresh_due(connection, profile, now=now)
    warning_at = warning_due_at(connection, profile, is_asked=refresh is not None)
    if warning_at is None or (refresh is not None and refresh.at <= warning_at):
        return refresh
    return Due(warning_at, DueKind.WARNING)


def refresh_due(
    connection: ProviderConnection, profile: ProviderProfile | None, *, now: datetime | None = None
) -> Due | None:
    """Return when the provider is to be asked of an ACTIVE connection without an intent."""
    if profile is None or not is_refreshable(connection):
        return None
    wanted = min(_wanted(connection, profile), default=None)
    if wanted is None:
        return None
    ends_at, trouble = access_ends_at(connection), connection.trouble
    not_before = [shifted(used_at(connection), profile.interval_s_min), *([now] if now else [])]
    if profile.max_lead_s is not None:
        if ends_at is None:
            return None
        not_before.append(shifted(ends_at, -profile.max_lead_s * _MAX_LEAD_USED))
    if trouble is not None and trouble.retry_at is not None and (now is None or trouble.at <= now):
        not_before.append(trouble.retry_at)
    at = _out_of_doubt(connection, profile, wanted.at, not_before=max(not_before))
    at = None if at is None else _past_the_end(connection, profile, at)
    if at is None:
        return None
    is_retry = trouble is not None or connection.doubted_at is not None
    return Due(at, DueKind.RETRY if is_retry else wanted.kind)


def _wanted(connection: ProviderConnection, profile: ProviderProfile) -> Iterator[Due]:
    """Yield when a refresh is of use, whether it may be made then or not."""
    credentials, ends_at = connection.credentials, access_ends_at(connection)
    assert credentials is not None
    since, share = used_at(connection), _share(connection)
    is_on_demand = (connection.refresh or profile.refresh) is RefreshMode.ON_DEMAND
    if ends_at is not None and not is_on_demand:
        lifetime_s = (ends_at - since).total_seconds()
        if lifetime_s > 0 or credentials.issued_at is None:
            yield Due(shifted(ends_at, -_lead_s(profile, lifetime_s, share)), DueKind.REFRESH)
    for over_at in idle_ends(connection, profile):
        idle_s = (over_at - since).total_seconds()
        if idle_s <= 0 and credentials.issued_at is not None:
            continue
        at = shifted(since, idle_s / 2 * (1 - KEEP_ALIVE_SPREAD * share))
        if is_on_demand and (ends_at is None or ends_at >= over_at):
            continue
        yield Due(max(at, ends_at) if is_on_demand and ends_at else at, DueKind.KEEP_ALIVE)


def _lead_s(profile: ProviderProfile, lifetime_s: float, share: float) -> float:
    """Return how long before its end an access token is refreshed."""
    least_s = min(profile.margin_s, profile.margin_fraction * max(lifetime_s, 0.0))
    most_s = least_s * (1 + SPREAD)
    if profile.max_lead_s is not None:
        most_s = min(most_s, profile.max_lead_s * _MAX_LEAD_USED)
    return most_s * (1 - share * (1 - 1 / (1 + SPREAD)))


def _out_of_doubt(
    connection: ProviderConnection,
    profile: ProviderProfile,
    wanted_at: datetime,
    *,
    not_before: datetime,
) -> datetime | None:
    """Return when the refresh token may be presented: at once where a grace ends, else at last."""
    at, doubted_at = max(wanted_at, not_before), connection.doubted_at
    if doubted_at is None or profile.reuse_policy.is_free:
        return at
    mended_at, replay_s = max(doubted_at, not_before), profile.reuse_policy.replay_s
    is_on_demand = (connection.refresh or profile.refresh) is RefreshMode.ON_DEMAND
    if mended_at < shifted(doubted_at, replay_s) and not is_on_demand:
        return mended_at
    ends_at = access_ends_at(connection)
    if ends_at is None:
        return None
    return max(at, shifted(ends_at, -REPLAY_LEAD_S * (1 - _share(connection) / 2)))


def _past_the_end(
    connection: ProviderConnection, profile: ProviderProfile, at: datetime
) -> datetime | None:
    """Return when the provider is asked of a grant that has ended by the calendar by then."""
    credentials, trouble = connection.credentials, connection.trouble
    over_at, ends_at = grant_ends_at(connection, profile), access_ends_at(connection)
    assert credentials is not None
    if over_at is None or at < over_at:
        return at
    if credentials.issued_at is not None and credentials.issued_at >= over_at:
        return at
    in_doubt = connection.doubted_at is not None and not profile.reuse_policy.is_free
    if ends_at is None or in_doubt or not profile.grant_trial_interval_s:
        return None
    at = max(at, over_at, ends_at)
    if trouble is not None and trouble.at >= over_at:
        at = max(at, shifted(trouble.at, profile.grant_trial_interval_s))
    return at


def _share(connection: ProviderConnection) -> float:
    """Return a number in [0, 1) that is the same each time for one connection."""
    return int.from_bytes(blake2b(connection.id.bytes, digest_size=7).digest(), "big") / 2**56
