"""The streams that refreshd keeps, made on first use and checked on every start.

A ledger and a bucket per partition (four, or as many as the first start chose) and one event
stream. Streams of version 0.1 get the settings that the ledger needs; one whose settings would
lose acknowledged data is refused, with the setting named.
"""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from runtime.ledger.subjects import (
    EVENT_MARKERS,
    EVENT_STREAM,
    bucket_name,
    bucket_stream,
    events_filter,
    ledger_stream,
    ledger_subject,
)
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import (
    JetStreamError,
    StreamInfo,
    create_stream,
    stream_info,
    update_stream,
)
from runtime.nats.link import SERVER_VERSION_MIN, NatsLink

PARTITIONS_METADATA = "refreshd.partitions"
KEYRING_METADATA = "refreshd.keyring"
EARLIER_KEYS_METADATA = "refreshd.keyring.earlier"
_NANOSECONDS = 1_000_000_000


class StreamsError(Exception):
    """The streams cannot be used; the text says which setting of which stream, and why."""


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


PARTITIONS_DEFAULT = 4
_HEADERS_BYTES_MAX = 512
"""What a batch puts before a record."""
GROUP_SLACK_BYTES = 320 * 1024
"""What a group may hold besides one record: the events of one connection's burst."""


class Streams(msgspec.Struct, frozen=True):
    """What was found or made."""

    partitions: int
    connections: int
    """How many records were found, disconnected ones included."""
    record_bytes_max: int
    """How large a record every bucket takes."""
    keyring_id: str | None = None
    """The key that seals; whoever has it has this state's keyring. None where a stream has none."""
    earlier_keys: tuple[str, ...] = ()
    """The others that may have sealed something."""


