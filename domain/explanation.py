"""What to tell a person of a connection: where it stands, why, what comes next, what to do.

Pure, of the record, the provider's profile and what holds its requests back. The sentences are for
people and may change; programs read the fields beside them. Nothing of a credential is in them.

Source:
    ``domain.due`` says what is next, ``domain.grant_life`` when a grant ends.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

import msgspec

from domain.advice import Advice, HeldBack, advice, is_newer
from domain.connection import ConnectionStatus, Ended, ProviderConnection, Trouble
from domain.credentials import Opaque
from domain.due import Due, DueKind, next_due
from domain.ending import ending, is_by_provider
from domain.expiry import shifted
from domain.grant_life import (
    EndCause,
    access_ends_at,
    grant_ends,
    is_over_by,
    is_refreshable,
)
from domain.profile import FailureClass, ProviderProfile, RefreshMode, ReusePolicy
from domain.time_words import span, when


class NextKind(StrEnum):
    """What comes next by itself."""

    REFRESH = "refresh"
    KEEP_ALIVE = "keep_alive"
    RETRY = "retry"
    WARNING = "warning"
    OUTCOME = "outcome"
    """A refresh is under way: it ends, one way or the other."""
    NOTHING = "nothing"


class NextStep(msgspec.Struct, frozen=True, kw_only=True):
    """What comes next, nobody having asked."""

    kind: NextKind
    at: datetime | None
    """At the earliest, and usually then; None: not by itself."""
    text: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A connection in words, as of one moment."""

    connection_id: str
    provider_slug: str
    status: ConnectionStatus
    as_of: datetime
    """By the daemon's clock; all that is near or far in the words counts from it."""
    stands: str
    because: tuple[str, ...]
    next: NextStep
    advice: Advice


def explained(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    held_back: HeldBack | None,
    *,
    now: datetime,
    taken_at: datetime | None = None,
) -> Explanation:
    """Return a connection in words. Never raises, whatever the times.

    Args:
        connection: As it is stored.
        profile: The provider's; None where the slug has none.
        held_back: Why the provider is asked nothing now by what its connections share, if so.
        now: Aware UTC.
        taken_at: Since when the provider's configuration is as it is, as far as is known.
    """
    taken_at = taken_at if is_newer(connection, taken_at) else None
    return Explanation(
        connection_id=str(connection.id),
        provider_slug=connection.provider_slug,
        status=connection.status,
        as_of=now,
        stands=_stands(connection, now),
        because=tuple(_because(connection, profile, held_back, taken_at, now)),
        next=_next(connection, profile, held_back, now),
        advice=advice(connection, profile, held_back, now=now, is_changed=taken_at is not None),
    )


def _stands(connection: ProviderConnection, now: datetime) -> str:
    match connection.status:
        case ConnectionStatus.ACTIVE:
            return _active(connection, now)
        case ConnectionStatus.PENDING:
            since = when(connection.created_at, now)
            return f"pending since {since}: its user has not signed in yet"
        case ConnectionStatus.EXPIRED:
            return "expired: no token is given out, and its credentials are kept for audit alone"
        case ConnectionStatus.REVOKED:
            return "revoked: no token is given out, and its credentials are kept for audit alone"
        case ConnectionStatus.FAILED:
            return "failed: its user did not get through"
        case ConnectionStatus.DISCONNECTED:
            return "disconnected for good: its credentials are gone, and nothing leaves this state"


def _active(connection: ProviderConnection, now: datetime) -> str:
    credentials, ends_at = connection.credentials, access_ends_at(connection)
    is_token = credentials is not None and credentials.credential_type.is_refreshable
    thing = "its access token" if is_token else "what it holds"
    if ends_at is None:
        return f"active: {thing} has no known end"
    if ends_at > now:
        return f"active: {thing} lives until {when(ends_at, now)}"
    return f"active, but {thing} ended {when(ends_at, now)}"


def _because(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    held_back: HeldBack | None,
    taken_at: datetime | None,
    now: datetime,
) -> Iterator[str]:
    """Yield what has led here, the most pressing first."""
    intent, trouble = connection.intent, connection.trouble
    if intent is not None:
        yield (
            f"daemon {intent.owner} has been asking the provider for new tokens since "
            f"{when(intent.started_at, now)}"
        )
    ended = ending(connection)
    if ended is not None and not is_by_provider(connection):
        yield from _ended(connection, ended, now)
        return
    if trouble is not None:
        yield from _failure(trouble, now)
    if taken_at is not None:
        yield (
            f"[providers.{connection.provider_slug}] was taken anew after that, "
            f"{when(taken_at, now)}: whether it is right now the next try tells"
        )
    if not connection.is_active:
        return
    if held_back is not None:
        yield (
            f"nobody asks this provider for {span(max(held_back.left_s, 1))}: {held_back.reason}"
            f" ({_MEANING[held_back.failure_class]})"
        )
    if connection.doubted_at is not None:
        yield _doubt(connection.doubted_at, profile, now)
    if connection.needs_reauth:
        yield "by the calendar the grant has ended, and that was told as an event"
    yield from _limits(connection, profile, now)


_ENDED_BY_COMMAND = {
    ConnectionStatus.EXPIRED: "it was marked as expired",
    ConnectionStatus.REVOKED: "it was revoked",
    ConnectionStatus.FAILED: "it was marked as failed",
    ConnectionStatus.DISCONNECTED: "its owner disconnected it",
}
_MEANING = {
    FailureClass.TRANSIENT: "it may work later, and the grant is kept",
    FailureClass.OPERATOR: "the configuration is at fault; the grant is kept",
    FailureClass.USER: "the grant is dead, and only its user can mend that",
    FailureClass.AMBIGUOUS: "what that means cannot be told yet; the grant is kept",
}
_FEW = 1


