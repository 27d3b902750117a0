"""One line of an import: what ``connect`` takes, checked as the daemon checks it.

Nothing here does I/O, and no message quotes a value.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple, Optional, Union
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta

from domain.commands import Connect
from domain.credentials import Unsealed
from domain.oauth_secret import OAuthSecret
from domain.refusals import INVALID_CREDENTIALS
from domain.result import FailureCode
from runtime.gateway.wire import MalformedError, body_bytes_max, read_connect

_CONNECTIONS_BY_OWNER = UUID("3f6f1d3b-51f2-5c53-8f0a-2d9d0c9f5a11")
_DIGEST_BYTES = 16
_SUGAR = ("created_at", "expires_in")
_TIMES = ("granted_at", "grant_expires_at")
_CREDENTIALS = "$.credentials"
_NDJSON = ": one object a line is wanted (NDJSON), with quotes around names and texts"
_LIFETIME_S_MAX = 100 * 366 * 86_400

_Time = Annotated[datetime, Meta(tz=True)]
_Seconds = Annotated[float, Meta(ge=0, le=_LIFETIME_S_MAX)]

_NUMBER_IN_QUOTES = re.compile(rb'"-?[0-9]+([.][0-9]+)?"')
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_time: msgspec.json.Decoder[datetime | float | None] = msgspec.json.Decoder(
    Union[_Time, float, None]  # noqa: UP007 -- an annotated type has no |
)
_lifetime: msgspec.json.Decoder[float | None] = msgspec.json.Decoder(Optional[_Seconds])  # noqa: UP045
_encoder = msgspec.json.Encoder()


class Planned(NamedTuple):
    """A line that is fit to be sent."""

    number: int
    command: Connect
    """As the daemon will read it; never shown, for it holds the secret."""
    message_id: str
    """The same whenever the line says the same."""
    body: bytes
    """Of ``connect``."""
    refresh_body: bytes
    """Of ``connection.<id>.refresh``, with the same credentials."""
    end_bytes: int

    @property
    def connection_id(self) -> UUID:
        """As the line gives it, else made of its owner, provider and alias."""
        return self.command.connection_id

    @property
    def has_refresh_token(self) -> bool:
        """Whether its secret, as far as it is in the clear, has a refresh token."""
        credentials = self.command.credentials
        if not isinstance(credentials, Unsealed):
            return False
        return OAuthSecret(credentials.secret).text("refresh_token") is not None

    @property
    def digest(self) -> bytes:
        """What the line says, in 16 bytes."""
        return bytes.fromhex(self.message_id.rpartition("-")[2])


def line_bytes_max(credential_bytes_max: int) -> int:
    """Return how long a line can be whose credentials are within their limit."""
    return body_bytes_max(credential_bytes_max)


def read_line(number: int, text: bytes, *, end_bytes: int, credential_bytes_max: int) -> Planned:
    """Return what a line asks for.

    Args:
        number: The line's.
        text: The line.
        end_bytes: Where it ends in its file.
        credential_bytes_max: How large a secret may be.

    Raises:
        MalformedError: It is no object with the fields of ``connect``, or has no credentials that
            can be used.
    """
    fields = _fields(text, "the line", _NDJSON)
    if "credentials" in fields:
        fields["credentials"] = _credentials(fields["credentials"])
    for name in _TIMES:
        if (time := _time_in(fields, name, "$")) is not None:
            fields[name] = msgspec.Raw(_encoder.encode(time))
    command = read_connect(
        _encoder.encode(fields),
        new_id=lambda _user_id: _UNNAMED,
        credential_bytes_max=credential_bytes_max,
    )
    if command.credentials is None and not command.pending:
        raise MalformedError(
            f"{INVALID_CREDENTIALS}: {command.unusable}", FailureCode.INVALID_CREDENTIALS
        )
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name in sorted(fields):
        digest.update(b"%s:%s\n" % (name.encode(), bytes(fields[name])))
    if bytes(fields.get("connection_id", b"null")).strip() == b"null":
        command = msgspec.structs.replace(command, connection_id=_id_of(command))
    fields["connection_id"] = msgspec.Raw(_encoder.encode(command.connection_id))
    return Planned(
        number,
        command,
        f"import-{digest.hexdigest()}",
        _encoder.encode(fields),
        _encoder.encode({"credentials": fields.get("credentials")}),
        end_bytes,
    )


_UNNAMED = UUID(int=0)


def _id_of(command: Connect) -> UUID:
    """Return the id of a connection that has none in its line.

    Newer tokens do not change it: a second import finds the connection of the first.
    """
    owner = f"{command.user_id}/{command.provider_slug}/{command.alias or ''}"
    return uuid5(_CONNECTIONS_BY_OWNER, owner)


def _fields(text: bytes, what: str, wanted: str = "") -> dict[str, msgspec.Raw]:
    """Return an object's fields, as they are; ``wanted`` is said where it is none."""
    try:
        # What is kept as it is was not looked at.
        text.decode()
        return _object.decode(text)
    except UnicodeDecodeError:
        raise MalformedError(f"{what} is not UTF-8") from None
    except RecursionError:
        raise MalformedError(f"{what} is nested too deeply") from None
    except msgspec.ValidationError:
        raise MalformedError(f"{what} is not a JSON object{wanted}") from None
    except msgspec.MsgspecError:
        raise MalformedError(f"{what} is not JSON{wanted}") from None


