"""Reads of a bucket from some sequence on, that no replica which lags can cut short."""

from collections.abc import Sequence
from typing import Protocol

import anyio

from runtime.ledger.partition_streams import Kept

_PAUSE_S = 0.05


class Bucket(Protocol):
    """One partition's records; ``PartitionStreams`` is one."""

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """See ``PartitionStreams``."""
        ...


async def scan_proven(
    bucket: Bucket, start_seq: int, *, marker_seq: int, messages_max: int, timeout_s: float
) -> Sequence[Kept]:
    """Return what a bucket holds from ``start_seq`` on, in the order of the last writes.

    Nothing is proof that the batch which ends at ``marker_seq`` lies before ``start_seq``: a
    replica that has not yet got it is asked again.

    Raises:
        LinkError: No answer within ``timeout_s``.
    """
    while True:
        found = await bucket.scan(start_seq, messages_max=messages_max, timeout_s=timeout_s)
        if found or start_seq > marker_seq:
            return found
        await anyio.sleep(_PAUSE_S)