async def ensure_streams(
    link: NatsLink, settings: StreamSettings, *, keyring_id: Callable[[], str] | None = None
) -> Streams:
    """Make what is missing, check what is there.

    Takes the same number of requests however many connections are stored.

    Args:
        link: A connection that may make streams.
        settings: What the configuration says of them.
        keyring_id: Called where the first bucket is to be made, which keeps it.

    Raises:
        StreamsError: The server is too old, has no JetStream, or a stream cannot be trusted.
    """
    if link.server_version < SERVER_VERSION_MIN:
        wanted = ".".join(map(str, SERVER_VERSION_MIN))
        found = ".".join(map(str, link.server_version))
        raise StreamsError(f"nats-server {wanted} or newer is needed, this one is {found}")
    _check_payload(link.max_payload, settings)
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
        await asyncio.gather(
            *(
                _ensure(link, _ledger_config(settings, partition), _ledger_laws(partition))
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
        sum(_connections(bucket) for bucket in buckets),
        min(_room_of(bucket, link.max_payload) for bucket in buckets) - _HEADERS_BYTES_MAX,
        _metadata(buckets[0], KEYRING_METADATA),
        _earlier_keys(buckets[0]),
    )


def _check_payload(max_payload: int, settings: StreamSettings) -> None:
    """Refuse a server that could not take what was accepted."""
    needed = settings.record_bytes_max + GROUP_SLACK_BYTES
    if max_payload < needed:
        raise StreamsError(
            f"the server's max_payload is {max_payload}, but service.limits.credential_bytes_max "
            f"takes {needed}: raise the one or lower the other"
        )


def _metadata(info: StreamInfo, name: str) -> str | None:
    """Return a text that a stream's maker has left with it."""
    metadata = info.config.get("metadata")
    text = metadata.get(name) if isinstance(metadata, dict) else None
    return text if isinstance(text, str) else None


def _earlier_keys(info: StreamInfo) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(
            _metadata(info, EARLIER_KEYS_METADATA) or "[]", type=tuple[str, ...]
        )
    except msgspec.MsgspecError:
        raise StreamsError(
            f"{bucket_stream(0)}: its {EARLIER_KEYS_METADATA} is not one of refreshd's"
        ) from None


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


async def connections_stored(link: NatsLink, partitions: int) -> int:
    """Return how many connections the buckets hold, disconnected ones included.

    Every bucket of a partition that is owned has a marker, which is a message, too.

    Raises:
        LinkError, JetStreamError: It cannot be told now.
    """
    infos = await asyncio.gather(
        *(stream_info(link, bucket_stream(partition)) for partition in range(partitions))
    )
    return sum(max(info.state.messages - 1, 0) for info in infos if info is not None)


async def _ensure(
    link: NatsLink, config: dict[str, object], laws: Mapping[str, tuple[object, str]]
) -> StreamInfo:
    """Make one stream, or check the one that is there against ``laws``; return it as found."""
    name = str(config["name"])
    info = await stream_info(link, name) or await create_stream(link, config)
    lacking = {
        setting: config[setting]
        for setting in _ADDED_SINCE_0_1
        if setting in config and info.config.get(setting, _ABSENT.get(setting)) != config[setting]
    }
    is_ours = _is_ours(info, config)
    _obey(info, {law: wanted for law, wanted in laws.items() if not is_ours or law not in lacking})
    if lacking and is_ours:
        _obey(await update_stream(link, {**info.config, **lacking}), laws)
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


def _obey(info: StreamInfo, laws: Mapping[str, tuple[object, str]]) -> None:
    """Refuse a stream that cannot be trusted.

    Raises:
        StreamsError: The text names the stream, the setting and why.
    """
    for setting, (wanted, why) in laws.items():
        found = info.config.get(setting, _ABSENT.get(setting))
        if found != wanted:
            name = info.config.get("name")
            raise StreamsError(f"stream {name} has {setting}={found!r}, not {wanted!r}: {why}")


_ADDED_SINCE_0_1 = ("allow_atomic", "allow_direct", "allow_rollup_hdrs", "subjects")


def _room_of(bucket: StreamInfo, max_payload: int) -> int:
    """Return how large a message a bucket takes, with its headers, and so does a group."""
    limit = _number(bucket.config, "max_msg_size")
    room = max_payload - GROUP_SLACK_BYTES
    return min(limit, room) if limit > 0 else room


def _connections(bucket: StreamInfo) -> int:
    """Return how many records a bucket holds; only one of version 0.1 has no marker."""
    has_marker = bucket.config.get("allow_atomic") is True
    return max(bucket.state.messages - has_marker, 0)


def _is_ours(info: StreamInfo, config: Mapping[str, object]) -> bool:
    """Whether a stream captures what ours does, or did before there were markers."""
    found, wanted = info.config.get("subjects"), config.get("subjects")
    assert isinstance(wanted, list)
    return found in (wanted, wanted[:1])


def _number(config: Mapping[str, object], setting: str) -> int:
    """Return a setting that is a number; 0 where there is none."""
    number = config.get(setting)
    return number if isinstance(number, int) else 0


_ABSENT: dict[str, object] = {
    "allow_direct": False,
    "mirror_direct": False,
    "persist_mode": "default",
    "allow_atomic": False,
    "allow_rollup_hdrs": False,
    "no_ack": False,
    "max_age": 0,
    "deny_purge": False,
}
"""What a setting is when the server leaves it out."""

_BUCKET_LAWS: Mapping[str, tuple[object, str]] = {
    "storage": ("file", "connections would not survive a restart"),
    "retention": ("limits", "records would vanish"),
    "max_msgs_per_subject": (1, "a record is one message"),
    "max_age": (0, "records would vanish"),
    "discard": ("new", "old records would vanish when the bucket is full"),
    "allow_direct": (True, "a record and the marker are read together"),
    "allow_atomic": (True, "checkpoints are written in batches"),
    "persist_mode": ("default", "acknowledged writes could be lost"),
    "no_ack": (False, "writes would not be acknowledged"),
}


def _event_laws(settings: StreamSettings) -> Mapping[str, tuple[object, str]]:
    return {
        "subjects": (
            [events_filter(settings.prefix), EVENT_MARKERS],
            "it must capture our events and no others",
        ),
        "storage": ("file", "events would not survive a restart"),
        "persist_mode": ("default", "acknowledged events could be lost"),
        "allow_atomic": (True, "events are stored in batches"),
        "allow_rollup_hdrs": (True, "a marker takes the place of the one before it"),
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
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": metadata,
    }


def _event_config(settings: StreamSettings) -> dict[str, object]:
    """Return the event stream's configuration."""
    return {
        "name": EVENT_STREAM,
        "description": "refreshd: what happened to each connection",
        "subjects": [events_filter(settings.prefix), EVENT_MARKERS],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": settings.event_bytes_max,
        "max_age": settings.event_age_s_max * _NANOSECONDS,
        "duplicate_window": settings.event_duplicate_window_s * _NANOSECONDS,
        "num_replicas": settings.replicas,
        "allow_atomic": True,
        "allow_rollup_hdrs": True,
    }


def _ledger_config(settings: StreamSettings, partition: int) -> dict[str, object]:
    """Return a ledger's stream configuration: nothing leaves it but by our own trim."""
    return {
        "name": ledger_stream(partition),
        "description": "refreshd: what was decided, until every view holds it",
        "subjects": [ledger_subject(partition)],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "num_replicas": settings.replicas,
        "deny_delete": True,
    }


def _ledger_laws(partition: int) -> Mapping[str, tuple[object, str]]:
    return {
        "subjects": ([ledger_subject(partition)], "it must capture our groups and no others"),
        "storage": ("file", "what was acknowledged would not survive a restart"),
        "retention": ("limits", "what was acknowledged would vanish"),
        "discard": ("new", "what was acknowledged would vanish when the ledger is full"),
        "max_age": (0, "what was acknowledged would vanish"),
        "persist_mode": ("default", "what was acknowledged could be lost"),
        "no_ack": (False, "appends would not be acknowledged"),
        "deny_purge": (False, "replaced credentials could not be removed"),
    }
