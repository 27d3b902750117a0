"""A provider's profile: everything that refreshing must know about it, as data.

No provider has code. What differs between token endpoints is a field here, with the
behaviour of RFC 6749 as its default; PROVIDERS.md section 2 has the evidence for each.
Paths into an answer are dotted names ("authed_user.access_token"), never searched for.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

_GRACE_LEFT_S = 5.0
_YEAR_S = 365 * 24 * 3600.0

Seconds = Annotated[float, Meta(ge=0, le=100 * _YEAR_S)]
AnswerPath = Annotated[str, Meta(pattern=r"\A[^.\s]+(\.[^.\s]+)*\Z", max_length=200)]


class FailureClass(StrEnum):
    """What a failed refresh means for the grant (PROVIDERS.md section 4)."""

    TRANSIENT = "transient"
    """It may work later; the grant is kept."""
    OPERATOR = "operator"
    """Our configuration is wrong; the client is paused and every grant is kept."""
    USER = "user"
    """The grant is dead; only the user can mend it."""
    AMBIGUOUS = "ambiguous"
    """It cannot be told; the grant is kept, and the occurrences are counted."""


class ClientAuth(StrEnum):
    """How the client proves itself (RFC 6749 section 2.3, RFC 7523 section 2.2)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 -- the name of a method
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 -- the name of a method
    PRIVATE_KEY_JWT = "private_key_jwt"
    NONE = "none"


class BasicEncoding(StrEnum):
    """How id and secret go into the Basic header."""

    RFC = "rfc"
    """RFC 6749 section 2.3.1: form-encoded first."""
    RAW = "raw"
    """As they are, which many providers expect."""
    SECRET_AS_USER = "secret_as_user"  # noqa: S105 -- the name of a way
    """The secret as it is, where the user belongs, and no password (Stripe)."""


class BodyFormat(StrEnum):
    """Where the parameters of a token request go."""

    FORM = "form"
    JSON = "json"
    QUERY = "query"


class Method(StrEnum):
    """The HTTP method of a token request."""

    POST = "POST"
    GET = "GET"


class ExpiryShape(StrEnum):
    """How an answer tells when the access token ends."""

    SECONDS = "seconds"
    """So many seconds from the request (RFC 6749); a number, or a string of one."""
    MILLISECONDS = "milliseconds"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    ISO8601 = "iso8601"
    DURATION = "duration"
    """``hours:minutes:seconds`` from the request."""
    NONE = "none"
    """The answer does not tell; ``lifetime_default_s`` is the provider's word."""


class RefreshMode(StrEnum):
    """When tokens are refreshed."""

    PROACTIVE = "proactive"
    """Before they end, whether anybody asks or not."""
    ON_DEMAND = "on_demand"
    """When somebody asks; unasked only to keep a grant alive whose access token has ended."""


class ReusePolicy(msgspec.Struct, frozen=True):
    """Whether a refresh token may be presented again when an answer was lost.

    Written ``none`` (or ``strict``), ``grace:<seconds>``, ``non_rotating``, ``unknown``.
    """

    kind: str
    grace_s: float = 0.0

    @property
    def is_free(self) -> bool:
        """Whether presenting a token twice never does harm."""
        return self.kind == "non_rotating"

    @property
    def replay_s(self) -> float:
        """For how long after an attempt began its token may be presented again.

        The grace, less what the way to the provider and two hosts' clocks may take of it.
        """
        return self.grace_s - min(_GRACE_LEFT_S, self.grace_s / 4)

    def __str__(self) -> str:
        """Return the text that ``reuse_policy`` reads."""
        return f"grace:{self.grace_s:.12g}" if self.kind == "grace" else self.kind


NO_REUSE = ReusePolicy("none")
UNKNOWN_REUSE = ReusePolicy("unknown")
NON_ROTATING = ReusePolicy("non_rotating")


def reuse_policy(text: str) -> ReusePolicy:
    """Return the policy that ``text`` names.

    Raises:
        ValueError: It names none.
    """
    kind, _, seconds = text.partition(":")
    if kind == "grace" and seconds:
        grace_s = float(seconds)
        if not 0 < grace_s < _YEAR_S:
            raise ValueError("the grace of a reuse policy is out of range")
        return ReusePolicy("grace", grace_s)
    if text in ("none", "strict"):
        return NO_REUSE
    if text in ("non_rotating", "unknown"):
        return ReusePolicy(text)
    raise ValueError("Expected none, grace:<seconds>, non_rotating or unknown")


class ErrorRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a provider's error map; it applies when everything that it names matches.

    The first line that applies decides, after the status gate (a 5xx never ends a grant).
    """

    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    code: str | None = None
    """The provider's error code, exactly."""
    pattern: str | None = None
    """A regular expression, searched for in the error's description."""
    verdict: FailureClass
    canonical: str | None = None
    """The code to publish; None keeps the usual one of the class."""
    cools: bool = False
    """Whether it is a rate limit, which cools the whole client."""
    spends: bool | None = None
    """Whether the refresh token may be spent where this is answered: False only where the provider
    answers so before any rotation. None: of what is transient and no rate limit, it may."""


