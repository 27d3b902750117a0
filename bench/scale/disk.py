"""What is on disk, and in which streams."""

import os
from pathlib import Path
from typing import NamedTuple

from runtime.ledger.streams import PARTITIONS_DEFAULT
from runtime.ledger.subjects import EVENT_STREAM, NO_TAG, bucket_stream, ledger_stream
from runtime.nats.jetstream_api import stream_info
from runtime.nats.link import NatsLink


class Held(NamedTuple):
    """Bytes."""

    records: int
    """Records and due index."""
    events: int
    ledger: int


async def held(link: NatsLink) -> Held:
    """Return what the streams hold, by their own word."""
    partitions = range(PARTITIONS_DEFAULT)
    return Held(
        sum([await _bytes(link, bucket_stream(one, NO_TAG)) for one in partitions]),
        await _bytes(link, EVENT_STREAM),
        sum([await _bytes(link, ledger_stream(one, NO_TAG)) for one in partitions]),
    )


def used_bytes(folder: Path) -> int:
    """Return what the files of a folder take on disk."""
    return sum(
        os.lstat(Path(place) / name).st_blocks * 512
        for place, _, names in os.walk(folder)
        for name in names
    )


async def _bytes(link: NatsLink, stream: str) -> int:
    info = await stream_info(link, stream)
    return 0 if info is None else info.state.bytes
