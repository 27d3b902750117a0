"""A restore under way is noted with the first bucket: half of a state is never served as one."""

import msgspec

from runtime.ledger.streams import StreamsError
from runtime.ledger.subjects import bucket_stream
from runtime.nats.jetstream_api import stream_info, update_stream
from runtime.nats.link import NatsLink

RESTORING_METADATA = "refreshd.restoring"


class HalfRestoredError(StreamsError):
    """What is stored is a part of a backup; the text names the backup and the mend."""


async def restoring(link: NatsLink, tag: str) -> str | None:
    """Return which backup is being restored, as it was noted, or None.

    Raises:
        LinkError, JetStreamError: It cannot be told now.
    """
    info = await stream_info(link, bucket_stream(0, tag))
    metadata = None if info is None else info.config.get("metadata")
    return msgspec.convert(metadata or {}, dict[str, str]).get(RESTORING_METADATA)


async def note_restoring(link: NatsLink, tag: str, backup: str | None) -> None:
    """Note which backup is being restored from now on, in words that name it; None: it is done.

    Raises:
        LinkError, JetStreamError: It is not noted, or not known to be.
    """
    info = await stream_info(link, bucket_stream(0, tag))
    assert info is not None
    metadata = msgspec.convert(info.config.get("metadata") or {}, dict[str, str])
    metadata.pop(RESTORING_METADATA, None)
    if backup is not None:
        metadata[RESTORING_METADATA] = backup
    await update_stream(link, {**info.config, "metadata": metadata})


async def refuse_half_restored(link: NatsLink, tag: str) -> None:
    """Return where no restore was broken off.

    Raises:
        HalfRestoredError: One was.
        LinkError, JetStreamError: It cannot be told now.
    """
    backup = await restoring(link, tag)
    if backup is not None:
        raise HalfRestoredError(
            f"a restore of backup {backup} was broken off: repeat `refreshd restore` with the same "
            "file; it goes on"
        )
