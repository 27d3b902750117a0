"""The bodies of the commands, as JSON has them (DESIGN.md section 3).

What is not of these shapes is malformed; what they mean is ``runtime.gateway.wire``'s. The
published schemas are made of them.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from domain.connection import ALIAS_LENGTH_MAX, SLUG_PATTERN
from domain.profile import RefreshMode

_TTL_S_MAX = 10 * 366 * 86_400

Text = Annotated[str, Meta(max_length=500)]
Time = Annotated[datetime, Meta(tz=True)]
Slug = Annotated[str, Meta(pattern=SLUG_PATTERN)]
Mode = Annotated[str, Meta(pattern=rf"\A({'|'.join(RefreshMode)})\Z")]
Alias = Annotated[str, Meta(max_length=ALIAS_LENGTH_MAX)]
ParamName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]
Params = Annotated[dict[ParamName, Annotated[str, Meta(max_length=256)]], Meta(max_length=32)]


class CredentialsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Credentials, with exactly one of ``secret`` and ``encrypted_data``."""

    credential_type: str | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET
    secret: msgspec.Raw | UnsetType = UNSET
    encrypted_data: str | UnsetType | None = UNSET


class ConnectBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``connect`` and ``connection.<id>.connect``."""

    user_id: UUID
    provider_id: UUID
    provider_slug: Slug
    credentials: CredentialsBody | UnsetType | None = UNSET
    alias: Alias | None = None
    connection_id: UUID | None = None
    params: Params | None = None
    refresh: Mode | None = None
    granted_at: Time | None = None
    grant_expires_at: Time | None = None
    pending: bool = False


class RefreshBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``connection.<id>.refresh``."""

    credentials: CredentialsBody | None


class ReasonBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``connection.<id>.expire``, ``.revoke`` and ``.fail``."""

    reason: Text | None = None


class DisconnectBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``connection.<id>.disconnect``."""

    user_id: UUID


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``connection.<id>.token``."""

    min_ttl_s: Annotated[float, Meta(ge=0, le=_TTL_S_MAX)] = 60.0
    if_generation: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    force: bool = False


class OAuth2Secret(msgspec.Struct):
    """What an oauth2 secret must have; further fields are kept as they are."""

    access_token: str
    refresh_token: str | None = None
    token_type: str | None = None
    scope: str | None = None


class EmptyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``connection.<id>.get`` and ``.synced``; nothing does as well."""
