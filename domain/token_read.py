"""May a token be served from what is stored, or must the provider be asked, or neither?

Pure, and the only place that decides when a refresh token may be presented. For a refresh
token whose fate is unknown (an answer was lost) that is, by the profile's ``reuse_policy``:

- ``non_rotating``: at any time;
- ``grace:<s>``: within the grace after the presentation in doubt; later as ``none``;
- ``none``, ``unknown``: only when the access token is about to end, or was rejected. A replay
  may end the grant and its access token with it, so it waits until nothing else is left to
  lose (PROVIDERS.md quirk 23).

A grant that has ended by the calendar, or has nothing to present, is told so at each read and
never stored as dead: another answer, new credentials or a clock that is right again undo it. For
the calendar may be wrong, the provider is asked all the same once in ``grant_trial_interval_s``,
when no access token is left to serve: it ends the grant, or its tokens disprove the end.
An access token that was issued by a faster clock lives for a time that is not known: it is never
served as fresh, and lives its lifetime at most, from when that was first seen (``redated``).
What is stored blocks only while the clock is not before its own time: a clock that is set back
by a day must not make a pause of seconds one of a day.
"""

import math
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from domain.commands import GetToken
from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, Opaque
from domain.expiry import SKEW_S_MIN
from domain.grant_life import grant_ends_at, is_over_by
from domain.profile import FailureClass, ProviderProfile
from domain.refusals import not_active, not_found
from domain.result import Failure, FailureCode
from domain.time_words import instant

REPLAY_LEAD_S = 30.0
"""How long before its end an access token counts as about to end."""
LIFETIME_FRACTION = 0.5
"""No ``min_ttl_s`` asks for more of a known lifetime than this (quirk 11)."""

TOO_LONG_ASKED = (
    "The provider was not asked: min_ttl_s asks for more than half of a token's lifetime, or for "
    "more than the provider allows"
)
TOO_EARLY = (
    "The provider was not asked: the last refresh was too short a time ago, or the end is too far"
)
NOTHING_TO_PRESENT = "The provider was not asked: there is no refresh token"
GRANT_OVER = "The provider was not asked: the grant has reached its end"
IN_DOUBT = "the last answer was lost and the refresh token may be spent"

NO_REFRESH_TOKEN = "The access token has expired and there is no refresh token"  # noqa: S105 -- a reason
GRANT_EXPIRED = "By the calendar the provider's grant has ended"


class Serve(NamedTuple):
    """Answer with the present access token."""

    stale: bool
    why: str | None = None
    """Why a stale one is served, and whether the provider was asked."""


class Ask(NamedTuple):
    """Ask the provider; ``can_wait``: the present token may be served if that fails."""

    can_wait: bool


Reading = Serve | Ask | Failure


def read_token(
    connection: ProviderConnection | None,
    ask: GetToken,
    profile: ProviderProfile | None,
    *,
    presented: bool,
    now: datetime,
) -> Reading:
    """Return how ``ask`` is to be answered.

    Args:
        connection: What is stored; an open intent counts as none.
        ask: The caller's wish.
        profile: The provider's; None where the slug has none.
        presented: Whether the secret holds what the profile presents (a refresh token).
        now: Aware UTC.
    """
    failure = unreadable(connection)
    if failure is not None:
        return failure
    assert connection is not None
    credentials = connection.credentials
    assert credentials is not None
    left_s = token_left_s(credentials, now)
    was_rejected = ask.if_generation == connection.generation
    if _is_enough(credentials, ask, profile, left_s, now) and not was_rejected and not ask.force:
        is_short = left_s <= ask.min_ttl_s
        return Serve(stale=is_short, why=TOO_LONG_ASKED if is_short else None)
    if profile is None:
        return _unknown_provider(connection)
    if _is_too_early(credentials, ask, profile, was_rejected=was_rejected, now=now):
        if left_s > 0:
            return Serve(stale=True, why=TOO_EARLY)
        return _blocked(connection, now + timedelta(seconds=profile.interval_s_min), now)
    return _may_ask(
        connection, profile, left_s, was_rejected=was_rejected, presented=presented, now=now
    )


