"""A token is served while it does, asked for when it must be, and never presented at a risk.

Times are seconds from NOW. Case ids name the quirk of PROVIDERS.md section 2.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from domain.commands import GetToken
from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.credentials import CredentialType, Opaque
from domain.profile import (
    NO_REUSE,
    NON_ROTATING,
    UNKNOWN_REUSE,
    FailureClass,
    ProviderProfile,
    ReusePolicy,
)
from domain.result import Failure, FailureCode
from domain.token_read import (
    GRANT_EXPIRED,
    NO_REFRESH_TOKEN,
    Ask,
    Reading,
    Serve,
    read_token,
    reauth_required,
)
from tests.domain.shapes import (
    CONNECTION_ID,
    NOW,
    SLUG,
    in_short,
    sealed,
    stored,
)

T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)
GENERATION = 7
DAY_S = 86_400.0
FRESH, STALE = Serve(stale=False), Serve(stale=True)
MUST, MAY = Ask(can_wait=False), Ask(can_wait=True)
NEVER_AGAIN = Failure(
    code=FailureCode.NOT_REFRESHABLE,
    message="Cannot be refreshed: there is no refresh token, or it has ended",
)
NO_REFRESH, OVER = reauth_required(NO_REFRESH_TOKEN), reauth_required(GRANT_EXPIRED)
NOTHING: dict[str, Any] = {}
REJECTED: dict[str, Any] = {"if_generation": GENERATION}
OLDER: dict[str, Any] = {"if_generation": GENERATION - 1}
NEWER: dict[str, Any] = {"if_generation": GENERATION + 1}
FORCE: dict[str, Any] = {"force": True}


def after(seconds: float) -> datetime:
    """Return a time so many seconds from NOW."""
    return NOW + timedelta(seconds=seconds)


def profile(**fields: Any) -> ProviderProfile:
    """Return a profile that is RFC 6749's but for ``fields``."""
    return ProviderProfile(slug=SLUG, **fields)


PLAIN = profile()
EXACT, SLOW, SETTLES = profile(max_lead_s=30), profile(interval_s_min=10), profile(settling_s=5)
WEEK = profile(grant_lifetime_s=7 * DAY_S)
CERTAIN, RARELY = profile(grant_trial_interval_s=0), profile(grant_trial_interval_s=DAY_S)
STRICT, UNKNOWN = profile(reuse_policy=NO_REUSE), profile(reuse_policy=UNKNOWN_REUSE)
FREE, GRACE = profile(reuse_policy=NON_ROTATING), profile(reuse_policy=ReusePolicy("grace", 120))


def held(
    left_s: float | None = 0.0, *, age_s: float | None = None, **changes: Any
) -> ProviderConnection:
    """Return an ACTIVE connection whose token lives ``left_s`` more; None: it never ends.

    ``age_s`` is how long ago a provider issued it; None: it came from a caller.
    """
    credentials = replace(
        sealed(),
        expires_at=None if left_s is None else after(left_s),
        issued_at=None if age_s is None else after(-age_s),
    )
    active = stored(ConnectionStatus.ACTIVE)
    return replace(active, **{"generation": GENERATION, "credentials": credentials} | changes)


def doubted(left_s: float | None, *, ago_s: float = 60.0, **changes: Any) -> ProviderConnection:
    """Return a connection whose refresh token was presented, to an unknown end."""
    return held(left_s, age_s=3600, doubted_at=after(-ago_s), **changes)


def redated(
    ago_s: float | None, *, ahead_s: float = DAY_S, lifetime_s: float = 3600, **changes: Any
) -> ProviderConnection:
    """Return a connection whose token was issued by a clock that is ahead.

    That was seen so long ago; None: it was not.
    """
    ahead = held(ahead_s + lifetime_s, age_s=-ahead_s).credentials
    assert ahead is not None
    redated_at = None if ago_s is None else after(-ago_s)
    return held(credentials=replace(ahead, redated_at=redated_at), **changes)


def trouble(failure_class: FailureClass, retry_s: float | None = None) -> Trouble:
    """Return a trouble that forbids asking until ``retry_s`` from now."""
    retry_at = None if retry_s is None else after(retry_s)
    return Trouble(
        failure_class=failure_class, code="code", reason="It broke", at=NOW, retry_at=retry_at
    )


BACKOFF: dict[str, Any] = {"trouble": trouble(T, 10.01)}
AMBIGUOUS: dict[str, Any] = {"trouble": trouble(A, 5)}
ENDED: dict[str, Any] = {"grant_expires_at": NOW}
ENDED_BEFORE: dict[str, Any] = {"grant_expires_at": after(-7200)}


