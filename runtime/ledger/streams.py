"""The streams that refreshd keeps, made on first use and checked on every start.

A ledger and a bucket per partition (four, or as many as the first start chose) and one event
stream, under names that hold the subject prefix (see ``subjects``), so that several daemons can
share an account. Streams of version 0.1 get the settings that the ledger needs; one whose
settings would lose acknowledged data is refused, with the setting named.
"""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from runtime.ledger.patience import answered
from runtime.ledger.replicas import fewer_replicas
from runtime.ledger.stream_configs import (
    KEYRING_METADATA,
    PARTITIONS_METADATA,
    StreamSettings,
    bucket_configs,
    event_config,
    ledger_config,
)
from runtime.ledger.stream_laws import ABSENT, BUCKET_LAWS, event_laws, ledger_laws
from runtime.ledger.subjects import (
    EVENT_STREAM,
    RECORDS_FILTER,
    bucket_stream,
    event_stream,
    events_filter,
    record_key_subject,
    tag_of,
)
from runtime.nats.direct_get import count_messages
from runtime.nats.errors import LinkError, NoRespondersError
from runtime.nats.jetstream_api import (
    NAME_IN_USE,
    SUBJECTS_OVERLAP,
    JetStreamError,
    StreamInfo,
    create_stream,
    number_of,
    stream_info,
    update_stream,
)
from runtime.nats.link import SERVER_VERSION_MIN, NatsLink

EARLIER_KEYS_METADATA = "refreshd.keyring.earlier"


class StreamsError(Exception):
    """The streams cannot be used; the text says which setting of which stream, and why."""


PARTITIONS_DEFAULT = 4
_MADE_LOOKS, _MADE_PAUSE_S = 50, 0.2
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
    tag: str = ""
    """What stands for the prefix in the streams' names."""
    fewer_replicas: Mapping[str, int] = {}
    """The streams with fewer replicas than configured, and how many they have."""