def _ended(connection: ProviderConnection, ended: Ended, now: datetime) -> Iterator[str]:
    """Yield what is known of one that a command has ended."""
    is_told = connection.status is not ConnectionStatus.DISCONNECTED
    why = f": {ended.reason}" if ended.reason else ", and no reason is kept" * is_told
    yield f"{_ENDED_BY_COMMAND[connection.status]} {when(ended.at, now)}{why}"
    if connection.trouble is not None:
        yield f"before that {_last_failure(connection.trouble, now)}"


def _last_failure(trouble: Trouble, now: datetime) -> str:
    theirs = trouble.provider_code
    code = (
        trouble.code
        if theirs in (None, trouble.code)
        else f"{trouble.code}, by the provider {theirs}"
    )
    return f"the last refresh failed {when(trouble.at, now)}: {trouble.reason} ({code})"


def _failure(trouble: Trouble, now: datetime) -> Iterator[str]:
    yield _last_failure(trouble, now)
    meaning = _MEANING[trouble.failure_class]
    row = f"; {trouble.failures} failures in a row" if trouble.failures > _FEW else ""
    yield f"{meaning}{row}"


def _doubt(doubted_at: datetime, profile: ProviderProfile | None, now: datetime) -> str:
    policy = ReusePolicy("unknown") if profile is None else profile.reuse_policy
    if policy.is_free:
        then = "the provider takes it again, so it is tried again"
    elif (until := shifted(doubted_at, policy.replay_s)) > now:
        then = f"the provider takes it again until {when(until, now)}"
    else:
        then = (
            "presented again it could end the grant, so it waits until the access token is about "
            "to end"
        )
    return f"since {when(doubted_at, now)} the refresh token may be spent: {then}"


def _limits(
    connection: ProviderConnection, profile: ProviderProfile | None, now: datetime
) -> Iterator[str]:
    """Yield what bounds an ACTIVE connection: what it lacks, and when its grant ends."""
    credentials = connection.credentials
    assert credentials is not None
    if isinstance(credentials.payload, Opaque):
        yield "its credentials were sealed by the caller: the daemon cannot read or refresh them"
    elif not credentials.credential_type.is_refreshable:
        yield f"{credentials.credential_type} credentials are stored and never refreshed"
    elif profile is None:
        yield f"no profile is configured for provider {connection.provider_slug}"
    for end in sorted(grant_ends(connection, profile or _profile_of(connection))):
        at = when(end.at, now)
        verb = "ends" if end.at > now else "ended"
        yield {
            EndCause.LIFETIME: f"the grant {verb} {at}, however often it is used",
            EndCause.IDLE: f"the grant {verb} {at}, unless it is refreshed before",
            EndCause.NO_REFRESH_TOKEN: f"there is no refresh token: it {verb} {at}",
        }[end.cause]
    if profile is not None and is_refreshable(connection) and _is_on_demand(connection, profile):
        yield "it is refreshed on demand: when a caller needs a token"
    if credentials.notes:
        yield f"noted of its credentials: {', '.join(credentials.notes)}"


def _profile_of(connection: ProviderConnection) -> ProviderProfile:
    return ProviderProfile(slug=connection.provider_slug)


def _is_on_demand(connection: ProviderConnection, profile: ProviderProfile) -> bool:
    return (connection.refresh or profile.refresh) is RefreshMode.ON_DEMAND


def _next(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    held_back: HeldBack | None,
    now: datetime,
) -> NextStep:
    due = next_due(connection, profile, now=now)
    if connection.intent is not None:
        at = connection.intent.deadline_at
        text = f"the refresh under way has its outcome by {when(at, now)} at the latest"
        return NextStep(kind=NextKind.OUTCOME, at=at, text=text)
    if due is None:
        text = _nothing(connection, profile)
        return NextStep(kind=NextKind.NOTHING, at=None, text=text)
    at = due.at
    is_held = held_back is not None and due.kind is not DueKind.WARNING
    if held_back is not None and is_held:
        at = max(at, shifted(now, held_back.left_s))
    is_trial = profile is not None and is_over_by(connection, profile, at)
    text = _step(Due(at, due.kind), now, is_trial=is_trial)
    if is_held and at > due.at:
        text = f"{text}, when requests are let through again"
    return NextStep(kind=NextKind(due.kind), at=at, text=text)


def _step(due: Due, now: datetime, *, is_trial: bool) -> str:
    at = "now, in its turn" if due.at <= now else f"at {when(due.at, now)}"
    if is_trial and due.kind is not DueKind.WARNING:
        return (
            f"the provider is asked {at}, as a trial: by the calendar the grant has ended by then"
        )
    return {
        DueKind.REFRESH: f"its access token is refreshed {at}",
        DueKind.KEEP_ALIVE: f"it is refreshed {at}, for the grant must not lie unused",
        DueKind.RETRY: f"the provider is asked again {at}",
        DueKind.WARNING: f"an event tells {at} that the grant ends",
    }[due.kind]


def _nothing(connection: ProviderConnection, profile: ProviderProfile | None) -> str:
    if not connection.is_active:
        return "nothing happens by itself"
    if not is_refreshable(connection) or profile is None:
        return "nothing happens by itself: it cannot be refreshed"
    if _is_on_demand(connection, profile):
        return "nothing happens by itself: it is refreshed when a caller needs a token"
    return "nothing happens by itself: nothing of it ends, or it may not be presented again"
