"""What is inside a sealed secret: the JSON object that a caller gave or a provider answered."""

from typing import Any

import msgspec

from domain.credentials import Secret, Unsealed
from domain.exchange import Tokens
from domain.profile import ProviderProfile

DEFAULT_TOKEN_TYPE = "Bearer"  # noqa: S105 -- the name of a kind (RFC 6750)

_object = msgspec.json.Decoder(dict[str, Any])


class OAuthSecret:
    """An opened secret; it shows as ``***``."""

    __slots__ = ("_fields",)

    def __init__(self, secret: Secret) -> None:
        """Read ``secret``; what is no JSON object holds nothing."""
        try:
            self._fields = _object.decode(secret.reveal())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._fields: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Show nothing."""
        return "***"

    def text(self, name: str) -> str | None:
        """Return a field that is a text and not empty."""
        value = self._fields.get(name)
        return value if isinstance(value, str) and value else None

    @property
    def access_token(self) -> str | None:
        """The access token."""
        return self.text("access_token")

    @property
    def token_type(self) -> str:
        """How to use it; Bearer where nobody told."""
        return self.text("token_type") or DEFAULT_TOKEN_TYPE

    def renewed(self, tokens: Tokens) -> Secret:
        """Return the secret after a refresh: what was not answered stays (RFC 6749 section 6)."""
        fields = dict(self._fields)
        fields["access_token"] = tokens.access_token
        for name in ("refresh_token", "token_type", "scope"):
            value = getattr(tokens, name)
            if value is not None:
                fields[name] = value
        return Secret(msgspec.json.encode(fields))

    def rotated(self, refresh_token: Secret) -> Secret:
        """Return the secret with another refresh token and the same access token."""
        new = {"refresh_token": refresh_token.reveal().decode()}
        return Secret(msgspec.json.encode(self._fields | new))


def cannot_last(credentials: Unsealed, profile: ProviderProfile) -> bool:
    """Whether they will end and there is nothing to refresh them by (PROVIDERS.md quirk 38)."""
    return (
        credentials.credential_type.is_refreshable
        and credentials.expires_at is not None
        and OAuthSecret(credentials.secret).text(profile.presents) is None
    )