def _may_ask(
    connection: ProviderConnection,
    profile: ProviderProfile,
    left_s: float,
    *,
    was_rejected: bool,
    presented: bool,
    now: datetime,
) -> Reading:
    """Return whether the provider may be asked now, and what to answer where not."""
    can_wait = left_s > 0 and not was_rejected
    if not presented or _is_over(connection, profile, now, can_wait=can_wait):
        ended = NOTHING_TO_PRESENT if not presented else GRANT_OVER
        if can_wait:
            return Serve(stale=True, why=ended)
        if left_s > 0:
            return _not_refreshable("there is no refresh token, or it has ended", ended)
        return reauth_required(GRANT_EXPIRED if presented else NO_REFRESH_TOKEN)
    blocked_until = _blocked_until(connection, profile, left_s, was_rejected=was_rejected, now=now)
    if blocked_until is not None:
        if not can_wait:
            return _not_asked_again(connection, blocked_until, now)
        left_s = max(1, math.ceil((blocked_until - now).total_seconds()))
        cause = connection.trouble.reason if connection.trouble else IN_DOUBT
        return Serve(
            stale=True, why=f"The provider was not asked again yet: {cause}; not for {left_s} s"
        )
    return Ask(can_wait)


def may_still_ask(
    connection: ProviderConnection, profile: ProviderProfile, *, was_rejected: bool, now: datetime
) -> bool:
    """Whether what read as ``Ask`` some time ago may be done now."""
    credentials = connection.credentials
    assert credentials is not None
    left_s = token_left_s(credentials, now)
    can_wait = left_s > 0 and not was_rejected
    blocked = _blocked_until(connection, profile, left_s, was_rejected=was_rejected, now=now)
    return blocked is None and not _is_over(connection, profile, now, can_wait=can_wait)


def unreadable(connection: ProviderConnection | None) -> Failure | None:
    """Return why no token can be read from what is stored, or None."""
    if connection is None:
        return not_found()
    trouble = connection.trouble
    is_dead = trouble is not None and trouble.failure_class is FailureClass.USER
    if connection.status is ConnectionStatus.EXPIRED and trouble is not None and is_dead:
        return reauth_required(trouble.reason)
    if not connection.is_active:
        return not_active(connection, needs_user_action=True)
    credentials = connection.credentials
    assert credentials is not None
    if isinstance(credentials.payload, Opaque):
        return _not_refreshable("the credentials were sealed by the caller")
    if not credentials.credential_type.is_refreshable:
        return _not_refreshable(f"{credentials.credential_type} credentials hold no token")
    return None


def reauth_required(reason: str) -> Failure:
    """Return the answer for a dead grant."""
    return Failure(code=FailureCode.REAUTH_REQUIRED, message=reason, needs_user_action=True)


def failure_of(connection: ProviderConnection, now: datetime) -> Failure:
    """Return the answer to a caller whose refresh failed, from the connection after it."""
    trouble = connection.trouble
    assert trouble is not None
    match trouble.failure_class:
        case FailureClass.USER:
            return reauth_required(trouble.reason)
        case FailureClass.OPERATOR | FailureClass.TRANSIENT | FailureClass.AMBIGUOUS:
            return _blocked(connection, trouble.retry_at or now, now)


def _not_asked_again(connection: ProviderConnection, until: datetime, now: datetime) -> Failure:
    """Return the answer while the last failure is waited out: what it says is of then."""
    trouble, failure = connection.trouble, _blocked(connection, until, now)
    if trouble is None:
        return failure
    at = instant(trouble.at)
    return replace(failure, detail=f"so it was at {at}, and the provider was not asked again since")


def _blocked(connection: ProviderConnection, until: datetime, now: datetime) -> Failure:
    """Return the answer while the provider must not be asked for this connection."""
    trouble = connection.trouble
    left_s = max(1.0, math.ceil((until - now).total_seconds() * 10) / 10)
    if trouble is not None and trouble.failure_class is FailureClass.OPERATOR:
        return misconfigured(trouble.reason, left_s)
    return Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message=trouble.reason if trouble else "The provider cannot be asked now",
        needs_user_action=False,
        retry_after_s=left_s,
    )


def misconfigured(reason: str, retry_after_s: float | None) -> Failure:
    """Return the answer while our own configuration is wrong."""
    return Failure(
        code=FailureCode.PROVIDER_MISCONFIGURED,
        message=reason,
        needs_user_action=False,
        retry_after_s=retry_after_s,
    )


def _is_over(
    connection: ProviderConnection, profile: ProviderProfile, now: datetime, *, can_wait: bool
) -> bool:
    """Whether the grant has ended by the calendar, and the provider is not to be asked of it now.

    Asking costs what the access token still lives if the end is confirmed, and must not be a
    replay: so never while one can be served, or while the refresh token is in doubt.
    """
    ends_at = grant_ends_at(connection, profile)
    if ends_at is None or not is_over_by(connection, profile, now):
        return False
    in_doubt = connection.doubted_at is not None and not profile.reuse_policy.is_free
    if can_wait or in_doubt or not profile.grant_trial_interval_s:
        return True
    trouble, pause = connection.trouble, timedelta(seconds=profile.grant_trial_interval_s)
    return trouble is not None and ends_at <= trouble.at <= now < trouble.at + pause


