"""What the ledger's views say in the end: every generation exact, every event there, in order."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from uuid import UUID

from domain.record import decode_record
from runtime.ledger.subjects import (
    EVENT_STREAM,
    NO_TAG,
    bucket_stream,
    partition_of,
    record_key_subject,
)
from runtime.nats.direct_get import last_messages
from runtime.nats.jetstream_api import stream_info
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream

_PATIENCE_S = 60.0
_PAUSE_S = 0.1
_RECORDS_AT_ONCE = 200
_REFRESH_EVENT = re.compile(r"refreshd\.v1\.event\.[^.]+\.([^.]+)\.token_refresh\.([a-z]+)")


class WrongOutcomeError(Exception):
    """A view does not say what the answers said."""


class Views:
    """Follows both views of a daemon from one stretch of load to the next."""

    def __init__(self, link: NatsLink, *, partitions: int) -> None:
        """Begin with the first event."""
        self._link = link
        self._partitions = partitions
        self._next_seq = 1

    async def skip(self) -> None:
        """Pass over what the event stream holds now."""
        info = await stream_info(self._link, EVENT_STREAM)
        assert info is not None
        self._next_seq = info.state.last_seq + 1

    async def check(self, refreshes: Mapping[str, int], generations: Mapping[str, int]) -> None:
        """Wait until the views hold so many refreshes more, and look at each.

        Args:
            refreshes: How many were answered since the last time, by connection.
            generations: What each connection must have got to.

        Raises:
            WrongOutcomeError: Something is missing, double, or out of order.
        """
        until_s = time.monotonic() + _PATIENCE_S
        steps: defaultdict[str, list[str]] = defaultdict(list)
        missing = 2 * sum(refreshes.values())
        while missing > 0:
            if time.monotonic() > until_s:
                raise WrongOutcomeError(f"{missing} events are missing")
            async for message in read_stream(self._link, EVENT_STREAM, start_seq=self._next_seq):
                self._next_seq = message.sequence + 1
                # Besides: markers, and the events of connecting.
                if found := _REFRESH_EVENT.fullmatch(message.subject):
                    steps[found[1]].append(found[2])
                    missing -= 1
            await asyncio.sleep(_PAUSE_S)
        for connection_id, seen in steps.items():
            if seen != ["attempted", "succeeded"] * refreshes.get(connection_id, 0):
                raise WrongOutcomeError(f"the events of {connection_id} are {Counter(seen)}")
        await self._check_records(refreshes, generations, until_s)

    async def _check_records(
        self, refreshes: Mapping[str, int], generations: Mapping[str, int], until_s: float
    ) -> None:
        """Compare the records of those that were refreshed, when they are checkpointed."""
        left = defaultdict[int, list[str]](list)
        for connection_id in refreshes:
            left[_partition(connection_id, self._partitions)].append(connection_id)
        for partition, ids in left.items():
            for start in range(0, len(ids), _RECORDS_AT_ONCE):
                asked = ids[start : start + _RECORDS_AT_ONCE]
                while wrong := await self._differing(partition, asked, generations):
                    if time.monotonic() > until_s:
                        raise WrongOutcomeError(f"the generations of {wrong} are wrong")
                    await asyncio.sleep(_PAUSE_S)

    async def _differing(
        self, partition: int, ids: list[str], generations: Mapping[str, int]
    ) -> dict[str, int]:
        """Return the connections whose record has another generation, and which."""
        subjects = {record_key_subject(partition, one, NO_TAG): one for one in ids}
        found = await last_messages(
            self._link, bucket_stream(partition, NO_TAG), [*subjects], timeout_s=10
        )
        wrong: dict[str, int] = {}
        for subject, one in subjects.items():
            stored = found.get(subject)
            generation = 0
            if stored is not None and stored.data:
                generation = decode_record(stored.data).connection.generation
            if generation != generations[one]:
                wrong[one] = generation
        return wrong


def _partition(connection_id: str, partitions: int) -> int:
    return partition_of(UUID(connection_id), partitions)