def _credentials(given: msgspec.Raw) -> msgspec.Raw:
    """Return credentials as ``connect`` takes them.

    ``expires_at`` may be in seconds since 1970, or told by ``created_at`` and ``expires_in``.
    """
    text = bytes(given)
    if text.strip() == b"null":
        return given
    fields = _fields(text, "credentials")
    created_at = _time_in(fields, "created_at", _CREDENTIALS)
    lifetime_s = _lifetime_in(fields)
    expires_at = _time_in(fields, "expires_at", _CREDENTIALS)
    if lifetime_s is not None:
        if expires_at is not None:
            raise _wrong("expires_in", "not beside expires_at")
        if created_at is None:
            raise _wrong("expires_in", "created_at is needed beside it")
        try:
            expires_at = created_at + timedelta(seconds=lifetime_s)
        except OverflowError:
            raise _wrong("expires_in", "the time is out of range") from None
    kept = {name: fields[name] for name in sorted(fields) if name not in _SUGAR}
    if expires_at is not None:
        kept["expires_at"] = msgspec.Raw(_encoder.encode(expires_at))
    return msgspec.Raw(_encoder.encode(kept))


def _time_in(fields: dict[str, msgspec.Raw], name: str, where: str) -> datetime | None:
    """Return a time in UTC that is RFC 3339 or seconds since 1970; None: absent or null."""
    if name not in fields:
        return None
    try:
        time = _time.decode(fields[name])
        if isinstance(time, float | int):
            return datetime.fromtimestamp(time, UTC)
        return None if time is None else time.astimezone(UTC)
    except msgspec.MsgspecError:
        why = "neither RFC 3339 with a time zone nor seconds since 1970"
        if _NUMBER_IN_QUOTES.fullmatch(fields[name]):
            why = "seconds since 1970 are a number, without quotes"
        raise _wrong(name, why, where) from None
    except (OverflowError, OSError, ValueError):
        why = "the time is out of range"
        if not bytes(fields[name]).startswith(b'"'):
            why += ": seconds since 1970 are wanted, not milliseconds"
        raise _wrong(name, why, where) from None


def _lifetime_in(fields: dict[str, msgspec.Raw]) -> float | None:
    try:
        return _lifetime.decode(fields.get("expires_in", b"null"))
    except msgspec.MsgspecError:
        raise _wrong("expires_in", "not a number of seconds") from None


def _wrong(name: str, why: str, where: str = _CREDENTIALS) -> MalformedError:
    return MalformedError(f"{name}: {why} - at `{where}.{name}`")