class AnswerPaths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are in an answer."""

    access_token: AnswerPath = "access_token"  # noqa: S105 -- a field's name
    refresh_token: AnswerPath = "refresh_token"  # noqa: S105 -- a field's name
    token_type: AnswerPath = "token_type"  # noqa: S105 -- a field's name
    scope: AnswerPath = "scope"
    expiry: AnswerPath = "expires_in"
    refresh_token_expiry: AnswerPath | None = None
    """Seconds until the refresh token ends, where the provider tells; 0 means never."""
    error: AnswerPath = "error"
    error_description: AnswerPath = "error_description"
    success_flag: AnswerPath | None = None
    """A field that is false in an error, whatever the status (Slack: ``ok``)."""
    endpoint_base: AnswerPath | None = None
    """A host or URL that later requests go to (Salesforce: ``instance_url``)."""


class ProviderProfile(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider's tokens are refreshed. Holds no secret."""

    slug: str

    # Where.
    token_endpoint: str | None = None
    """An https URL; may hold ``{name}`` for each of ``params``."""
    issuer: str | None = None
    """In place of ``token_endpoint``: found by RFC 8414 or OpenID discovery."""
    refresh_endpoint: str | None = None
    """Where refreshing is done elsewhere than ``token_endpoint``."""
    allowed_hosts: tuple[str, ...] = ()
    """What a URL with templates may lead to: ``host`` or ``*.domain``; empty refuses them."""
    params: dict[str, str] = {}
    """Defaults for the templates; a connection's own come first."""

    # As whom.
    client_id: str = ""
    client_auth: ClientAuth = ClientAuth.CLIENT_SECRET_BASIC
    client_secrets: Annotated[int, Meta(ge=0)] = 1
    """How many client secrets are configured; two while one is being replaced."""
    basic_encoding: BasicEncoding = BasicEncoding.RFC
    assertion_audience: str | None = None
    """The ``aud`` of a private_key_jwt; None is the token endpoint."""
    assertion_issuer: str | None = None
    """The ``iss`` of a private_key_jwt; None is the client, as RFC 7523 section 3 has it."""
    assertion_algorithm: str = "RS256"
    assertion_key_id: str | None = None

    # What is sent.
    method: Method = Method.POST
    body_format: BodyFormat = BodyFormat.FORM
    grant_type: str | None = "refresh_token"
    presents: str = "refresh_token"
    """Which field of the secret is presented; ``access_token`` where there is no other."""
    token_parameter: str = "refresh_token"  # noqa: S105 -- a parameter's name
    extra_parameters: dict[str, str] = {}
    extra_headers: dict[str, str] = {}
    """May hold templates, as ``extra_parameters`` may; ``{request_id}`` is a fresh UUID."""
    scope: str | None = None
    """Sent when refreshing; None sends none, which most providers expect."""

    # What comes back.
    answer: AnswerPaths = AnswerPaths()
    expiry_shape: ExpiryShape = ExpiryShape.SECONDS
    lifetime_default_s: Seconds = 3600.0
    """The access token's lifetime where an answer does not tell."""
    lifetime_max_s: Seconds = 10 * _YEAR_S
    expiry_from_jwt: bool = False
    """Whether the access token is a JWT whose ``exp`` bounds its lifetime."""
    error_map: tuple[ErrorRule, ...] = ()

    # What it means.
    reuse_policy: ReusePolicy = UNKNOWN_REUSE
    grant_lifetime_s: Seconds | None = None
    """How long a grant lives from consent on, however often it is refreshed."""
    grant_trial_interval_s: Seconds = 3600.0
    """How often a grant that has ended by the calendar is presented all the same; 0: never."""
    grant_idle_s: Seconds | None = None
    """After how long without a refresh a grant ends."""
    old_access_token_dies: bool = False
    """Whether a refresh ends the access token before it."""
    max_lead_s: Seconds | None = None
    """How long before its end a token may be refreshed; earlier is an error there."""
    interval_s_min: Seconds = 1.0
    """The least time between two refreshes, whatever expiry an answer names."""
    settling_s: Seconds = 0.0
    """How long a fresh token may be rejected before that means anything."""

    # When.
    refresh: RefreshMode = RefreshMode.PROACTIVE
    """A connection's own comes first."""
    margin_s: Seconds = 300.0
    """How long before its end an access token is refreshed unasked, at the latest."""
    margin_fraction: Annotated[float, Meta(ge=0, le=0.5)] = 0.2
    """So much of its lifetime, where that is less."""

    # Bounds.
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 5.0
    timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    max_concurrency: Annotated[int, Meta(ge=1)] = 16
    """How many requests may be under way at one host."""
    rate_per_s: Annotated[float, Meta(ge=0.0001, le=100_000)] | None = None
    """How many requests a second one host gets in the long run; None: as many as there are."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """How many of them may go out at once."""
    answer_bytes_max: Annotated[int, Meta(ge=1024)] = 64 * 1024
    """An answer within it always fits a record."""
    retry_after_s_max: Seconds = 3600.0
    ambiguous_max: Annotated[int, Meta(ge=1)] = 5
    """How many ambiguous answers in a row become a verdict."""
    probe_interval_s: Seconds = 900.0
    """The most time between two attempts while our configuration is wrong."""
    outage_probe_interval_s: Seconds = 30.0
    """The most time between two requests to a token endpoint that is down."""

    @property
    def is_templated(self) -> bool:
        """Whether connections' values say where a request goes."""
        return "{" in (self.refresh_endpoint or self.token_endpoint or self.issuer or "")
