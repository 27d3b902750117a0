"""The stored form of a connection: MessagePack with a schema version.

A record written by any version must decode for ever (tests keep a fixture of each). Readers
ignore fields they do not know, and new fields get defaults; a change that an older reader
would misread raises ``SCHEMA_VERSION``, and the older reader refuses the record.
"""

from datetime import datetime

import msgspec

from domain.connection import ProviderConnection, broken_invariant
from domain.remembered import Answers

SCHEMA_VERSION = 3
"""2: intents. 3: the ledger, which an older writer would go past."""


class RecordError(Exception):
    """A stored value is not a record this version can trust. The text holds no stored data."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One connection as it was after one entry of the ledger."""

    v: int = SCHEMA_VERSION
    seq: int = 0
    """The ledger sequence that it is as of; 0 where a version without a ledger wrote it."""
    connection: ProviderConnection
    answers: Answers = ()
    """What its last commands were answered."""
    next_due: datetime | None = None
    """When it is to be looked at although nobody asks, aware UTC; None: never, or an earlier
    version wrote the record."""


class _Version(msgspec.Struct):
    v: int


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(Record)
_version_decoder = msgspec.msgpack.Decoder(_Version)


def encode_record(record: Record) -> bytes:
    """Return the bytes to store."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """Return the record in ``data``.

    Raises:
        RecordError: ``data`` is no record, is of a newer schema, or breaks an invariant.
    """
    try:
        _refuse_newer(_version_decoder.decode(data).v)
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RecordError("value is not a connection record") from None
    return checked(record)


def checked(record: Record) -> Record:
    """Return ``record``.

    Raises:
        RecordError: It is of a newer schema, or breaks an invariant.
    """
    _refuse_newer(record.v)
    broken = broken_invariant(record.connection)
    if broken is not None:
        raise RecordError(f"record breaks an invariant: {broken}")
    return record


def _refuse_newer(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise RecordError(f"record has schema {version}, this version reads {SCHEMA_VERSION}")
