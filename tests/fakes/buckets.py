"""A listing of buckets without a daemon that owns them: nobody says how fresh a read must be."""

from collections.abc import Sequence

from domain.grant_end import action_needed
from runtime.gateway.replies import connection_view
from runtime.ledger.listing import Listing
from runtime.ledger.partition_streams import PartitionStreams
from tests.domain.shapes import NOW


async def unproven(_partition: int) -> int:
    """Return the sequence of a marker that no read has to show."""
    return 0


def listing_of(streams: Sequence[PartitionStreams], *, records_max: int = 5_000) -> Listing:
    """Return a listing of what ``streams`` hold, one a partition."""
    return Listing(
        streams,
        proven=unproven,
        view=connection_view,
        action_needed=lambda one: action_needed(one, None, NOW),
        records_max=records_max,
        read_timeout_s=5,
    )