def tried(ago_s: float, left_s: float = 0.0) -> ProviderConnection:
    """Return a connection past its end, whose last refresh failed so long ago."""
    failed = replace(trouble(T), at=after(-ago_s))
    return held(left_s, trouble=failed, **ENDED_BEFORE)


def unavailable(
    retry_after_s: float, code: FailureCode = FailureCode.PROVIDER_UNAVAILABLE
) -> Failure:
    """Return the answer while the provider must not be asked."""
    return Failure(
        code=code, message="It broke", needs_user_action=False, retry_after_s=retry_after_s
    )


def misconfigured_for(retry_after_s: float) -> Failure:
    """Return the answer while our configuration is wrong."""
    return unavailable(retry_after_s, FailureCode.PROVIDER_MISCONFIGURED)


class Case(NamedTuple):
    """How a token reads: what is stored, of which provider, and what is asked for."""

    expected: Reading
    connection: ProviderConnection
    profile: ProviderProfile = PLAIN
    ask: dict[str, Any] = NOTHING
    presented: bool = True


CASES = {
    "lives-longer": Case(FRESH, held(60.1)),
    "lives-as-long": Case(MAY, held(60.0)),
    "lives-longer-than-a-long-wish": Case(FRESH, held(301), PLAIN, {"min_ttl_s": 300}),
    "lives-shorter-than-a-long-wish": Case(MAY, held(299), PLAIN, {"min_ttl_s": 300}),
    "lives-and-no-more-is-asked": Case(FRESH, held(0.1), PLAIN, {"min_ttl_s": 0}),
    "ends-now": Case(MUST, held(0.0), PLAIN, {"min_ttl_s": 0}),
    "has-ended": Case(MUST, held(-1.0)),
    "never-ends": Case(FRESH, held(None), PLAIN, {"min_ttl_s": 1e12}),
    "force": Case(MAY, held(3000), PLAIN, FORCE),
    "force-never-ends": Case(MAY, held(None), PLAIN, FORCE),
    "force-has-ended": Case(MUST, held(-1), PLAIN, FORCE),
    "rejected": Case(MUST, held(3000), PLAIN, REJECTED),
    "rejected-never-ends": Case(MUST, held(None), PLAIN, REJECTED),
    "older-rejected": Case(FRESH, held(3000), PLAIN, OLDER),
    "older-rejected-lives-shorter": Case(MAY, held(30), PLAIN, OLDER),
    "newer-rejected": Case(FRESH, held(3000), PLAIN, NEWER),
    "quirk-11-half-a-life": Case(STALE, held(151, age_s=149), PLAIN, {"min_ttl_s": 600}),
    "quirk-11-no-half": Case(MAY, held(150, age_s=150), PLAIN, {"min_ttl_s": 600}),
    "quirk-11-exactly-as-asked": Case(STALE, held(100, age_s=50), PLAIN, {"min_ttl_s": 100}),
    "quirk-11-half-a-blink": Case(STALE, held(0.3, age_s=0.2), profile(interval_s_min=0)),
    "quirk-11-born-dead-of-a-faster-clock": Case(MUST, held(-10, age_s=-20)),
    "quirk-11-born-dead": Case(MUST, held(-50, age_s=20), PLAIN, {"min_ttl_s": 600}),
    "quirk-11-life-unknown": Case(MAY, held(151), PLAIN, {"min_ttl_s": 600}),
    "quirk-10-before-the-lead": Case(STALE, held(31), EXACT),
    "quirk-10-within-the-lead": Case(MAY, held(30), EXACT),
    "quirk-10-wish-below-the-lead": Case(FRESH, held(25), EXACT, {"min_ttl_s": 20}),
    "quirk-10-forced-early": Case(STALE, held(31), EXACT, FORCE),
    "quirk-10-forced-in-time": Case(MAY, held(30), EXACT, FORCE),
    "quirk-10-rejected-early": Case(MUST, held(31), EXACT, REJECTED),
    "quirk-5-just-issued": Case(
        replace(unavailable(10), message="The provider cannot be asked now"),
        held(0, age_s=9.9),
        SLOW,
    ),
    "quirk-5-just-issued-lives": Case(STALE, held(1, age_s=9.9), SLOW),
    "quirk-5-issued-this-moment": Case(
        replace(unavailable(10), message="The provider cannot be asked now"), held(0, age_s=0), SLOW
    ),
    "quirk-5-issued-long-ago": Case(MUST, held(0, age_s=10), SLOW),
    "quirk-5-forced": Case(MUST, held(0, age_s=9.9), SLOW, FORCE),
    "quirk-5-rejected": Case(MUST, held(0, age_s=9.9), SLOW, REJECTED),
    "quirk-5-from-a-caller": Case(MUST, held(0), SLOW),
    "quirk-36-rejected-early": Case(STALE, held(99, age_s=4.9), SETTLES, REJECTED),
    "quirk-36-rejected-at-once": Case(STALE, held(99, age_s=0), SETTLES, REJECTED),
    "quirk-36-rejected-late": Case(MUST, held(99, age_s=5), SETTLES, REJECTED),
    "quirk-36-both": Case(STALE, held(99, age_s=4.9), SETTLES, FORCE | REJECTED),
    "quirk-36-forced": Case(MAY, held(99, age_s=4.9), SETTLES, FORCE),
    "quirk-38-lives-longer": Case(FRESH, held(61), presented=False),
    "quirk-38-lives": Case(STALE, held(1), presented=False),
    "quirk-38-forced": Case(STALE, held(99), PLAIN, FORCE, presented=False),
    "quirk-38-has-ended": Case(NO_REFRESH, held(0), presented=False),
    "quirk-38-rejected": Case(NEVER_AGAIN, held(99), PLAIN, REJECTED, presented=False),
    "quirk-38-rejected-ended": Case(NO_REFRESH, held(0), PLAIN, REJECTED, False),
    "quirk-38-and-25": Case(NO_REFRESH, held(0, **ENDED), presented=False),
    "quirk-25-ended": Case(MUST, held(0, **ENDED)),
    "quirk-25-ended-not-to-be-tried": Case(OVER, held(0, **ENDED), CERTAIN),
    "quirk-25-ended-in-doubt": Case(OVER, doubted(0, **ENDED), STRICT),
    "quirk-25-ended-in-doubt-rejected": Case(OVER, doubted(0, **ENDED), STRICT, REJECTED),
    "quirk-25-ended-in-doubt-within-the-grace": Case(OVER, doubted(0, **ENDED), GRACE),
    "quirk-25-ended-in-doubt-that-is-free": Case(MUST, doubted(0, **ENDED), FREE),
    "quirk-25-ended-and-just-tried": Case(OVER, tried(0)),
    "quirk-25-ended-and-tried": Case(OVER, tried(3599)),
    "quirk-25-ended-and-tried-long-ago": Case(MUST, tried(3600)),
    "quirk-25-ended-and-tried-long-ago-lives": Case(STALE, tried(3600, 1)),
    "quirk-25-ended-and-tried-as-it-ended": Case(OVER, tried(7200), RARELY),
    "quirk-25-ended-and-failed-before-it": Case(MUST, tried(7201), RARELY),
    "quirk-25-ended-and-tried-by-a-faster-clock": Case(MUST, tried(-1)),
    "quirk-25-ended-and-must-not-be-asked": Case(
        unavailable(10.1), held(0, trouble=replace(trouble(T, 10.01), at=after(-1)), **ENDED)
    ),
    "quirk-25-outlived-by-its-tokens": Case(MUST, held(0, age_s=7200, **ENDED_BEFORE), CERTAIN),
    "quirk-25-not-outlived-by-its-tokens": Case(
        OVER, held(0, age_s=7200.1, **ENDED_BEFORE), CERTAIN
    ),
    "quirk-25-ends-soon": Case(MUST, held(0, grant_expires_at=after(0.1))),
    "quirk-25-outlived": Case(STALE, held(1, **ENDED)),
    "quirk-25-outlived-rejected": Case(MUST, held(1, **ENDED), PLAIN, REJECTED),
    "quirk-25-outlived-rejected-never-tried": Case(
        NEVER_AGAIN, held(1, **ENDED), CERTAIN, REJECTED
    ),
    "quirk-25-week-over": Case(
        OVER, held(0, granted_at=after(-7 * DAY_S)), replace(WEEK, grant_trial_interval_s=0)
    ),
    "quirk-25-week-not-over": Case(MUST, held(0, granted_at=after(1 - 7 * DAY_S)), WEEK),
    "quirk-25-week-from-nowhere": Case(MUST, held(0), WEEK),
    "backoff": Case(unavailable(10.1), held(0, **BACKOFF)),
    "backoff-over": Case(MUST, held(0, trouble=trouble(T, 0))),
    "backoff-nearly-over": Case(unavailable(1.0), held(0, trouble=trouble(T, 0.3))),
    "backoff-ambiguous": Case(unavailable(10), held(0, trouble=trouble(A, 10))),
    "backoff-operator": Case(misconfigured_for(10), held(0, trouble=trouble(O, 10))),
    "backoff-satisfied": Case(FRESH, held(61, **BACKOFF)),
    "backoff-lives": Case(STALE, held(1, **BACKOFF)),
    "backoff-lives-forced": Case(STALE, held(99, **BACKOFF), PLAIN, FORCE),
    "backoff-rejected": Case(unavailable(10.1), held(99, **BACKOFF), PLAIN, REJECTED),
    "backoff-forced": Case(unavailable(10.1), held(0, **BACKOFF), PLAIN, FORCE),
    "trouble-without-backoff": Case(MUST, held(0, trouble=trouble(A))),
    "quirk-23-lives": Case(STALE, doubted(31), STRICT),
    "quirk-23-nearly-over": Case(MAY, doubted(30), STRICT),
    "quirk-23-over": Case(MUST, doubted(0), STRICT),
    "quirk-23-rejected": Case(MUST, doubted(3000), STRICT, REJECTED),
    "quirk-23-forced": Case(STALE, doubted(3000), STRICT, FORCE),
    "quirk-23-never-ends": Case(STALE, doubted(None), STRICT, FORCE),
    "quirk-23-never-ends-rejected": Case(MUST, doubted(None), STRICT, REJECTED),
    "quirk-23-backoff": Case(unavailable(5), doubted(0, **AMBIGUOUS), STRICT, REJECTED),
    "quirk-23-unknown-lives": Case(STALE, doubted(31), UNKNOWN),
    "quirk-23-unknown-nearly-over": Case(MAY, doubted(30), UNKNOWN),
    "quirk-23-unknown-rejected": Case(MUST, doubted(3000), UNKNOWN, REJECTED),
    "quirk-20-non-rotating": Case(MAY, doubted(31), FREE),
    "quirk-20-non-rotating-forced": Case(MAY, doubted(3000), FREE, FORCE),
    "quirk-21-just-now": Case(MAY, doubted(31, ago_s=0), GRACE),
    "quirk-21-inside": Case(MAY, doubted(31, ago_s=114.9), GRACE),
    "quirk-21-outside": Case(STALE, doubted(31, ago_s=115), GRACE),
    "quirk-21-outside-nearly-over": Case(MAY, doubted(30, ago_s=115), GRACE),
    "quirk-21-outside-rejected": Case(MUST, doubted(31, ago_s=115), GRACE, REJECTED),
    "quirk-21-inside-backoff": Case(STALE, doubted(31, ago_s=1, **AMBIGUOUS), GRACE),
    # A doubt or a token that a faster clock wrote lies in this one's future.
    "quirk-23-doubt-of-a-faster-clock": Case(STALE, doubted(3000, ago_s=-60), STRICT, FORCE),
    "quirk-23-unknown-of-a-faster-clock": Case(STALE, doubted(3000, ago_s=-60), UNKNOWN, FORCE),
    "quirk-36-nothing-settles": Case(MUST, held(99, age_s=-60), PLAIN, REJECTED),
    "backoff-of-a-faster-clock": Case(MUST, held(0, trouble=replace(trouble(T, 9), at=after(1)))),
    "issued-by-a-faster-clock": Case(MAY, held(3000, age_s=-31)),
    "issued-by-a-slightly-faster-clock": Case(FRESH, held(3000, age_s=-30)),
    "issued-by-a-faster-clock-early": Case(MAY, held(3000, age_s=-31), EXACT),
    "issued-by-a-faster-clock-just-now": Case(MAY, held(3000, age_s=-31), SLOW),
    "issued-by-a-faster-clock-and-last": Case(STALE, held(3000, age_s=-31), presented=False),
    "issued-by-a-faster-clock-in-doubt": Case(STALE, redated(None, doubted_at=NOW), STRICT, FORCE),
    "issued-by-a-faster-clock-in-doubt-and-short": Case(
        MAY, redated(None, lifetime_s=30, doubted_at=NOW), STRICT
    ),
    # Its lifetime is an hour, from when the clock was first seen to be behind.
    "redated-lives": Case(MAY, redated(1000)),
    "redated-lives-and-no-more-is-asked": Case(MAY, redated(1000), PLAIN, {"min_ttl_s": 0}),
    "redated-and-last": Case(STALE, redated(1000), presented=False),
    "redated-has-ended": Case(MUST, redated(3600)),
    "redated-in-doubt-lives": Case(STALE, redated(3569, doubted_at=NOW), STRICT, FORCE),
    "redated-in-doubt-nearly-over": Case(MAY, redated(3570, doubted_at=NOW), STRICT),
    "redated-in-doubt-over": Case(MUST, redated(3600, doubted_at=NOW), STRICT),
    "redated-in-doubt-rejected": Case(MUST, redated(1000, doubted_at=NOW), STRICT, REJECTED),
    "redated-and-caught-up": Case(MAY, redated(1000, ahead_s=0)),
    "redated-and-caught-up-later": Case(MUST, redated(DAY_S, ahead_s=-60)),
    "redated-and-caught-up-just-now": Case(MAY, redated(1000, ahead_s=-5), SLOW),
    "redated-and-caught-up-rejected": Case(MUST, redated(1000, ahead_s=-4), SETTLES, REJECTED),
    "redated-never-ends": Case(
        MAY, held(credentials=replace(sealed(), issued_at=NOW, redated_at=after(-9)))
    ),
    # A profile's times are at most a century.
    "quirk-25-outlives-the-calendar": Case(
        MUST, held(0, granted_at=NOW), profile(grant_lifetime_s=3e9)
    ),
}


