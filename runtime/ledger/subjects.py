"""The names of streams, buckets, records and events, built in one place."""

import zlib
from uuid import UUID

from domain.events import Event

EVENT_STREAM = "REFRESHD_EVENTS"


def partition_of(connection_id: UUID, partitions: int) -> int:
    """Return the partition of a connection: CRC-32 of the canonical id text, modulo the count.

    CRC-32 (ISO-HDLC, as in zlib) because every language has it; it must never change.
    """
    return _partition_of_key(str(connection_id), partitions)


def _partition_of_key(key: str, partitions: int) -> int:
    return zlib.crc32(key.encode("ascii")) % partitions


def bucket_name(partition: int) -> str:
    """Return the KV bucket of a partition (DESIGN.md section 5)."""
    return f"refreshd_connections_{partition:02d}"


def bucket_stream(partition: int) -> str:
    """Return the stream behind a partition's bucket."""
    return f"KV_{bucket_name(partition)}"


def record_subject(connection_id: UUID, partitions: int) -> str:
    """Return the subject that a connection's record is stored under."""
    key = str(connection_id)
    return f"$KV.{bucket_name(_partition_of_key(key, partitions))}.{key}"


def event_subject(prefix: str, event: Event) -> str:
    """Return the subject of an event (DESIGN.md section 4)."""
    return (
        f"{prefix}.event.{event.provider_slug}.{event.connection_id}"
        f".{event.workflow.value}.{event.outcome.value}"
    )


def events_filter(
    prefix: str, *, provider_slug: str | None = None, connection_id: str | None = None
) -> str:
    """Return the subject filter of all events, of one provider's, or of one connection's."""
    return f"{prefix}.event.{provider_slug or '*'}.{connection_id or '*'}.>"
