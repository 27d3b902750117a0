"""What a refresh at the provider does to a connection: begun, succeeded, failed, left open.

Pure. The flight around these (``actors.flight``) has each result stored before it goes on;
nothing is presented to a provider whose intent is not stored.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UnsetType

from domain.connection import ConnectionStatus, ProviderConnection, RefreshIntent, Trouble
from domain.credentials import Credentials
from domain.events import (
    Event,
    ProviderClientPaused,
    ProviderClientResumed,
    ProviderConnectionStatusChanged,
    ProviderGrantNeedsReauth,
    ProviderGrantRecovered,
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshFailed,
    ProviderTokenRefreshSucceeded,
    about,
    traced,
)
from domain.exchange import Tokens, Verdict
from domain.grant_life import end_slides, grant_ends, still_told_s
from domain.profile import FailureClass, ProviderProfile
from domain.trace import Trace

PREPARATION_S_MAX = 5.0
"""How long after an intent was made its request may still be begun."""
BACKOFF_S_MIN = 1.0
BACKOFF_S_MAX = 300.0

NOT_ASKED_CODE = "not_begun"
"""Of a Failed whose attempt presented nothing."""

OUTCOME_UNKNOWN = Verdict(
    failure_class=FailureClass.AMBIGUOUS,
    code="outcome_unknown",
    reason="The daemon ended before the provider's answer was stored",
    outcome_unknown=True,
)


class Step(NamedTuple):
    """A connection after a step of a refresh, and the events that tell of it."""

    connection: ProviderConnection
    events: tuple[Event, ...]

    def traced(self, trace: Trace | None) -> "Step":
        """Return it with its events as of a trace, if there is one."""
        return Step(self.connection, tuple(traced(self.events, trace)))


def begun(
    connection: ProviderConnection,
    profile: ProviderProfile,
    *,
    attempt_id: UUID,
    owner: str,
    now: datetime,
) -> Step:
    """Return the connection with the intent to present its refresh token, and Attempted."""
    assert connection.is_active
    assert connection.intent is None
    intent = RefreshIntent(
        attempt_id=attempt_id,
        generation=connection.generation,
        owner=owner,
        started_at=now,
        deadline_at=now + timedelta(seconds=attempt_s_max(profile)),
    )
    after = msgspec.structs.replace(
        connection, intent=intent, updated_at=connection.touched_at(now)
    )
    return Step(after, (_attempted(connection, intent),))


def attempt_s_max(profile: ProviderProfile) -> float:
    """Return how long an attempt can take.

    One request, one more with each further client secret, and one without scope, each within
    ``timeout_s``, begun at most ``PREPARATION_S_MAX`` after the intent.
    """
    requests = max(profile.client_secrets, 1) + (profile.scope is not None)
    return requests * profile.timeout_s + PREPARATION_S_MAX


def succeeded(
    connection: ProviderConnection,
    tokens: Tokens,
    credentials: Credentials,
    profile: ProviderProfile,
    *,
    now: datetime,
    ids: Iterator[UUID],
) -> Step:
    """Return the connection with what the provider gave, one generation on, and Succeeded.

    Recovered, too, where it was told that the grant had ended by the calendar.

    ``granted_at`` stays: refreshing does not renew the user's consent. A refresh token that is
    kept because its successor could not be read is in doubt from this presentation on.
    """
    intent = connection.intent
    assert intent is not None
    in_doubt = tokens.replaces_unread and profile.presents != "access_token"
    after = msgspec.structs.replace(
        connection.refreshed(credentials, now=now),
        granted_at=connection.granted_at,
        doubted_at=_doubted_at(connection, profile) if in_doubt else None,
        **_end_told(connection, tokens.grant_expires_at, now),
        endpoint_base=tokens.endpoint_base or connection.endpoint_base,
    )
    told_s = still_told_s(grant_ends(after, profile), now, connection.warned_lead_s)
    after = msgspec.structs.replace(after, warned_lead_s=told_s)
    shared = about(connection)
    events: list[Event] = [
        ProviderTokenRefreshSucceeded(
            id=next(ids), occurred_at=now, attempt_id=intent.attempt_id, **shared
        )
    ]
    if connection.needs_reauth:
        events.append(ProviderGrantRecovered(id=next(ids), occurred_at=now, **shared))
    return Step(after, tuple(events))


def _end_told(
    connection: ProviderConnection, told_at: datetime | UnsetType | None, now: datetime
) -> dict[str, Any]:
    """Return what is known of the grant's end after an answer that tells ``told_at`` of it."""
    if isinstance(told_at, UnsetType):
        ends_at, slides = connection.grant_expires_at, connection.grant_slides
        return {"grant_expires_at": ends_at, "grant_slides": bool(slides) if ends_at else None}
    slides = None if told_at is None else end_slides(connection, told_at, now=now)
    return {"grant_expires_at": told_at, "grant_slides": slides}


