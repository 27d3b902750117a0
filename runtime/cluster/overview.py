"""How the whole cluster is, from any member: what the others tell, and where the ledgers end."""

import contextlib
from collections.abc import Sequence

import anyio

from actors.cluster import Cluster
from runtime.cluster.checkpoints import Checkpoints
from runtime.cluster.totals import Totals, told_by_owners, totals
from runtime.ledger.partition_streams import PartitionStreams
from runtime.ledger.standing import Standing, read_standing, unknown_standing
from runtime.nats.errors import NO_ANSWER_IN_TIME, LinkError
from runtime.nats.jetstream_api import JetStreamError

_CHECKPOINT_S = 0.5
_READ_S = 1.0
_NEWS_S = 0.4
"""How long the others' answers are waited for: they gather for 50 ms what they tell."""


class Overview:
    """Answers for all members and all partitions."""

    def __init__(
        self, cluster: Cluster, checkpoints: Checkpoints, streams: Sequence[PartitionStreams]
    ) -> None:
        """Ask nobody yet.

        Args:
            cluster: Knows who is there.
            checkpoints: So that what is counted in the buckets is all there is, if that is soon.
            streams: All partitions'.
        """
        self._cluster = cluster
        self._checkpoints = checkpoints
        self._streams = streams

    async def now(self) -> Totals:
        """Return how everything is that was acknowledged before the call.

        What a member has told is held against its ledgers' ends: what it does not know of yet
        counts as lacking, so ``events_lacking`` is never 0 too early. What nobody owns is read.
        """
        numbers = range(len(self._streams))
        ends: dict[int, int] = {}
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(self._checkpoint, number)
                tasks.start_soon(self._look_for_end, number, ends)
        members = await self._cluster.asked(within_s=_NEWS_S)
        told = told_by_owners(members)
        standings: dict[int, Standing] = {}
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                if number in told:
                    standings[number] = told[number].as_of(ends.get(number))
                else:
                    tasks.start_soon(self._read, number, standings)
        return totals(members, [standings[number] for number in numbers])

    async def _checkpoint(self, number: int) -> None:
        with anyio.move_on_after(_CHECKPOINT_S):
            await self._checkpoints.checkpointed(number)

    async def _look_for_end(self, number: int, ends: dict[int, int]) -> None:
        with anyio.move_on_after(_READ_S), contextlib.suppress(LinkError, JetStreamError):
            _, ends[number] = await self._streams[number].bounds()

    async def _read(self, number: int, standings: dict[int, Standing]) -> None:
        standings[number] = unknown_standing(number, NO_ANSWER_IN_TIME)
        with anyio.move_on_after(_READ_S):
            standings[number] = await read_standing(self._streams[number], number)
