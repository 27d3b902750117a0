"""What came of an exchange with a token endpoint: tokens, or a verdict on the failure.

The tables are in ``domain.verdict_table``. They are looked at in this order, and the first
that knows the case decides:

1. how the exchange ended: not sent, misconfigured, lost (but for tokens in what came of it);
2. a status of 500 or more: transient whatever the body says, for a grant never dies of a
   broken server, and whatever failed there may have failed after the rotation;
3. the profile's ``error_map``;
4. 408, 425, 429: a rate limit, whatever the body says (quirk 35);
5. the error code, exactly; where it is unknown or means the user, the finer code beside it;
6. 400 and 403 with the headers of a rate limit, unless the code was definite;
7. the status; an error code that nobody knows; anything else.

Codes are compared as they are; a description is looked at by an ``error_map`` only.
"""

import re
from email.utils import parsedate_to_datetime

from msgspec.structs import replace

from domain.answers import Refusal, read_answer
from domain.exchange import (
    Answered,
    Exchange,
    Lost,
    Misconfigured,
    NotSent,
    Reach,
    Tokens,
    Verdict,
)
from domain.expiry import aware
from domain.profile import ErrorRule, FailureClass, ProviderProfile
from domain.verdict_table import (
    CODES,
    GATEWAY_STATUSES,
    INVALID_GRANT,
    LIMITING_STATUSES,
    LOST,
    MISCONFIGURED,
    NO_TOKENS,
    NOT_SENT,
    OF_ONE_CONNECTION,
    OF_ONE_HOST,
    PAGE,
    RATE_LIMITED,
    RULED,
    SCOPE_LOST,
    SCOPE_REFUSED,
    SERVER_ERROR,
    SUB_CODES,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNKNOWN_ERROR,
    WAIT_STATUSES,
    WRONG_ENDPOINT,
)

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_NUMBER = re.compile(r"\d{1,100}(\.\d{1,20})?", re.ASCII)


def judge(profile: ProviderProfile, exchange: Exchange, *, sent_scope: bool) -> Tokens | Verdict:
    """Return the tokens that an exchange brought, or what its failure means. Never raises.

    Args:
        profile: The provider's.
        exchange: What came of one request.
        sent_scope: Whether the request named a scope.

    Source:
        PROVIDERS.md section 4.
    """
    match exchange:
        case NotSent(code=code):
            return replace(NOT_SENT, code=_word(code) or NOT_SENT.code)
        case Lost(code=code, cut=cut):
            rescued = cut and read_answer(profile, cut, is_cut=True)
            if isinstance(rescued, Tokens):
                return rescued
            return _keeping(rescued, replace(LOST, code=_word(code) or LOST.code))
        case Misconfigured(code=code):
            return replace(
                MISCONFIGURED,
                code=_word(code) or MISCONFIGURED.code,
                reach=_reach_of(code),
            )
        case Answered():
            answer = read_answer(profile, exchange)
            if isinstance(answer, Tokens):
                return answer
            return _refused(profile, exchange, answer, sent_scope=sent_scope)


def _reach_of(code: str) -> Reach:
    """Return how far a reason not to ask may reach."""
    if code in OF_ONE_CONNECTION:
        return Reach.CONNECTION
    return Reach.HOST if code in OF_ONE_HOST else Reach.CLIENT


def _refused(
    profile: ProviderProfile, answered: Answered, refusal: Refusal, *, sent_scope: bool
) -> Verdict:
    """Return the verdict with what the answer adds to it: the provider's code, and Retry-After.

    A Retry-After is meant for the whole client (quirk 34).
    """
    wait_s = retry_after_s(answered, profile)
    is_limited = answered.is_rate_limited or wait_s is not None
    verdict = _found(profile, answered.status, refusal, sent_scope=sent_scope, limited=is_limited)
    verdict = replace(
        verdict,
        provider_code=verdict.provider_code or _word(refusal.code),
        tries_next_secret=verdict.tries_next_secret and not verdict.outcome_unknown,
        drops_scope=verdict.drops_scope and sent_scope and not verdict.outcome_unknown,
    )
    if verdict.failure_class is FailureClass.TRANSIENT and wait_s is not None:
        verdict = replace(verdict, retry_after_s=wait_s, cools_client=True)
    return _keeping(refusal, verdict)


def _keeping(refusal: Refusal | None, verdict: Verdict) -> Verdict:
    """Return the verdict with the new refresh token that came all the same: it is in no doubt."""
    if refusal is None or refusal.refresh_token is None:
        return verdict
    return replace(verdict, refresh_token=refusal.refresh_token, outcome_unknown=False)


def _found(
    profile: ProviderProfile, status: int, refusal: Refusal, *, sent_scope: bool, limited: bool
) -> Verdict:
    """Return what the tables say, in the order that the module names."""
    rule = _rule(profile, status, refusal)
    if status >= 500:  # noqa: PLR2004 -- 5xx, and what is beyond HTTP
        return _server_failed(status, rule)
    if rule is not None or status in WAIT_STATUSES:
        return _ruled(rule) if rule else RATE_LIMITED
    coded = _by_code(refusal, sent_scope=sent_scope)
    if coded is not None and coded.failure_class is not FailureClass.AMBIGUOUS:
        return coded
    if limited and status in LIMITING_STATUSES:
        return RATE_LIMITED
    return coded or _by_status(status, refusal)