def failed(
    connection: ProviderConnection,
    verdict: Verdict,
    profile: ProviderProfile,
    *,
    credentials: Credentials | None = None,
    draw: float,
    now: datetime,
    ids: Iterator[UUID],
) -> Step:
    """Return the connection after a failed attempt, and Failed.

    Only ``user`` ends the grant: EXPIRED, and then also StatusChanged, and NeedsReauth unless that
    was told before, by the calendar.

    Args:
        connection: With its intent, or without where nothing was presented.
        verdict: Already escalated.
        profile: The provider's.
        credentials: The present ones with a new refresh token, where that alone came. Callers have
            the same access token, so they are no new generation.
        draw: Uniform in [0, 1), for the jitter.
        now: Aware UTC.
        ids: At least three.
    """
    is_dead = verdict.failure_class is FailureClass.USER
    before = connection.trouble
    failures = (before.failures if before else 0) + verdict.counts
    is_ambiguous = verdict.failure_class is FailureClass.AMBIGUOUS
    trouble = Trouble(
        failure_class=verdict.failure_class,
        code=verdict.code,
        provider_code=verdict.provider_code,
        reason=verdict.reason,
        at=now,
        failures=failures,
        ambiguous=(before.ambiguous if before else 0) + 1 if is_ambiguous else 0,
        retry_at=_retry_at(
            verdict, failures, draw=draw, now=now, probe_interval_s=profile.probe_interval_s
        ),
    )
    intent = connection.intent
    doubted_at = None if credentials else connection.doubted_at
    after = msgspec.structs.replace(
        connection,
        status=ConnectionStatus.EXPIRED if is_dead else connection.status,
        credentials=credentials or connection.credentials,
        intent=None,
        doubted_at=_doubted_at(connection, profile) if verdict.outcome_unknown else doubted_at,
        trouble=trouble,
        updated_at=connection.touched_at(now),
    )
    events: list[Event] = [
        ProviderTokenRefreshFailed(
            id=next(ids),
            occurred_at=now,
            reason=verdict.reason,
            needs_user_action=is_dead,
            attempt_id=intent.attempt_id if intent else None,
            failure_class=verdict.failure_class,
            code=verdict.code,
            provider_code=verdict.provider_code,
            retry_at=trouble.retry_at,
            **about(connection),
        )
    ]
    if is_dead:
        events.append(
            ProviderConnectionStatusChanged(
                id=next(ids),
                occurred_at=now,
                from_status=connection.status,
                to_status=after.status,
                reason=verdict.reason,
                **about(connection),
            )
        )
    if is_dead and not connection.needs_reauth:
        events.append(
            ProviderGrantNeedsReauth(
                id=next(ids), occurred_at=now, reason=verdict.reason, **about(connection)
            )
        )
    return Step(after, tuple(events))


def not_asked(
    connection: ProviderConnection, reason: str, *, now: datetime, ids: Iterator[UUID]
) -> Step:
    """Return the connection after an attempt that presented nothing by our fault, and Failed.

    It says nothing of the provider, so what is known of that stays as it was, and Failed has no
    class: nothing counts it among the provider's failures.
    """
    intent = connection.intent
    assert intent is not None
    after = msgspec.structs.replace(connection, intent=None, updated_at=connection.touched_at(now))
    failed = ProviderTokenRefreshFailed(
        id=next(ids),
        occurred_at=now,
        reason=reason,
        needs_user_action=False,
        attempt_id=intent.attempt_id,
        code=NOT_ASKED_CODE,
        **about(connection),
    )
    return Step(after, (failed,))


