"""What one message of a ledger holds: MessagePack with a schema version.

A *group* is all that a partition's actors decided while the message before it was being stored;
a *claim* is how an owner takes the partition, a *release* how it gives it away. Readers ignore
fields they do not know; a change that an older reader would misread raises ``SCHEMA_VERSION``.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from domain.events import Event

SCHEMA_VERSION = 1


class GroupError(Exception):
    """A message of a ledger is not one that this version can trust. The text holds no data."""


class NewerGroupError(GroupError):
    """A message is of a later version's."""


class Kind(StrEnum):
    """What a message is for."""

    ENTRIES = "entries"
    CLAIM = "claim"
    RELEASE = "release"


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one connection added. Fields are only ever added at the end."""

    connection_id: UUID
    record: bytes | None
    """As it goes into the bucket; None where nothing changed."""
    events: tuple[Event, ...]


class Owner(NamedTuple):
    """Who writes a partition's ledger."""

    claim: bytes
    """16 bytes drawn for this claim; also tells a group of ours from another's."""
    daemon: str


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a ledger."""

    v: int = SCHEMA_VERSION
    kind: Kind
    claim: bytes
    daemon: str
    """Who decided it; the source of its events."""
    number: int = 0
    """Counts an owner's messages: no two of them are the same bytes."""
    entries: tuple[Entry, ...] = ()


class _Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """A group whose entries are encoded already."""

    v: int = SCHEMA_VERSION
    kind: Kind
    claim: bytes
    daemon: str
    number: int
    entries: Sequence[msgspec.Raw] = ()


class _Version(msgspec.Struct):
    v: int


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(Group)
_version_decoder = msgspec.msgpack.Decoder(_Version)


def encode_entry(connection_id: UUID, record: bytes | None, events: Sequence[Event]) -> bytes:
    """Return one entry, to be put into a group."""
    return _encoder.encode(Entry(connection_id, record, tuple(events)))


def encode_group(owner: Owner, number: int, entries: Sequence[bytes]) -> bytes:
    """Return a message that holds encoded entries."""
    return _encoder.encode(
        _Encoded(
            kind=Kind.ENTRIES,
            claim=owner.claim,
            daemon=owner.daemon,
            number=number,
            entries=[msgspec.Raw(entry) for entry in entries],
        )
    )


def encode_claim(owner: Owner) -> bytes:
    """Return the message by which an owner takes a partition."""
    return _encoder.encode(
        _Encoded(kind=Kind.CLAIM, claim=owner.claim, daemon=owner.daemon, number=0)
    )


def encode_release(owner: Owner, number: int) -> bytes:
    """Return the message by which an owner gives the partition away."""
    return _encoder.encode(
        _Encoded(kind=Kind.RELEASE, claim=owner.claim, daemon=owner.daemon, number=number)
    )


def decode_group(data: bytes) -> Group:
    """Return the group in ``data``.

    Raises:
        GroupError: ``data`` is no group, or is of a newer schema.
    """
    try:
        version = _version_decoder.decode(data).v
        if version > SCHEMA_VERSION:
            raise NewerGroupError(
                f"group has schema {version}, this version reads {SCHEMA_VERSION}"
            )
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise GroupError("message is not a group of a ledger") from None