def token_left_s(credentials: Credentials, now: datetime) -> float:
    """Return how long the access token lives from now on at most; infinite where it never ends."""
    if credentials.expires_at is None:
        return math.inf
    left_s = (credentials.expires_at - now).total_seconds()
    if credentials.issued_at is None or not _is_of_a_faster_clock(credentials, now):
        return left_s
    seen_at = min(credentials.redated_at or now, now)
    return left_s - (credentials.issued_at - seen_at).total_seconds()


def redated(connection: ProviderConnection | None, now: datetime) -> ProviderConnection | None:
    """Return the connection with ``redated_at``, where the clock is first seen to be behind.

    It must be stored: once the clock has caught up nothing else tells. None: nothing is to be
    noted, or a refresh is under way.
    """
    if connection is None or connection.intent is not None or connection.credentials is None:
        return None
    credentials = connection.credentials
    if not _is_of_a_faster_clock(credentials, now):
        return None
    if credentials.redated_at is not None and credentials.redated_at <= now:
        return None
    return replace(
        connection,
        credentials=replace(credentials, redated_at=now),
        updated_at=connection.touched_at(now),
    )


def _is_enough(
    credentials: Credentials,
    ask: GetToken,
    profile: ProviderProfile | None,
    left_s: float,
    now: datetime,
) -> bool:
    """Whether the token lives long enough, by what can be asked of it at all (quirks 10, 11)."""
    if _is_of_a_faster_clock(credentials, now):
        return False
    wanted_s = ask.min_ttl_s
    if profile is not None and profile.max_lead_s is not None:
        wanted_s = min(wanted_s, profile.max_lead_s)
    if credentials.issued_at is not None and credentials.expires_at is not None:
        lifetime_s = (credentials.expires_at - credentials.issued_at).total_seconds()
        wanted_s = min(wanted_s, max(lifetime_s, 0.0) * LIFETIME_FRACTION)
    return left_s > wanted_s


def _is_too_early(
    credentials: Credentials,
    ask: GetToken,
    profile: ProviderProfile,
    *,
    was_rejected: bool,
    now: datetime,
) -> bool:
    """Whether a refresh would be too soon after the last, or too long before the end."""
    if credentials.issued_at is not None and not _is_of_a_faster_clock(credentials, now):
        age_s = (now - credentials.issued_at).total_seconds()
        if was_rejected and 0 <= age_s < profile.settling_s:
            return True
        if not was_rejected and not ask.force and 0 <= age_s < profile.interval_s_min:
            return True
    return (
        profile.max_lead_s is not None
        and not was_rejected
        and not _is_of_a_faster_clock(credentials, now)
        and token_left_s(credentials, now) > profile.max_lead_s
    )


def _is_of_a_faster_clock(credentials: Credentials, now: datetime) -> bool:
    """Whether the clock was set back since a provider issued these: their end means nothing."""
    issued_at = credentials.issued_at
    if credentials.redated_at is not None:
        return True
    return issued_at is not None and (issued_at - now).total_seconds() > SKEW_S_MIN


def _blocked_until(
    connection: ProviderConnection,
    profile: ProviderProfile,
    left_s: float,
    *,
    was_rejected: bool,
    now: datetime,
) -> datetime | None:
    """Return until when the refresh token must not be presented, or None."""
    trouble = connection.trouble
    if (
        trouble is not None
        and trouble.retry_at is not None
        and (trouble.at <= now < trouble.retry_at)
    ):
        return trouble.retry_at
    if connection.doubted_at is None or profile.reuse_policy.is_free or was_rejected:
        return None
    replay = timedelta(seconds=profile.reuse_policy.replay_s)
    if connection.doubted_at <= now < connection.doubted_at + replay or left_s <= REPLAY_LEAD_S:
        return None
    return now + timedelta(seconds=min(left_s - REPLAY_LEAD_S, 366 * 86_400.0))


def _unknown_provider(connection: ProviderConnection) -> Failure:
    return Failure(
        code=FailureCode.UNKNOWN_PROVIDER,
        message=f"no profile is configured for provider {connection.provider_slug}",
    )


def _not_refreshable(reason: str, detail: str | None = None) -> Failure:
    message = f"Cannot be refreshed: {reason}"
    return Failure(code=FailureCode.NOT_REFRESHABLE, message=message, detail=detail)
