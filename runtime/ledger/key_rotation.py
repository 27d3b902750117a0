"""Which keys may still seal what is stored: the check for the right keyring follows rotation.

The first bucket notes the key that seals now, and the others that have been in the ring and
may have sealed something. A ring without the former is another daemon's. One without one of the
latter has retired it: then the records are read, once, for what it still seals.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from domain.credentials import Sealed
from domain.record import RecordError, decode_record
from runtime.ledger.sealing import Keyring, KeyringError, open_keyring
from runtime.ledger.stream_configs import KEYRING_METADATA
from runtime.ledger.streams import EARLIER_KEYS_METADATA, Streams, StreamsError
from runtime.ledger.subjects import (
    MARKER_KEY,
    RECORDS_FILTER,
    bucket_stream,
    record_key_subject,
)
from runtime.logs import log
from runtime.nats.jetstream_api import stream_info, update_stream
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream

REMEDY = "put the key back into the keyring, beside the new one, until nothing is sealed with it"


def open_keyring_of(path: Path, *, connections: int, create: bool) -> Keyring:
    """Open the keyring, or make one where nothing is stored that an older one has sealed.

    Raises:
        KeyringError: As for ``open_keyring``, and where the one that sealed what is stored is gone.
    """
    if connections and not path.exists():
        raise KeyringError(
            f"{path}: no such file, but {connections} connections are stored: restore the keyring "
            "that sealed them, or name it in keys.file"
        )
    return open_keyring(path, create=create)


def refuse_another_keyring(streams: Streams, keyring: Keyring, path: Path) -> None:
    """Return where the ring is this state's.

    Raises:
        KeyringError: The key that sealed last is not in it.
    """
    last = streams.keyring_id or keyring.primary
    if last not in keyring:
        raise KeyringError(
            f"{path}: key {last!r} is not in it, but that is what sealed last here: {REMEDY}; "
            "or is it another daemon's keyring?"
        )


async def follow_rotation(
    link: NatsLink,
    streams: Streams,
    keyring: Keyring,
    *,
    checkpoint: Callable[[], Awaitable[bool]],
) -> None:
    """Note the keys of the ring, and say what those that were taken out of it still seal.

    To be called when the partitions are taken, and before anything is sealed: what is noted is
    never less than what is in use.

    Args:
        link: To the streams.
        streams: What was noted.
        keyring: What ``refuse_another_keyring`` has not refused.
        checkpoint: Has written into the buckets what only the ledgers hold, all daemons'; False:
            not all, now. Then nothing is said of what the keys seal, and they stay noted.

    Raises:
        LinkError, JetStreamError: What is noted, or sealed, cannot be read or written.
    """
    last = streams.keyring_id or keyring.primary
    retired = [key_id for key_id in streams.earlier_keys if key_id not in keyring]
    kept: set[str] = set()
    if retired and await checkpoint():
        still_seals = await _sealed_with(link, streams, retired)
        for key_id, connections in still_seals.items():
            log.error("key_missing", key=key_id, connections=connections, remedy=REMEDY)
        kept = {*still_seals}
    elif retired:
        log.warning("retired_keys_not_checked", keys=retired, consequence="the next start does it")
        kept = {*retired}
    noted = {last, *streams.earlier_keys, *keyring.ids}
    earlier = {key for key in noted if key in keyring or key in kept} - {keyring.primary}
    if (keyring.primary, earlier) != (streams.keyring_id, set(streams.earlier_keys)):
        await _note(link, streams.tag, keyring.primary, sorted(earlier))


async def note_joined(link: NatsLink, tag: str, keyring: Keyring) -> None:
    """Note the keys of a ring that a reload has brought, before anything is sealed with them.

    Raises:
        KeyringError: What sealed last here, perhaps another member's key, is not in it.
        StreamsError: The bucket that keeps the note is gone.
        LinkError, JetStreamError: What is noted cannot be read or written.
    """
    info = await stream_info(link, bucket_stream(0, tag))
    if info is None:
        raise StreamsError(f"stream {bucket_stream(0, tag)} is gone: restore a backup")
    metadata = info.config.get("metadata") or {}
    assert isinstance(metadata, dict)
    last = metadata.get(KEYRING_METADATA, keyring.primary)
    earlier = msgspec.json.decode(metadata.get(EARLIER_KEYS_METADATA, "[]"), type=set[str])
    if last not in keyring:
        raise KeyringError(
            f"key {last!r} is not in it, but that is what sealed last here: {REMEDY}"
        )
    earlier = (earlier | {last} | keyring.ids) - {keyring.primary}
    await _note(link, tag, keyring.primary, sorted(earlier))


async def _sealed_with(link: NatsLink, streams: Streams, keys: Sequence[str]) -> Counter[str]:
    """Return how many records each of the keys still seals; it reads them all."""
    sealed: Counter[str] = Counter()
    for partition in range(streams.partitions):
        records = record_key_subject(partition, RECORDS_FILTER, streams.tag)
        stream = bucket_stream(partition, streams.tag)
        async for message in read_stream(link, stream, filter_subject=records):
            if message.data and not message.subject.endswith(f".{MARKER_KEY}"):
                sealed.update(_keys_of(message.data))
    return Counter({key_id: sealed[key_id] for key_id in keys if sealed[key_id]})


def _keys_of(record: bytes) -> tuple[str, ...]:
    """Return the key that seals a record's secret, if any does and it can be read."""
    try:
        credentials = decode_record(record).connection.credentials
    except RecordError:
        return ()
    if credentials is None or not isinstance(credentials.payload, Sealed):
        return ()
    return (credentials.payload.key_id,)


async def _note(link: NatsLink, tag: str, primary: str, earlier: Sequence[str]) -> None:
    """Write the keys beside what else is known of the first bucket."""
    info = await stream_info(link, bucket_stream(0, tag))
    assert info is not None
    found = info.config.get("metadata")
    metadata = {
        **(found if isinstance(found, dict) else {}),
        KEYRING_METADATA: primary,
        EARLIER_KEYS_METADATA: msgspec.json.encode(earlier).decode(),
    }
    await update_stream(link, {**info.config, "metadata": metadata})
