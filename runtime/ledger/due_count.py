"""How many connections are due in the minutes to come, counted by their entries.

Each minute of the coming day is counted by one small request, beside everything else, and then kept
as entries are written. An entry that nothing confirms any more is counted with the others until
its minute is over.
"""

from collections.abc import Callable

import anyio

from domain.looks import minute_of_s
from runtime.ledger.due_entries import DueEntry
from runtime.ledger.partition_streams import PartitionStreams
from runtime.ledger.records_view import RecordsView
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

DAY_MINUTES = 1440
_PAUSE_S = 0.02
_LOOK_S = 5.0


class DueCount:
    """One partition's count of the coming day."""

    def __init__(
        self,
        streams: PartitionStreams,
        records: RecordsView,
        *,
        now_s: Callable[[], float],
        timeout_s: float,
    ) -> None:
        """Know nothing yet; ``run`` counts."""
        self._streams = streams
        self._records = records
        self._now_s = now_s
        self._timeout_s = timeout_s
        self._counts: dict[int, int] = {}

    def within(self, minutes: int) -> int | None:
        """Return how many are due in the present minute and those after it; None: not known yet."""
        first = minute_of_s(self._now_s())
        counts = [self._counts.get(minute) for minute in range(first, first + minutes)]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def hours(self) -> list[int] | None:
        """How many are due in each of the 24 hours to come; None: not known yet."""
        first = minute_of_s(self._now_s())
        counts = [self._counts.get(first + ahead) for ahead in range(DAY_MINUTES)]
        known = [count for count in counts if count is not None]
        if len(known) < DAY_MINUTES:
            return None
        return [sum(known[start : start + 60]) for start in range(0, DAY_MINUTES, 60)]

    def decided(self, entry: DueEntry) -> None:
        """Count a new entry."""
        if entry.minute in self._counts:
            self._counts[entry.minute] += 1

    async def run(self) -> None:
        """Count each minute of the coming day once, until cancelled."""
        while True:
            first = minute_of_s(self._now_s())
            ahead = range(first, first + DAY_MINUTES + 1)
            self._counts = {one: n for one, n in self._counts.items() if one in ahead}
            for minute in ahead:
                if minute not in self._counts and not await self._counted(minute):
                    break
            await anyio.sleep(_LOOK_S)

    async def _counted(self, minute: int) -> bool:
        """Count a minute; False: it cannot be told now."""
        try:
            stored = await self._streams.count_due(minute, timeout_s=self._timeout_s)
        except (LinkError, JetStreamError):
            return False
        held = (record.due for record in self._records.held if record.is_due_new)
        self._counts[minute] = stored + sum(
            due is not None and due.minute == minute for due in held
        )
        await anyio.sleep(_PAUSE_S)
        return True
