"""The streams that refreshd keeps, made on first use and checked on every start.

Eight buckets (or as many as the first start chose) and one event stream. A stream whose
settings would lose acknowledged data or serve stale reads is refused, with the setting named.
"""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from runtime.ledger.subjects import EVENT_STREAM, bucket_name, bucket_stream, events_filter
from runtime.logs import log
from runtime.nats.jetstream_api import (
    JetStreamError,
    StreamInfo,
    create_stream,
    stream_info,
)
from runtime.nats.link import SERVER_VERSION_MIN, LinkError, NatsLink

PARTITIONS_METADATA = "refreshd.partitions"
KEYRING_METADATA = "refreshd.keyring"
_NANOSECONDS = 1_000_000_000


class StreamsError(Exception):
    """The streams cannot be used; the text says which setting of which stream, and why."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration decides about the streams."""

    prefix: str
    partitions: int | None
    """None takes the stored count, or 8 on the first start."""
    replicas: int
    record_bytes_max: int
    event_age_s_max: int
    event_bytes_max: int
    event_duplicate_window_s: int


PARTITIONS_DEFAULT = 8


class Streams(msgspec.Struct, frozen=True):
    """What was found or made."""

    partitions: int
    connections: int
    """How many records are stored, disconnected ones included."""
    keyring_id: str | None = None
    """The key that sealed the first record; whoever has it has this state's keyring."""


async def ensure_streams(
    link: NatsLink, settings: StreamSettings, *, keyring_id: Callable[[], str] | None = None
) -> Streams:
    """Make what is missing, check what is there.

    Takes the same number of requests however many connections are stored.

    Args:
        link: A connection that may make streams.
        settings: What the configuration says of them.
        keyring_id: Called where the first bucket is to be made, which keeps it for ever.

    Raises:
        StreamsError: The server is too old, has no JetStream, or a stream cannot be trusted.
    """
    if link.server_version < SERVER_VERSION_MIN:
        wanted = ".".join(map(str, SERVER_VERSION_MIN))
        found = ".".join(map(str, link.server_version))
        raise StreamsError(f"nats-server {wanted} or newer is needed, this one is {found}")
    try:
        first = await stream_info(link, bucket_stream(0))
        partitions = _partitions(first, settings)
        key_id = keyring_id() if first is None and keyring_id is not None else None
        buckets = await asyncio.gather(
            *(
                _ensure(link, _bucket_config(settings, partitions, partition, key_id), _BUCKET_LAWS)
                for partition in range(partitions)
            )
        )
        await _ensure(link, _event_config(settings), _event_laws(settings))
    except LinkError as error:
        raise StreamsError(f"JetStream does not answer: {error}") from None
    except JetStreamError as error:
        raise StreamsError(str(error)) from None
    return Streams(
        partitions,
        sum(bucket.state.messages for bucket in buckets),
        _metadata(buckets[0], KEYRING_METADATA),
    )


def _metadata(info: StreamInfo, name: str) -> str | None:
    """Return a text that a stream's maker has left with it."""
    metadata = info.config.get("metadata")
    text = metadata.get(name) if isinstance(metadata, dict) else None
    return text if isinstance(text, str) else None


def _partitions(first: StreamInfo | None, settings: StreamSettings) -> int:
    """Return the partition count, which the first start writes into the first bucket for ever."""
    if first is None:
        return settings.partitions or PARTITIONS_DEFAULT
    text = _metadata(first, PARTITIONS_METADATA)
    if text is None or not text.isdigit():
        raise StreamsError(f"{bucket_stream(0)} was not made by refreshd: no {PARTITIONS_METADATA}")
    stored = int(text)
    if settings.partitions not in (None, stored):
        raise StreamsError(
            f"state.partitions is {settings.partitions}, but this cluster was set up with "
            f"{stored}, and the count cannot change"
        )
    return stored


async def _ensure(
    link: NatsLink, config: dict[str, object], laws: Mapping[str, tuple[object, str]]
) -> StreamInfo:
    """Make one stream, or check the one that is there against ``laws``."""
    name = str(config["name"])
    info = await stream_info(link, name) or await create_stream(link, config)
    for setting, (wanted, why) in laws.items():
        found = info.config.get(setting, _ABSENT.get(setting))
        if found != wanted:
            raise StreamsError(f"stream {name} has {setting}={found!r}, not {wanted!r}: {why}")
    room, needed = _number(info.config, "max_msg_size"), _number(config, "max_msg_size")
    if 0 < room < needed:
        raise StreamsError(
            f"stream {name} has max_msg_size={room}, but service.limits.credential_bytes_max takes "
            f"{needed}: what was accepted could not be stored"
        )
    replicas, configured = _number(info.config, "num_replicas"), _number(config, "num_replicas")
    if replicas != configured:
        log.warning("replicas_differ", stream=name, replicas=replicas, configured=configured)
    return info


def _number(config: Mapping[str, object], setting: str) -> int:
    """Return a setting that is a number; 0 where there is none."""
    number = config.get(setting)
    return number if isinstance(number, int) else 0


_ABSENT: dict[str, object] = {
    "allow_direct": False,
    "mirror_direct": False,
    "persist_mode": "default",
    "allow_atomic": False,
    "no_ack": False,
    "max_age": 0,
}
"""What a setting is when the server leaves it out."""

_BUCKET_LAWS: Mapping[str, tuple[object, str]] = {
    "storage": ("file", "connections would not survive a restart"),
    "retention": ("limits", "records would vanish"),
    "max_msgs_per_subject": (1, "a record is one message"),
    "max_age": (0, "records would vanish"),
    "discard": ("new", "old records would vanish when the bucket is full"),
    "allow_direct": (False, "direct reads may be stale"),
    "persist_mode": ("default", "acknowledged writes could be lost"),
    "no_ack": (False, "writes would not be acknowledged"),
}


def _event_laws(settings: StreamSettings) -> Mapping[str, tuple[object, str]]:
    return {
        "subjects": ([events_filter(settings.prefix)], "it must capture our events and no others"),
        "storage": ("file", "events would not survive a restart"),
        "persist_mode": ("default", "acknowledged events could be lost"),
        "allow_atomic": (True, "events are stored in batches"),
        "no_ack": (False, "events would not be acknowledged"),
    }


def _bucket_config(
    settings: StreamSettings, partitions: int, partition: int, key_id: str | None
) -> dict[str, object]:
    """Return a bucket's stream configuration, readable by any KV client."""
    metadata = {PARTITIONS_METADATA: str(partitions)}
    if key_id is not None:
        metadata[KEYRING_METADATA] = key_id
    return {
        "name": bucket_stream(partition),
        "description": "refreshd: connections",
        "subjects": [f"$KV.{bucket_name(partition)}.>"],
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
        "allow_direct": False,
        "metadata": metadata,
    }


def _event_config(settings: StreamSettings) -> dict[str, object]:
    """Return the event stream's configuration."""
    return {
        "name": EVENT_STREAM,
        "description": "refreshd: what happened to each connection",
        "subjects": [events_filter(settings.prefix)],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": settings.event_bytes_max,
        "max_age": settings.event_age_s_max * _NANOSECONDS,
        "duplicate_window": settings.event_duplicate_window_s * _NANOSECONDS,
        "num_replicas": settings.replicas,
        "allow_atomic": True,
    }