async def ensure_streams(
    link: NatsLink, settings: StreamSettings, *, keyring_id: Callable[[], str] | None = None
) -> Streams:
    """Make what is missing, check what is there.

    Takes the same number of requests however many connections are stored; servers that give no
    answer are asked again for half a minute, in which a cluster elects its leaders.

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
        return await answered(lambda: _ensured(link, settings, keyring_id))
    except NoRespondersError:
        raise StreamsError(
            f"JetStream is not enabled at {link.url} for this user's account: it takes "
            "`jetstream {}` in nats-server's configuration, and in the account's where there are "
            "accounts"
        ) from None
    except LinkError as error:
        raise StreamsError(f"JetStream does not answer: {error}") from None
    except JetStreamError as error:
        raise StreamsError(str(error)) from None


async def _ensured(
    link: NatsLink, settings: StreamSettings, keyring_id: Callable[[], str] | None
) -> Streams:
    """Do as ``ensure_streams``, once.

    Raises:
        LinkError, JetStreamError: It cannot be done now.
    """
    tag = await state_tag(link, settings.prefix)
    first = await stream_info(link, bucket_stream(0, tag))
    partitions = _partitions(first, settings, tag)
    key_id = keyring_id() if first is None and keyring_id is not None else None
    buckets = await asyncio.gather(
        *(
            _ensure(link, config, BUCKET_LAWS)
            for config in bucket_configs(settings, partitions, tag, key_id)
        )
    )
    ledgers = await asyncio.gather(
        *(
            _ensure(link, ledger_config(settings, number, tag), ledger_laws(number, tag))
            for number in range(partitions)
        )
    )
    events = await _ensure(link, event_config(settings, tag), event_laws(settings.prefix, tag))
    counts = await asyncio.gather(*(_records(link, one, tag) for one in range(partitions)))
    # A bucket of version 0.1 alone has no marker, which is counted with the records.
    markers = [bucket.config.get("allow_atomic") is True for bucket in buckets]
    return Streams(
        partitions,
        sum(max(count - marker, 0) for count, marker in zip(counts, markers, strict=True)),
        min(_room_of(bucket, link.max_payload) for bucket in buckets) - _HEADERS_BYTES_MAX,
        _metadata(buckets[0], KEYRING_METADATA),
        _earlier_keys(buckets[0], tag),
        tag,
        fewer_replicas((*buckets, *ledgers, events), settings.replicas),
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


def _earlier_keys(info: StreamInfo, tag: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(
            _metadata(info, EARLIER_KEYS_METADATA) or "[]", type=tuple[str, ...]
        )
    except msgspec.MsgspecError:
        raise StreamsError(
            f"{bucket_stream(0, tag)}: its {EARLIER_KEYS_METADATA} is not one of refreshd's"
        ) from None


async def state_tag(link: NatsLink, prefix: str) -> str:
    """Return what stands for ``prefix`` in the names of its streams.

    Version 0.1 had the default prefix's names for every prefix. Such streams stay in use, by the
    prefix that has made them.

    Raises:
        LinkError, JetStreamError: It cannot be told now.
    """
    tag = tag_of(prefix)
    if not tag or await stream_info(link, event_stream(tag)) is not None:
        return tag
    former = await stream_info(link, EVENT_STREAM)
    subjects = None if former is None else former.config.get("subjects")
    is_ours = isinstance(subjects, list) and events_filter(prefix) in subjects
    return "" if is_ours else tag


def _partitions(first: StreamInfo | None, settings: StreamSettings, tag: str) -> int:
    """Return the partition count, which the first start writes into the first bucket for ever."""
    if first is None:
        return settings.partitions or PARTITIONS_DEFAULT
    stored = _stored_partitions(first, tag)
    if settings.partitions not in (None, stored):
        raise StreamsError(
            f"state.partitions is {settings.partitions}, but this cluster was set up with "
            f"{stored}, and the count cannot change"
        )
    return stored


def _stored_partitions(first: StreamInfo, tag: str) -> int:
    text = _metadata(first, PARTITIONS_METADATA)
    if text is None or not text.isdigit():
        name = bucket_stream(0, tag)
        raise StreamsError(f"{name} was not made by refreshd: no {PARTITIONS_METADATA}")
    return int(text)


async def partitions_stored(link: NatsLink, tag: str) -> int | None:
    """Return how many partitions there are; None: nothing was ever stored.

    Raises:
        StreamsError: The first bucket is not refreshd's.
        LinkError, JetStreamError: It cannot be told now.
    """
    first = await stream_info(link, bucket_stream(0, tag))
    return None if first is None else _stored_partitions(first, tag)


async def connections_stored(link: NatsLink, streams: Streams) -> int:
    """Return how many connections the buckets hold, disconnected ones included.

    Every bucket of a partition that is owned has a marker, which is a message, too.

    Raises:
        LinkError, JetStreamError: It cannot be told now.
    """
    counts = await asyncio.gather(
        *(_records(link, number, streams.tag) for number in range(streams.partitions))
    )
    return sum(max(messages - 1, 0) for messages in counts)


async def _records(link: NatsLink, partition: int, tag: str) -> int:
    """Return how many records a bucket holds, its marker counted with them; 0: it is gone."""
    records = record_key_subject(partition, RECORDS_FILTER, tag)
    try:
        return await count_messages(link, bucket_stream(partition, tag), records)
    except NoRespondersError:
        return 0


async def _ensure(
    link: NatsLink, config: dict[str, object], laws: Mapping[str, tuple[object, str]]
) -> StreamInfo:
    """Make one stream, or check the one that is there against ``laws``; return it as found."""
    name = str(config["name"])
    info = await stream_info(link, name) or await _created(link, config)
    lacking = {
        setting: config[setting]
        for setting in _ADDED_SINCE_0_1
        if setting in config and info.config.get(setting, ABSENT.get(setting)) != config[setting]
    }
    is_ours = _is_ours(info, config)
    _obey(info, {law: wanted for law, wanted in laws.items() if not is_ours or law not in lacking})
    if lacking and is_ours:
        _obey(await update_stream(link, {**info.config, **lacking}), laws)
    room, needed = number_of(info.config, "max_msg_size"), number_of(config, "max_msg_size")
    if 0 < room < needed:
        raise StreamsError(
            f"stream {name} has max_msg_size={room}, but service.limits.credential_bytes_max takes "
            f"{needed}: what was accepted could not be stored"
        )
    return info


async def _created(link: NatsLink, config: dict[str, object]) -> StreamInfo:
    """Make a stream.

    Raises:
        StreamsError: Another one captures what it is for.
    """
    try:
        return await create_stream(link, config)
    except JetStreamError as error:
        if error.err_code == NAME_IN_USE:
            # Another daemon was faster; what it has made is checked as any other.
            found = await _made_by_another(link, str(config["name"]))
            if found is not None:
                return found
        if error.err_code != SUBJECTS_OVERLAP:
            raise
        raise StreamsError(
            f"stream {config['name']} cannot be made: another one captures a part of its subjects "
            f"{config['subjects']}; choose another service.prefix, or remove that stream"
        ) from None


async def _made_by_another(link: NatsLink, name: str) -> StreamInfo | None:
    """Return a stream that is being made: a cluster knows its name before it can be asked for."""
    for _ in range(_MADE_LOOKS):
        found = await stream_info(link, name)
        if found is not None:
            return found
        await asyncio.sleep(_MADE_PAUSE_S)
    return None


def _obey(info: StreamInfo, laws: Mapping[str, tuple[object, str]]) -> None:
    """Refuse a stream that cannot be trusted.

    Raises:
        StreamsError: The text names the stream, the setting and why.
    """
    for setting, (wanted, why) in laws.items():
        found = info.config.get(setting, ABSENT.get(setting))
        if found != wanted:
            name = info.config.get("name")
            raise StreamsError(f"stream {name} has {setting}={found!r}, not {wanted!r}: {why}")


_ADDED_SINCE_0_1 = ("allow_atomic", "allow_direct", "allow_rollup_hdrs", "subjects")


def _room_of(bucket: StreamInfo, max_payload: int) -> int:
    """Return how large a message a bucket takes, with its headers, and so does a group."""
    limit = number_of(bucket.config, "max_msg_size")
    room = max_payload - GROUP_SLACK_BYTES
    return min(limit, room) if limit > 0 else room


def _is_ours(info: StreamInfo, config: Mapping[str, object]) -> bool:
    """Whether a stream captures what ours does, or did before there were markers."""
    found, wanted = info.config.get("subjects"), config.get("subjects")
    assert isinstance(wanted, list)
    return found in (wanted, wanted[:1])
