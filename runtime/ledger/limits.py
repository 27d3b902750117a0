"""The bounds of the ledger and its views; all of them are configuration."""

from typing import Annotated

import msgspec
from msgspec import Meta

from actors.world import Count, Seconds


class LedgerLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a partition's ledger is written and followed. A reload sets some in place."""

    answer_timeout_s: Seconds = 1.0
    """How long one copy of an append, a batch or a trim waits for its answer."""
    read_timeout_s: Seconds = 1.5
    """How long a record may take to be read."""
    group_bytes_max: Annotated[int, Meta(ge=1024, le=512 * 1024)] = 256 * 1024
    """How large a group may grow. The server's ``max_payload`` must hold it."""
    checkpoint_s: Seconds = 1.0
    """How long the records view gathers before it writes a checkpoint."""
    events_gather_s: Seconds = 0.2
    """How long events gather between two batches, unless they fill one before."""
    batch_messages_max: Annotated[int, Meta(ge=1, le=999)] = 900
    """How many messages a batch of a view holds, besides its marker."""
    unsettled_bytes_max: Count = 128 * 1024 * 1024
    """What may be stored and not yet in every view, a daemon; beyond it ``OVERLOADED``."""
    count_records_per_s: Count = 5_000
    """How many records are looked at a second at most, after a start, to count them by status."""
    due_held_max: Count = 50_000
    """How many entries of the due index a partition holds; the others lie in the bucket."""
    due_scan_records_per_s: Count = 1_000
    """How many records that lack an entry get one a second at most; see ``due_scan``."""
    last_views_s: Seconds = 5.0
    """How long a stopping daemon lets its views catch up; what they lack then comes next time."""