def read(
    connection: ProviderConnection | None,
    of: ProviderProfile | None = PLAIN,
    *,
    presented: bool = True,
    **ask: Any,
) -> Reading:
    """Return the reading at NOW."""
    wish = GetToken(connection_id=CONNECTION_ID, **ask)
    return read_token(connection, wish, of, presented=presented, now=NOW)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_state_of_a_token_reads_as_it_should(case: Case) -> None:
    reading = in_short(read(case.connection, case.profile, presented=case.presented, **case.ask))

    assert (type(reading), reading) == (type(case.expected), case.expected)


@pytest.mark.parametrize(
    ("left_s", "ask", "is_served"),
    [(61, NOTHING, True), (60, NOTHING, False), (61, FORCE, False), (61, REJECTED, False)],
)
def test_without_a_profile_a_token_is_served_but_never_asked_for(
    left_s: float, ask: dict[str, Any], is_served: bool
) -> None:
    unknown = Failure(
        code=FailureCode.UNKNOWN_PROVIDER,
        message=f"no profile is configured for provider {SLUG}",
    )

    reading = read(held(left_s), None, **ask)

    assert reading == (FRESH if is_served else unknown)
    assert isinstance(reading, Serve | Failure)
    assert read(held(-1, age_s=-100), None) == unknown


