"""How each stream is made, readable by any NATS client."""

from collections.abc import Iterator

import msgspec

from runtime.ledger.subjects import (
    bucket_name,
    event_markers,
    event_stream,
    events_filter,
    ledger_stream,
    ledger_subject,
)

PARTITIONS_METADATA = "refreshd.partitions"
KEYRING_METADATA = "refreshd.keyring"
_NANOSECONDS = 1_000_000_000


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration decides about the streams."""

    prefix: str
    partitions: int | None
    """None takes the stored count, or 4 on the first start."""
    replicas: int
    record_bytes_max: int
    event_age_s_max: int
    event_bytes_max: int
    event_duplicate_window_s: int


def bucket_configs(
    settings: StreamSettings, partitions: int, tag: str, key_id: str | None
) -> Iterator[dict[str, object]]:
    """Yield each bucket's stream configuration, readable by any KV client."""
    metadata = {PARTITIONS_METADATA: str(partitions)}
    if key_id is not None:
        metadata[KEYRING_METADATA] = key_id
    for partition in range(partitions):
        yield _bucket_config(settings, bucket_name(partition, tag), metadata)


def _bucket_config(
    settings: StreamSettings, name: str, metadata: dict[str, str]
) -> dict[str, object]:
    return {
        "name": f"KV_{name}",
        "description": "refreshd: connections",
        "subjects": [f"$KV.{name}.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_msg_size": settings.record_bytes_max,
        "max_bytes": -1,
        "max_msgs": -1,
        "max_age": 0,
        "num_replicas": settings.replicas,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": metadata,
    }


def event_config(settings: StreamSettings, tag: str) -> dict[str, object]:
    """Return the event stream's configuration."""
    return {
        "name": event_stream(tag),
        "description": "refreshd: what happened to each connection",
        "subjects": [events_filter(settings.prefix), event_markers(tag)],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": settings.event_bytes_max,
        "max_age": settings.event_age_s_max * _NANOSECONDS,
        "duplicate_window": settings.event_duplicate_window_s * _NANOSECONDS,
        "num_replicas": settings.replicas,
        "allow_direct": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": True,
    }


def ledger_config(settings: StreamSettings, partition: int, tag: str) -> dict[str, object]:
    """Return a ledger's stream configuration: nothing leaves it but by our own trim."""
    return {
        "name": ledger_stream(partition, tag),
        "description": "refreshd: what was decided, until every view holds it",
        "subjects": [ledger_subject(partition, tag)],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "num_replicas": settings.replicas,
        "deny_delete": True,
    }
