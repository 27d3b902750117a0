"""The names of streams, buckets, records, markers and events, built in one place.

Several daemons can share one NATS account, each under a subject prefix of its own. What belongs to
one has its prefix's *tag* in its name; the default prefix has none.
"""

import zlib
from functools import cache
from uuid import UUID

import msgspec

from domain.events import Event

_encoder = msgspec.json.Encoder()

DEFAULT_PREFIX = "refreshd.v1"
NO_TAG = ""
"""What stands for the default prefix; see ``tag_of``."""
EVENT_STREAM = "REFRESHD_EVENTS"
"""The default prefix's."""
MARKER_KEY = "_ledger"
"""The key of the records view's marker in each bucket."""
CHECKPOINT = "checkpoint"
"""The verb of ``checkpoint_subject``."""
RECORDS_FILTER = "*"
"""What the keys of records match, and the marker's, and those of the due index do not."""


def tag_of(prefix: str) -> str:
    """Return what stands for a prefix in the names of its streams: no two prefixes have the same.

    A stream's name has no dot, so ``.`` becomes ``--``, and ``-`` becomes ``-_``: ``acme.tokens``
    is ``acme--tokens``. Read from the left each pair says what it was.
    """
    return NO_TAG if prefix == DEFAULT_PREFIX else prefix.replace("-", "-_").replace(".", "--")


def partition_of(connection_id: UUID, partitions: int) -> int:
    """Return the partition of a connection: CRC-32 of the canonical id text, modulo the count.

    CRC-32 (ISO-HDLC, as in zlib) because every language has it; it must never change.
    """
    return zlib.crc32(str(connection_id).encode("ascii")) % partitions


def bucket_name(partition: int, tag: str) -> str:
    """Return the KV bucket of a partition (DESIGN.md section 5)."""
    return f"{_tagged('refreshd_connections', '_', tag)}_{partition:02d}"


def bucket_stream(partition: int, tag: str) -> str:
    """Return the stream behind a partition's bucket."""
    return f"KV_{bucket_name(partition, tag)}"


def record_key_subject(partition: int, key: str, tag: str) -> str:
    """Return the subject of a key of a partition's bucket: a connection's id, or the marker."""
    return f"$KV.{bucket_name(partition, tag)}.{key}"


def is_record_key(key: str) -> bool:
    """Whether a key of a bucket is a connection's id: not the marker's, nor the due index's."""
    return key != MARKER_KEY and "." not in key


def ledger_stream(partition: int, tag: str) -> str:
    """Return the stream that is a partition's ledger."""
    return f"{_tagged('REFRESHD_LEDGER', '_', tag)}_{partition:02d}"


def ledger_subject(partition: int, tag: str) -> str:
    """Return the subject of a partition's ledger: no right to commands reaches it."""
    return f"{_tagged('refreshd_ledger', '.', tag)}.{partition:02d}"


def event_stream(tag: str) -> str:
    """Return the stream that captures the events."""
    return _tagged(EVENT_STREAM, "_", tag)


def event_marker_subject(partition: int, tag: str) -> str:
    """Return the subject of a partition's marker in the event stream."""
    return f"{_tagged('refreshd_mark', '.', tag)}.{partition:02d}"


def event_markers(tag: str) -> str:
    """Return the subject filter of all markers in the event stream."""
    return f"{_tagged('refreshd_mark', '.', tag)}.*"


def outcome_subject(partition: int, connection_id: UUID, tag: str) -> str:
    """Return where the outcome of a connection's refresh goes to whoever owns its partition."""
    return f"{_owner(tag)}.{partition:02d}.outcome.{connection_id}"


def outcomes(tag: str) -> str:
    """Return the subject filter of all outcomes."""
    return f"{_owner(tag)}.*.outcome.*"


def outcome_stored_subject(partition: int, connection_id: UUID, tag: str) -> str:
    """Return where it is acknowledged that an outcome is stored."""
    return f"{_owner(tag)}.{partition:02d}.stored.{connection_id}"


def outcomes_stored(tag: str) -> str:
    """Return the subject filter of all such acknowledgements."""
    return f"{_owner(tag)}.*.stored.*"


def owner_subjects(tag: str) -> str:
    """Return how every subject begins on which daemons hand over to each other."""
    return f"{_owner(tag)}."


def owner_subject(partition: int, verb: str, key: str, tag: str) -> str:
    """Return where a command goes to whoever owns its partition, by verb and id."""
    return f"{_owner(tag)}.{partition:02d}.{verb}.{key}"


def owner_filter(partition: int, tag: str) -> str:
    """Return the subject filter of all that is for a partition's owner."""
    return f"{_owner(tag)}.{partition:02d}.*.*"


def checkpoint_subject(partition: int, daemon: str, tag: str) -> str:
    """Return where a daemon asks whoever owns a partition to write what its bucket lacks."""
    return owner_subject(partition, CHECKPOINT, daemon, tag)


def checkpointed_subject(partition: int, daemon: str, tag: str) -> str:
    """Return where a daemon is told that a partition's bucket lacks nothing."""
    return owner_subject(partition, "checkpointed", daemon, tag)


def checkpointed_filter(daemon: str, tag: str) -> str:
    """Return the subject filter of all that a daemon is told so."""
    return f"{_owner(tag)}.*.checkpointed.{daemon}"


def heartbeat_subject(daemon: str, tag: str) -> str:
    """Return where a daemon tells the others that it is there."""
    return f"{_tagged('refreshd_cluster', '.', tag)}.{daemon}"


def heartbeats(tag: str) -> str:
    """Return the subject filter of all heartbeats."""
    return heartbeat_subject("*", tag)


def _owner(tag: str) -> str:
    return _tagged("refreshd_owner", ".", tag)


def _tagged(name: str, separator: str, tag: str) -> str:
    return f"{name}{separator}{tag}" if tag else name


def uuid_text(one: UUID) -> str:
    """Return a UUID's canonical text, three times as fast as ``str``."""
    return _encoder.encode(one)[1:-1].decode()


@cache
def _step(event_type: type[Event]) -> str:
    return f"{event_type.workflow.value}.{event_type.outcome.value}"


def event_subject(prefix: str, event: Event, connection_id: str) -> str:
    """Return the subject of an event (DESIGN.md section 4), with its connection's id as text."""
    return f"{prefix}.event.{event.provider_slug}.{connection_id}.{_step(type(event))}"


def events_filter(
    prefix: str, *, provider_slug: str | None = None, connection_id: str | None = None
) -> str:
    """Return the subject filter of all events, of one provider's, or of one connection's."""
    return f"{prefix}.event.{provider_slug or '*'}.{connection_id or '*'}.>"