def test_of_no_connection_there_is_no_token() -> None:
    assert read(None) == Failure(
        code=FailureCode.CONNECTION_NOT_FOUND, message="Connection not found"
    )


@pytest.mark.parametrize("status", [s for s in ConnectionStatus if s != "active"])
@pytest.mark.parametrize("failure_class", [None, *FailureClass])
def test_only_an_active_connection_has_a_token(
    status: ConnectionStatus, failure_class: FailureClass | None
) -> None:
    reading = in_short(
        read(replace(stored(status), trouble=trouble(failure_class) if failure_class else None))
    )

    is_dead_grant = status is ConnectionStatus.EXPIRED and failure_class is U
    assert reading == Failure(
        code=FailureCode.REAUTH_REQUIRED if is_dead_grant else FailureCode.NOT_ACTIVE,
        message="It broke" if is_dead_grant else "Connection is not active",
        needs_user_action=True,
    )


OTHERS = set(CredentialType) - {CredentialType.OAUTH2, CredentialType.LINK_TOKEN}


@pytest.mark.parametrize("kind", CredentialType)
def test_only_tokens_that_we_sealed_can_be_read(kind: CredentialType) -> None:
    ours = replace(held(999).credentials or sealed(), credential_type=kind)
    message = "Cannot be refreshed: "
    no_token = Failure(
        code=FailureCode.NOT_REFRESHABLE, message=message + f"{kind} credentials hold no token"
    )

    assert read(held(credentials=ours)) == (no_token if kind in OTHERS else FRESH)
    assert read(held(credentials=replace(ours, payload=Opaque(data=b"x")))) == Failure(
        code=FailureCode.NOT_REFRESHABLE,
        message=message + "the credentials were sealed by the caller",
    )
