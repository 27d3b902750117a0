"""JSON bodies to commands: the command table of DESIGN.md section 3, on its way in.

Nothing here does I/O. A body that is not what the table says raises ``MalformedError`` with a
message that names the field and quotes no value, for a value may be a secret.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET, UnsetType

from domain.commands import (
    ChangeStatus,
    Command,
    Connect,
    Disconnect,
    Get,
    GetToken,
    MarkSynced,
    Refresh,
)
from domain.connection import ConnectionStatus
from domain.credentials import Credentials, CredentialType, Opaque, Secret, Unsealed
from domain.profile import RefreshMode
from domain.result import FailureCode
from runtime.gateway.bodies import (
    ConnectBody,
    CredentialsBody,
    DisconnectBody,
    EmptyBody,
    OAuth2Secret,
    ReasonBody,
    RefreshBody,
    TokenBody,
)
from runtime.gateway.plain_words import explained

TIMEOUT_HEADER = "Refreshd-Timeout-Ms"
MESSAGE_ID_HEADER = "Nats-Msg-Id"
_CONNECTIONS_BY_MESSAGE = UUID("6c3c0d0e-7d6b-5f0e-9a53-6f1f0c6e2b57")
TIMEOUT_MS_DEFAULT = 4000
TIMEOUT_MS_MAX = 60_000
_CANONICAL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ENVELOPE_BYTES = 16 * 1024
_IDS_KNOWN = 32_768

_T = TypeVar("_T")


class MalformedError(Exception):
    """A request is not what the table says. The text is fit for the caller."""

    def __init__(self, message: str, code: FailureCode = FailureCode.INVALID_COMMAND) -> None:
        """Keep the message and the code to answer with."""
        super().__init__(message)
        self.code = code


_connect_body = msgspec.json.Decoder(ConnectBody)
_refresh_body = msgspec.json.Decoder(RefreshBody)
_reason_body = msgspec.json.Decoder(ReasonBody)
_disconnect_body = msgspec.json.Decoder(DisconnectBody)
_token_body = msgspec.json.Decoder(TokenBody)
_empty_body = msgspec.json.Decoder(EmptyBody)
_object = msgspec.json.Decoder(dict[str, Any])
_oauth2_secret = msgspec.json.Decoder(OAuth2Secret)
_CREDENTIAL_TYPES = {credential_type.value: credential_type for credential_type in CredentialType}

EXPLAIN = "explain"
"""A ``get`` whose answer is in words."""
STATUS_VERBS = {
    "expire": ConnectionStatus.EXPIRED,
    "revoke": ConnectionStatus.REVOKED,
    "fail": ConnectionStatus.FAILED,
}
CONNECTION_VERBS = (
    *("connect", "refresh", "token", "get", EXPLAIN),
    *(*STATUS_VERBS, "synced", "disconnect"),
)
"""The verbs of ``connection.<id>.<verb>`` that its owner answers."""


@lru_cache(maxsize=_IDS_KNOWN)
def read_connection_id(token: str) -> UUID:
    """Return the id in a subject.

    Raises:
        MalformedError: It is not a UUID in canonical lower-case form.
    """
    if not _CANONICAL_ID.fullmatch(token):
        raise MalformedError("connection_id is not a UUID in canonical lower-case form")
    return msgspec.convert(token, UUID)


def read_timeout_s(header: str | None) -> float:
    """Return how long the caller waits.

    Raises:
        MalformedError: The header is no whole number of milliseconds in range.
    """
    if header is None:
        return TIMEOUT_MS_DEFAULT / 1000
    if not re.fullmatch(r"[0-9]{1,6}", header) or not 1 <= int(header) <= TIMEOUT_MS_MAX:
        raise MalformedError(f"{TIMEOUT_HEADER} is not a whole number from 1 to {TIMEOUT_MS_MAX}")
    return int(header) / 1000


def digest_of_message(message_id: str) -> bytes:
    """Return what a ``Nats-Msg-Id`` is known by: 16 bytes, whatever the caller chose."""
    return hashlib.blake2b(message_id.encode(errors="surrogatepass"), digest_size=16).digest()


def id_of_message(user_id: UUID, message_id: str) -> UUID:
    """Return the id of a connection whose connect carried ``message_id`` (RFC 9562 section 5.5).

    A repeat names the same connection; another user's message with the same id does not.
    """
    return uuid5(_CONNECTIONS_BY_MESSAGE, f"{user_id}/{digest_of_message(message_id).hex()}")


def read_connect(
    body: bytes,
    *,
    new_id: Callable[[UUID], UUID],
    credential_bytes_max: int,
    subject_id: UUID | None = None,
) -> Connect:
    """Return the command of ``connect`` (no ``subject_id``) or ``connection.<id>.connect``.

    Args:
        body: JSON.
        new_id: Gives the id of a connection that the caller has not named, for its user.
        credential_bytes_max: How large its secret may be.
        subject_id: The id in the subject.

    Raises:
        MalformedError: ``INVALID_COMMAND`` or ``TOO_LARGE``.
    """
    fields = decode_body(_connect_body, body, credential_bytes_max)
    if subject_id is not None and fields.connection_id not in (None, subject_id):
        raise MalformedError("connection_id is not the one in the subject - at `$.connection_id`")
    if fields.credentials is UNSET and not fields.pending:
        raise MalformedError("Object missing required field `credentials`")
    given = None if fields.credentials is UNSET else fields.credentials
    if fields.pending and given is not None:
        raise MalformedError("a pending connection has no credentials - at `$.credentials`")
    credentials = _read_credentials(given, credential_bytes_max)
    return Connect(
        connection_id=subject_id or fields.connection_id or new_id(fields.user_id),
        user_id=fields.user_id,
        provider_id=fields.provider_id,
        provider_slug=fields.provider_slug,
        credentials=None if isinstance(credentials, str) else credentials,
        unusable=credentials if isinstance(credentials, str) else None,
        alias=fields.alias,
        params=fields.params,
        refresh=None if fields.refresh is None else RefreshMode(fields.refresh),
        granted_at=_as_utc(fields.granted_at, "granted_at"),
        grant_expires_at=_as_utc(fields.grant_expires_at, "grant_expires_at"),
        pending=fields.pending,
    )


def read_command(  # noqa: PLR0911 -- one return a verb
    verb: str, connection_id: UUID, body: bytes, *, credential_bytes_max: int
) -> Command | GetToken:
    """Return the command of ``connection.<id>.<verb>``.

    Raises:
        MalformedError: ``INVALID_COMMAND`` or ``TOO_LARGE``.
    """
    match verb:
        case "connect":
            return read_connect(
                body,
                new_id=lambda _user_id: connection_id,
                subject_id=connection_id,
                credential_bytes_max=credential_bytes_max,
            )
        case "refresh":
            refresh = decode_body(_refresh_body, body, credential_bytes_max)
            credentials = _read_credentials(refresh.credentials, credential_bytes_max)
            if isinstance(credentials, str):
                return Refresh(connection_id=connection_id, credentials=None, unusable=credentials)
            return Refresh(connection_id=connection_id, credentials=credentials)
        case "token":
            token = decode_body(_token_body, body or b"{}", credential_bytes_max)
            return GetToken(
                connection_id=connection_id,
                min_ttl_s=token.min_ttl_s,
                if_generation=token.if_generation,
                force=token.force,
            )
        case "disconnect":
            disconnect = decode_body(_disconnect_body, body, credential_bytes_max)
            return Disconnect(connection_id=connection_id, user_id=disconnect.user_id)
        case "expire" | "revoke" | "fail":
            fields = decode_body(_reason_body, body or b"{}", credential_bytes_max)
            return ChangeStatus(
                connection_id=connection_id, to_status=STATUS_VERBS[verb], reason=fields.reason
            )
        case "synced":
            decode_body(_empty_body, body or b"{}", credential_bytes_max)
            return MarkSynced(connection_id=connection_id)
        case "get" | "explain":
            decode_body(_empty_body, body or b"{}", credential_bytes_max)
            return Get(connection_id=connection_id)
        case _:
            raise MalformedError("no such command")


def body_bytes_max(credential_bytes_max: int) -> int:
    """Return how large a body can be whose credentials are within their limit."""
    return credential_bytes_max * 4 // 3 + _ENVELOPE_BYTES


def decode_body(decoder: msgspec.json.Decoder[_T], body: bytes, credential_bytes_max: int) -> _T:
    """Decode a body, or say which field is wrong."""
    if len(body) > body_bytes_max(credential_bytes_max):
        raise MalformedError("the body is too large", FailureCode.TOO_LARGE)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise MalformedError(explained(error)) from None


def _read_credentials(
    given: CredentialsBody | None, bytes_max: int
) -> Credentials | Unsealed | str:
    """Return the credentials, or in words that they are null, empty or of an unknown type.

    Raises:
        MalformedError: Neither or both of ``secret`` and ``encrypted_data``, or not of the
            shape that their type asks for, or too large.
    """
    if given is None or (given.credential_type is UNSET and given == CredentialsBody()):
        return "credentials are null" if given is None else "credentials are empty"
    if given.credential_type is UNSET:
        raise MalformedError("Object missing required field `credential_type` - at `$.credentials`")
    credential_type = _CREDENTIAL_TYPES.get(given.credential_type)
    if credential_type is None:
        return f"credential_type is none of the six: {', '.join(_CREDENTIAL_TYPES)}"
    secret = _absent_if_null(given.secret)
    encrypted_data = None if given.encrypted_data is UNSET else given.encrypted_data
    if (secret is None) == (encrypted_data is None):
        raise MalformedError(
            "exactly one of `secret` and `encrypted_data` is needed - at `$.credentials`"
        )
    expires_at = _as_utc(given.expires_at, "credentials.expires_at")
    if secret is not None:
        if (empty := _empty_in_secret(secret, credential_type)) is not None:
            return f"{empty} is empty"
        _check_size(len(secret), bytes_max)
        return Unsealed(
            credential_type=credential_type, secret=Secret(secret), expires_at=expires_at
        )
    assert isinstance(encrypted_data, str)
    data = _from_base64(encrypted_data)
    _check_size(len(data), bytes_max)
    if not data:
        return "encrypted_data is empty"
    return Credentials(
        credential_type=credential_type, payload=Opaque(data=data), expires_at=expires_at
    )


def _absent_if_null(secret: msgspec.Raw | UnsetType) -> bytes | None:
    """Return the JSON text of the secret, or None where there is none."""
    if isinstance(secret, UnsetType):
        return None
    text = bytes(secret).strip()
    return None if text == b"null" else text


def _empty_in_secret(secret: bytes, credential_type: CredentialType) -> str | None:
    """Return what is empty in the secret; what is not of its type's shape raises."""
    try:
        if credential_type is CredentialType.OAUTH2 and secret != b"{}":
            return None if _oauth2_secret.decode(secret).access_token else "access_token"
        if not _object.decode(secret):
            return "secret"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = explained(error)
        where = " - at `$.credentials.secret`"
        text = text.replace(" - at `$", " - at `$.credentials.secret")
        raise MalformedError(text if " - at `" in text else text + where) from None
    return None


def _check_size(size_bytes: int, bytes_max: int) -> None:
    if size_bytes > bytes_max:
        raise MalformedError(
            f"credentials are {size_bytes} bytes, at most {bytes_max} are allowed"
            " - at `$.credentials`",
            FailureCode.TOO_LARGE,
        )


def _as_utc(time: datetime | UnsetType | None, name: str) -> datetime | None:
    """Return the time in a field in UTC."""
    if time is None or isinstance(time, UnsetType):
        return None
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise MalformedError(f"time is out of range - at `$.{name}`") from None


def _from_base64(text: str) -> bytes:
    """Return the bytes of standard base64 (RFC 4648 section 4)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("Invalid base64 - at `$.credentials.encrypted_data`") from None