def _doubted_at(connection: ProviderConnection, profile: ProviderProfile) -> datetime | None:
    """Return since when the refresh token is in doubt, now that this presentation is."""
    intent = connection.intent
    is_new = intent is not None and not profile.reuse_policy.is_free
    return connection.doubted_at or (intent.started_at if intent and is_new else None)


def left_open(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    *,
    now: datetime,
    ids: Iterator[UUID],
) -> Step:
    """Return the connection after an attempt that a crash cut off, once its deadline is past.

    Its refresh token may be spent; what may be done with it then is ``domain.token_read``'s.
    Its Attempted was stored together with the intent.
    """
    assert connection.intent is not None
    profile = profile or ProviderProfile(slug=connection.provider_slug)
    return failed(connection, OUTCOME_UNKNOWN, profile, draw=0.0, now=now, ids=ids)


def came_late(
    connection: ProviderConnection,
    given: ProviderConnection,
    told: tuple[Event, ...],
    *,
    now: datetime,
    ids: Iterator[UUID],
) -> Step:
    """Return the connection with what an attempt gave that was taken for unknown meanwhile.

    The attempt's end is told already, so this is told as one of its own.

    Args:
        connection: Of the generation that was presented, without an intent.
        given: The connection after the attempt.
        told: Its events, which are stored nowhere.
        now: Aware UTC.
        ids: At least one.
    """
    assert connection.intent is None
    attempt_id = next(ids)
    after = msgspec.structs.replace(
        connection,
        credentials=given.credentials,
        generation=given.generation,
        trouble=given.trouble,
        doubted_at=given.doubted_at,
        grant_expires_at=given.grant_expires_at,
        grant_slides=given.grant_slides,
        warned_lead_s=given.warned_lead_s,
        endpoint_base=given.endpoint_base,
        updated_at=connection.touched_at(now),
    )
    attempted = ProviderTokenRefreshAttempted(
        id=attempt_id, occurred_at=now, attempt_id=attempt_id, **about(connection)
    )
    ends = (ProviderTokenRefreshSucceeded, ProviderTokenRefreshFailed)
    renamed = (
        msgspec.structs.replace(event, attempt_id=attempt_id) if isinstance(event, ends) else event
        for event in told
    )
    return Step(after, (attempted, *renamed))


def _retry_at(
    verdict: Verdict, failures: int, *, draw: float, now: datetime, probe_interval_s: float
) -> datetime | None:
    """Return when the next attempt may be made: anywhere up to a ceiling that doubles, or as told.

    After a configuration failure, whoever's it is, up to ``probe_interval_s`` apart. A dead
    grant has no next attempt, and what a crash cut off need not wait for one.
    """
    if verdict.failure_class is FailureClass.USER or verdict is OUTCOME_UNKNOWN:
        return None
    is_ours = verdict.failure_class is FailureClass.OPERATOR
    pause_s_max = probe_interval_s if is_ours else BACKOFF_S_MAX
    ceiling_s = min(pause_s_max, BACKOFF_S_MIN * 2 ** min(max(failures - 1, 0), 16))
    floor_s = min(ceiling_s, BACKOFF_S_MIN) / 2
    pause_s = floor_s + (ceiling_s - floor_s) * draw
    if verdict.retry_after_s is not None and not is_ours:
        pause_s = max(pause_s, verdict.retry_after_s)
    return now + timedelta(seconds=pause_s)


def _attempted(
    connection: ProviderConnection, intent: RefreshIntent
) -> ProviderTokenRefreshAttempted:
    return ProviderTokenRefreshAttempted(
        id=intent.attempt_id,
        occurred_at=intent.started_at,
        attempt_id=intent.attempt_id,
        **about(connection),
    )


def with_client_paused(step: Step, verdict: Verdict, now: datetime, ids: Iterator[UUID]) -> Step:
    """Return a failure's step that also tells that by it the client was paused."""
    event = ProviderClientPaused(
        id=next(ids),
        occurred_at=now,
        code=verdict.code,
        reason=verdict.reason,
        **about(step.connection),
    )
    return Step(step.connection, (*step.events, event))


def with_client_resumed(step: Step, now: datetime, ids: Iterator[UUID]) -> Step:
    """Return an outcome's step that also tells that by it the client's pause was over."""
    event = ProviderClientResumed(id=next(ids), occurred_at=now, **about(step.connection))
    return Step(step.connection, (*step.events, event))
