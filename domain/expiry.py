"""When a token ends, from whatever shape an answer tells it in.

Every function here takes any value and never raises: an expiry that cannot be read costs a
note, never the tokens that it came with (PROVIDERS.md quirks 4 to 9 and 27). Lifetimes are
counted from the start of the request, on our clock: the token was issued later, so the end
that is reckoned is never later than the true one.
"""

import base64
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from domain.profile import ExpiryShape, ProviderProfile

SKEW_S_MIN = 30.0
"""Of two clocks that differ by no more than this nobody need be told."""
CENTURY_S = 100 * 365 * 86_400.0
"""Nothing is reckoned further ahead, so that no sum leaves the calendar."""

UNKNOWN = "expiry_unknown"
UNREADABLE = "expiry_unreadable"

_DURATION = re.compile(r"(\d{1,9}):(\d{1,2}):(\d{1,2})", re.ASCII)

_json_object = msgspec.json.Decoder(dict[str, Any])


def clock_offset_s(date: datetime | None, *, sent_at: datetime, received_at: datetime) -> float:
    """Return the least offset of the provider's clock from ours that explains its ``Date``.

    Positive where it is ahead; 0 where no difference shows, or nothing was told.

    Args:
        date: The answer's ``Date``: written at some time between the two others, with the
            fraction of its second cut off.
        sent_at: When the request began, by our clock.
        received_at: When the answer had come.

    Source:
        PROVIDERS.md quirk 9.
    """
    if date is None:
        return 0.0
    least_s = (aware(date) - received_at).total_seconds()
    most_s = (aware(date) - sent_at).total_seconds() + 1
    return max(least_s, min(most_s, 0.0))


def lifetime_s(
    value: object, profile: ProviderProfile, *, provider_now_s: float
) -> tuple[float, str | None]:
    """Return how long an access token lives, within [0, ``lifetime_max_s``], and what was odd.

    Args:
        value: What the answer has at the profile's expiry path; None where it has nothing.
        profile: Names shape, default and maximum.
        provider_now_s: The provider's time at the start of the request, since the epoch.

    Returns:
        The lifetime, and ``expiry_unknown`` or ``expiry_unreadable`` where it is the default.

    Source:
        PROVIDERS.md quirks 5, 6 and 7.
    """
    if profile.expiry_shape is ExpiryShape.NONE:
        return _clamped(profile.lifetime_default_s, profile), None
    if value is None or value == "":
        return _clamped(profile.lifetime_default_s, profile), UNKNOWN
    read_s = _READERS[profile.expiry_shape](value, provider_now_s)
    if read_s is None:
        return _clamped(profile.lifetime_default_s, profile), UNREADABLE
    return _clamped(read_s, profile), None


def jwt_lifetime_s(token: str, *, provider_now_s: float) -> float | None:
    """Return how long a JWT says that it lives, never below 0; None where it does not say.

    The signature is not checked: this is a hint about when to refresh, and trusts nobody.

    Source:
        RFC 7519 section 4.1.4; PROVIDERS.md quirk 6.
    """
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 -- header, claims, signature (RFC 7515 section 3.1)
        return None
    try:
        # Too much padding is passed over, too little is not (RFC 7515 section 2 leaves all off).
        claims = _json_object.decode(base64.b64decode(parts[1] + "==", altchars=b"-_"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    exp = claims.get("exp")
    if isinstance(exp, str):
        return None
    ends_s = number(exp)
    return None if ends_s is None else max(0.0, ends_s - provider_now_s)


def grant_lifetime_s(value: object) -> float | None:
    """Return how long a refresh token lives; infinite where it does not end; None: not told.

    Source:
        PROVIDERS.md quirk 27: 0 means that it does not end. Less tells nothing: it was just used.
    """
    read_s = number(value)
    if read_s is None or read_s < 0:
        return None
    return read_s if 0 < read_s < CENTURY_S else math.inf


def moment(sent_at: datetime, after_s: float) -> datetime:
    """Return the time ``after_s`` after the request began."""
    return sent_at + timedelta(seconds=min(CENTURY_S, after_s))


def shifted(time: datetime, by_s: float) -> datetime:
    """Return an aware UTC time so many seconds later, or the calendar's end where there is none."""
    try:
        return time + timedelta(seconds=by_s)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if by_s > 0 else datetime.min.replace(tzinfo=UTC)


def aware(time: datetime) -> datetime:
    """Return a time as UTC where it names no zone."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def number(value: object) -> float | None:
    """Return a number, or the number that a text holds; infinite where it is too large.

    True and false are none, and neither is NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf if isinstance(value, int) and value > 0 else -math.inf
    return None if math.isnan(read) else read


def _clamped(read_s: float, profile: ProviderProfile) -> float:
    # The century stands first: min() keeps it even if a profile's own bound is no number.
    return max(0.0, min(CENTURY_S, profile.lifetime_max_s, read_s))


def _seconds(value: object, _: float) -> float | None:
    """Whole seconds: a broken provider's "3599.9" is 3599."""
    read = number(value)
    return read if read is None or math.isinf(read) else float(math.trunc(read))


def _milliseconds(value: object, _: float) -> float | None:
    read = number(value)
    return None if read is None else read / 1000


def _epoch_s(value: object, provider_now_s: float) -> float | None:
    read = number(value)
    return None if read is None else read - provider_now_s


def _epoch_ms(value: object, provider_now_s: float) -> float | None:
    read = number(value)
    return None if read is None else read / 1000 - provider_now_s


def _iso8601(value: object, provider_now_s: float) -> float | None:
    """A time without a zone is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        return aware(datetime.fromisoformat(value.strip())).timestamp() - provider_now_s
    except (ValueError, OverflowError):
        return None


def _duration(value: object, _: float) -> float | None:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    hours, minutes, seconds = (int(part) for part in found.groups())
    return hours * 3600.0 + minutes * 60 + seconds


_READERS: dict[ExpiryShape, Callable[[object, float], float | None]] = {
    ExpiryShape.SECONDS: _seconds,
    ExpiryShape.MILLISECONDS: _milliseconds,
    ExpiryShape.EPOCH_S: _epoch_s,
    ExpiryShape.EPOCH_MS: _epoch_ms,
    ExpiryShape.ISO8601: _iso8601,
    ExpiryShape.DURATION: _duration,
}
