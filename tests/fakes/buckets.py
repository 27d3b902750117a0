"""A listing's buckets without a daemon that owns them: nobody says how fresh an answer must be."""

from collections.abc import Sequence

import anyio.lowlevel

from domain.grant_end import action_needed
from runtime.gateway.replies import connection_view
from runtime.ledger.listing import Listing
from runtime.ledger.partition_streams import Kept, PartitionStreams
from tests.domain.shapes import NOW


class UnownedBucket:
    """Implements ``runtime.ledger.listing.Bucket``."""

    def __init__(self, streams: PartitionStreams) -> None:
        """Read from ``streams``."""
        self._streams = streams

    async def scan(self, start_seq: int, *, messages_max: int) -> Sequence[Kept]:
        """See ``Bucket``."""
        return await self._streams.scan(start_seq, messages_max=messages_max, timeout_s=5)


def listing_of(streams: Sequence[PartitionStreams], *, records_max: int = 5_000) -> Listing:
    """Return a listing of what ``streams`` hold, one a partition."""
    return Listing(
        lambda number: UnownedBucket(streams[number]),
        partitions=len(streams),
        view=connection_view,
        action_needed=lambda one: action_needed(one, None, NOW),
        checkpointed=anyio.lowlevel.checkpoint,
        records_max=records_max,
    )
