"""The entries of the due index: one a connection, under the minute when it is to be looked at.

Its key is ``due.<minute>.<id>``, minutes since the epoch. An entry says little, so that a look
which is late can be put before others without its record being read, and it binds nobody: what is
to be done the record alone tells.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from domain.looks import epoch_s, minute_of_s

_PREFIX = "due."


class DueEntry(NamedTuple):
    """When a connection is to be looked at."""

    connection_id: UUID
    at_s: float
    """Since the epoch."""
    urgent_s: float
    """Of several that are late the least comes first; since the epoch."""
    slug: str
    """The provider's."""

    @property
    def minute(self) -> int:
        """The minute that it belongs to."""
        return minute_of_s(self.at_s)


class KeptDue(NamedTuple):
    """An entry as a bucket holds it."""

    seq: int
    minute: int
    entry: DueEntry


class _Body(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Fields are only ever added at the end."""

    at_s: float
    urgent_s: float
    slug: str = ""


class _Connection(msgspec.Struct):
    provider_slug: str


class _Record(msgspec.Struct):
    """The part of a record that an entry is made of."""

    connection: _Connection
    next_due: datetime | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)
_record_decoder = msgspec.msgpack.Decoder(_Record)


def due_key(entry: DueEntry, minute: int) -> str:
    """Return the key of an entry under a minute, which may be later than its own."""
    return f"{_PREFIX}{minute}.{entry.connection_id}"


def due_filter(minute: int) -> str:
    """Return what the keys of all entries of a minute match."""
    return f"{_PREFIX}{minute}.*"


def encode_due(entry: DueEntry) -> bytes:
    """Return the value of an entry."""
    return _encoder.encode(_Body(entry.at_s, entry.urgent_s, entry.slug))


def decode_due(seq: int, key: str, data: bytes) -> KeptDue | None:
    """Return an entry; None: it is none of ours, or nothing is left of it.

    One whose value cannot be read is due at the beginning of its minute.
    """
    minute_text, _, id_text = key.removeprefix(_PREFIX).partition(".")
    try:
        minute, connection_id = int(minute_text), UUID(id_text)
    except ValueError:
        return None
    try:
        body = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = _Body(minute * 60.0, minute * 60.0)
    return KeptDue(seq, minute, DueEntry(connection_id, body.at_s, body.urgent_s, body.slug))


def due_of(connection_id: UUID, record: bytes) -> DueEntry | None:
    """Return the entry that a record needs; None: none, or it cannot be read."""
    try:
        read = _record_decoder.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if read.next_due is None:
        return None
    at_s = epoch_s(read.next_due)
    return DueEntry(connection_id, at_s, at_s, read.connection.provider_slug)


def is_due_key(key: str) -> bool:
    """Whether a key of a bucket is an entry's."""
    return key.startswith(_PREFIX)
