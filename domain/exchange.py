"""One exchange with a token endpoint, as the layers hand it over: no HTTP library in sight."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from domain.credentials import Secret
from domain.profile import FailureClass, ProviderProfile
from domain.trace import Trace

SCOPE_CHARS_MAX = 1_024


class Place(NamedTuple):
    """Where a connection's requests go, as far as it can be told without asking anybody."""

    host: str
    """With its port, where the URL names one; empty where no request could be made."""
    url: str
    """Two connections with one URL are asked for at one place."""


NOWHERE = Place("", "")


class Reach(StrEnum):
    """How far the cause of a failure may reach: whom else it may be wrong for.

    A failure that can lie in one connection's values, or in one tenant's host, reaches no
    further than that.

    Source:
        PROVIDERS.md section 4, "Whose fault is it?".
    """

    CONNECTION = "connection"
    """This connection: its values, its grant."""
    HOST = "host"
    """Whoever asks at the same host."""
    CLIENT = "client"
    """Whoever asks as the same client."""


class ExchangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to present, to whom, and how."""

    profile: ProviderProfile
    presented: Secret
    """The refresh token's text (or what the profile's ``presents`` names)."""
    params: dict[str, str] | None = None
    """The connection's own values for the profile's templates."""
    endpoint_base: str | None = None
    """What an earlier answer named as the host or URL for later requests."""
    secret_index: int = 0
    """Which of the client's secrets to use; 0 is the first configured."""
    with_scope: bool = True
    """Whether to send the profile's ``scope``, if it has one."""
    trace: Trace | None = None
    """Of the command that it is made for."""


class NotSent(msgspec.Struct, frozen=True, kw_only=True):
    """The request certainly did not reach the provider: DNS, connect, TLS, no free connection."""

    code: str
    """``connect_failed``, ``tls_failed``, ``pool_timeout``, ``discovery_failed``."""


class Misconfigured(msgspec.Struct, frozen=True, kw_only=True):
    """No request could be made at all, and only an operator can mend it."""

    code: str
    """``template_value_missing``, ``host_not_allowed``, ``client_key_unusable``, ..."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. Its body may hold tokens, so it never shows."""

    status: int
    body: Secret
    content_type: str = ""
    retry_after: str | None = None
    """The header as it came: seconds, or an HTTP-date."""
    is_rate_limited: bool = False
    """Whether the headers say that the rate limit is used up."""
    sent_at: datetime
    """When the request began, aware UTC: what a relative expiry counts from. By the clock as it was
    when the answer had come, so that a clock that is set meanwhile ends nothing (quirk 8)."""
    received_at: datetime | None = None
    """When the answer had come, by the same clock; None: at once."""
    date: datetime | None = None
    """The provider's own clock, from the ``Date`` header."""


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The request was sent, at least in part, and no whole answer came."""

    code: str
    """``timeout``, ``connection_lost``, ``answer_too_large``, ``answer_unreadable``."""
    cut: Answered | None = None
    """The answer as far as it came; good for the values in it that are whole, and no further."""


Exchange = NotSent | Misconfigured | Lost | Answered


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a successful answer holds. Never shows."""

    access_token: str
    refresh_token: str | None = None
    """None keeps the old one (RFC 6749 section 6)."""
    replaces_unread: bool = False
    """Whether there may have been a new refresh token that could not be read: the old one, which
    is kept, may be spent."""
    token_type: str | None = None
    scope: str | None = None
    expires_at: datetime
    grant_expires_at: datetime | UnsetType | None = UNSET
    """When the refresh token ends; None: never; UNSET: the answer does not tell."""
    endpoint_base: str | None = None
    notes: tuple[str, ...] = ()
    """What was odd and was survived: ``expiry_unreadable``, ``clock_skew``, ..."""

    @property
    def narrowed_scope(self) -> str | None:
        """The scope where it is less than was asked for, to be shown; None where too long."""
        is_shown = self.scope and "scope_narrowed" in self.notes
        return self.scope if is_shown and len(self.scope or "") <= SCOPE_CHARS_MAX else None

    def __repr__(self) -> str:
        """Show that there are tokens, and nothing of them."""
        return "Tokens(***)"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a failed exchange means."""

    failure_class: FailureClass
    code: str
    """The canonical code: RFC 6749's where there is one, else a word of ours."""
    provider_code: str | None = None
    """The provider's own code, where it is a plain word of at most 64 characters."""
    reason: str
    """A sentence of ours; nothing of the provider's text is in it."""
    outcome_unknown: bool = False
    """Whether the provider may have spent the refresh token."""
    counts: bool = True
    """Whether it is a failure of the grant's; a rate limit is not."""
    cools_client: bool = False
    """Whether all of the client's connections at that host must wait, not just this one."""
    reach: Reach = Reach.CONNECTION
    """How far an ``operator`` failure may reach."""
    retry_after_s: float | None = None
    """What the provider asked for, capped."""
    tries_next_secret: bool = False
    """Whether the client's next secret is worth one try."""
    drops_scope: bool = False
    """Whether one try without ``scope`` is worth it."""
    refresh_token: Secret | None = None
    """The new one, where it came without an access token: it replaces the one presented."""
    escalates_to: FailureClass | None = None
    """What an ambiguous failure becomes after ``ambiguous_max`` in a row."""

    @property
    def blames_endpoint(self) -> bool:
        """Whether it is the token endpoint's own fault: not reached, no answer in time, a 5xx."""
        return self.failure_class is FailureClass.TRANSIENT and self.counts
