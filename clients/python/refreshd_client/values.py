"""What goes to the daemon and comes from it. No repr shows a secret."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """An access token. Its repr hides it."""

    access_token: str = field(repr=False)
    token_type: str
    """As the provider told it; Bearer where it told none."""
    expires_at: datetime | None
    """By the daemon's clock; None: never, or nobody knows."""
    generation: int
    """Which of the connection's credentials; give it as ``if_generation`` when an API says 401."""
    stale: bool
    """It lives, and could not be refreshed to live as long as was asked; ``detail`` says why."""
    expires_in_s: int | None = None
    """How long it still lived, at the least, when this was returned; None: as ``expires_at``."""
    endpoint_base: str | None = None
    """Where the provider wants to be asked, where it has told."""
    detail: str | None = None

    def __str__(self) -> str:
        """Hide the token as the repr does; ``access_token`` has it."""
        return repr(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a provider has issued. Its repr hides it."""

    credential_type: str = "oauth2"
    """``oauth2, api_key, link_token, certificate, file_import, custom``."""
    secret: Mapping[str, object] | None = field(default=None, repr=False)
    """For oauth2 ``access_token``, ``refresh_token``, ``token_type``, ``scope``."""
    encrypted_data: bytes | None = field(default=None, repr=False)
    """In place of ``secret``: sealed by you, stored as it is, and never refreshed."""
    expires_at: datetime | None = None
    """When the access token ends, with a time zone; None: never."""

    def __str__(self) -> str:
        """Hide the secret as the repr does."""
        return repr(self)

    @classmethod
    def from_token_response(cls, answer: Mapping[str, object]) -> "Credentials":
        """Return what a token endpoint has answered (RFC 6749 section 5.1).

        Args:
            answer: The JSON object, with ``access_token`` and whatever came with it. Its token
                ends at ``expires_at``, seconds since the epoch, where a library has put that in;
                else ``expires_in`` seconds from now, so give it at once; else never.

        Raises:
            ValueError: There is no ``access_token``, or one of the two is no number of seconds.
        """
        if not answer.get("access_token"):
            raise ValueError("the answer has no access_token")
        at_s, in_s = (_seconds(answer, name) for name in ("expires_at", "expires_in"))
        try:
            if at_s is not None:
                return cls(secret=answer, expires_at=datetime.fromtimestamp(at_s, UTC))
            ends_at = None if in_s is None else datetime.now(UTC) + timedelta(seconds=in_s)
            return cls(secret=answer, expires_at=ends_at)
        except (ValueError, OverflowError, OSError):
            raise ValueError("expires_at or expires_in is out of range") from None

    def fields(self) -> dict[str, object]:
        """Return them as the daemon takes them, without what is None."""
        fields = {
            "credential_type": self.credential_type,
            "secret": self.secret,
            "encrypted_data": self.encrypted_data,
            "expires_at": self.expires_at,
        }
        return {name: value for name, value in fields.items() if value is not None}


def _seconds(answer: Mapping[str, object], name: str) -> float | None:
    """Return a number of seconds, or None where there is none."""
    given = answer.get(name)
    try:
        return None if given is None else float(str(given))
    except ValueError:
        raise ValueError(f"{name} is no number of seconds") from None


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a connect."""

    connection_id: UUID
    warnings: tuple[str, ...] = ()
    """What will not work later, in sentences."""


class ShownCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """As much as is shown of a connection's credentials."""

    credential_type: str
    expires_at: datetime | None = None


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last refresh failed."""

    failure_class: str
    """``transient``, ``operator``, ``user`` or ``ambiguous``."""
    code: str
    reason: str
    at: datetime
    provider_code: str | None = None
    retry_at: datetime | None = None
    """The provider is not asked before this."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as ``get`` and ``list`` show it."""

    id: UUID
    user_id: UUID
    provider_id: UUID
    provider_slug: str
    status: str
    """``pending, active, expired, revoked, failed, disconnected``."""
    created_at: datetime
    updated_at: datetime
    generation: int
    alias: str | None = None
    params: dict[str, str] | None = None
    connected_at: datetime | None = None
    last_sync_at: datetime | None = None
    credentials: ShownCredentials | None = None
    trouble: Trouble | None = None
    doubted_at: datetime | None = None
    """Since when it is not known whether the refresh token is spent."""
    refreshed_at: datetime | None = None
    endpoint_base: str | None = None
    grant_expires_at: datetime | None = None
    refresh: str | None = None
    """``proactive`` or ``on_demand``, where it is not the provider's."""
    scope: str | None = None
    notes: tuple[str, ...] = ()
    needs_action: str | None = None
    """Why somebody must act; in a list that asks for these alone."""