def _rule(profile: ProviderProfile, status: int, refusal: Refusal) -> ErrorRule | None:
    """Return the profile's first line that applies, or None."""
    return next((rule for rule in profile.error_map if _applies(rule, status, refusal)), None)


def _server_failed(status: int, rule: ErrorRule | None) -> Verdict:
    """Return what a 5xx means: whatever a line says, it is transient, and in doubt.

    Only a line that says so in as many words takes the doubt away.
    """
    verdict = UNAVAILABLE if status in GATEWAY_STATUSES else SERVER_ERROR
    if rule is None:
        return verdict
    if rule.verdict is FailureClass.TRANSIENT:
        verdict = _ruled(rule)
    return replace(verdict, outcome_unknown=rule.spends is not False)


def _ruled(rule: ErrorRule) -> Verdict:
    """Return what a line gives: the row of its canonical code if that is of its class."""
    verdict = CODES.get(rule.canonical or "")
    if verdict is None or verdict.failure_class is not rule.verdict:
        verdict = RULED[rule.verdict]
        if rule.cools and rule.verdict is FailureClass.TRANSIENT:
            verdict = RATE_LIMITED
    return replace(
        verdict,
        code=rule.canonical or verdict.code,
        counts=not rule.cools,
        cools_client=rule.cools,
        outcome_unknown=verdict.outcome_unknown if rule.spends is None else rule.spends,
    )


def _applies(rule: ErrorRule, status: int, refusal: Refusal) -> bool:
    if rule.status is not None and rule.status != status:
        return False
    if rule.code is not None and rule.code != refusal.code:
        return False
    if rule.pattern is None:
        return True
    try:
        return re.search(rule.pattern, refusal.description or "") is not None
    except re.error:
        return False


def _by_code(refusal: Refusal, *, sent_scope: bool) -> Verdict | None:
    """Return what the error code means, or None where it is not known."""
    verdict = CODES.get(refusal.code or "")
    if verdict is SCOPE_REFUSED and not sent_scope:
        return SCOPE_LOST
    if refusal.has_error and (verdict is None or verdict.failure_class is FailureClass.USER):
        for code in refusal.sub_codes:
            if code in SUB_CODES:
                return replace(SUB_CODES[code], provider_code=code)
    return verdict


def _by_status(status: int, refusal: Refusal) -> Verdict:
    """Return what is left to say where no code is known."""
    if status // 100 == 3 or status in (404, 405, 410):  # noqa: PLR2004 -- 3xx
        return WRONG_ENDPOINT
    if status == 407 or (status in (400, 401, 403) and refusal.is_page):  # noqa: PLR2004 -- HTTP's
        return PAGE
    if status == 401 and not refusal.has_error:  # noqa: PLR2004 -- HTTP's
        return UNAUTHORIZED
    if status // 100 == 2 and not refusal.has_error:  # noqa: PLR2004 -- 2xx
        return NO_TOKENS
    return UNKNOWN_ERROR


def retry_after_s(answered: Answered, profile: ProviderProfile) -> float | None:
    """Return for how long the provider asks to wait, within [0, ``retry_after_s_max``].

    A date is measured against the provider's own clock where it is known. None: not said,
    or not readable.

    Source:
        RFC 9110 section 10.2.3; PROVIDERS.md quirk 34.
    """
    text = (answered.retry_after or "").strip()[:100]
    if _NUMBER.fullmatch(text):
        return min(float(text), profile.retry_after_s_max)
    try:
        until = aware(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    wait_s = (until - aware(answered.date or answered.sent_at)).total_seconds()
    return max(0.0, min(wait_s, profile.retry_after_s_max))


def rotation_lost(verdict: Verdict) -> Verdict:
    """Return the verdict on a token whose last presentation was never answered.

    ``invalid_grant`` then most likely means that the provider rotated it and the successor
    was lost on the way; anything else stays as it is.
    """
    if verdict.failure_class is not FailureClass.USER or verdict.code != INVALID_GRANT.code:
        return verdict
    return replace(
        verdict,
        reason="The provider replaced the refresh token and its answer was lost on the way",
    )


def client_changed(verdict: Verdict) -> Verdict:
    """Return the verdict on a token that was issued to another client than the configured one.

    ``invalid_grant`` then does not mean that the grant is dead (RFC 6749 section 5.2: "was
    issued to another client"; PROVIDERS.md quirk 19); anything else stays as it is.
    """
    if verdict.failure_class is not FailureClass.USER or verdict.code != INVALID_GRANT.code:
        return verdict
    return replace(
        verdict,
        failure_class=FailureClass.OPERATOR,
        code="client_changed",
        reason="The grant was issued to another client than the configured one",
    )


def escalated(
    verdict: Verdict,
    ambiguous_in_a_row: int,
    profile: ProviderProfile,
    *,
    access_token_expired: bool,
) -> Verdict:
    """Return what an ambiguous verdict has become after so many, this one included.

    What a proxy may have written becomes a verdict only once the access token is of no more
    use; until then waiting costs nothing.
    """
    if verdict.escalates_to is None:
        return verdict
    if ambiguous_in_a_row < profile.ambiguous_max:
        return verdict
    if verdict.code == PAGE.code and not access_token_expired:
        return verdict
    return replace(verdict, failure_class=verdict.escalates_to, escalates_to=None)


def _word(code: str | None) -> str | None:
    """Return a code that is a plain word, and None for anything that could be free text."""
    return code if code is not None and _WORD.fullmatch(code) else None
