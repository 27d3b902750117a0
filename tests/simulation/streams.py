"""A process's way to what JetStream keeps, with everything that goes wrong on it.

Requests and answers are late or lost, each way by itself, so a write may take effect though nobody
hears of it, or long after its sender has given it up. A get from the leader is right but for a
moment after a leader change; what any replica may answer is as old as that replica.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from runtime.ledger.due_entries import KeptDue, decode_due, is_due_key
from runtime.ledger.partition_streams import DueRead, Found, Kept, Outgoing, Read, View
from runtime.ledger.subjects import MARKER_KEY
from tests.fakes.faulty_streams import ANOTHER_IN_FLIGHT, STORAGE_FULL
from tests.fakes.memory_streams import ANSWERS_MAX, refusal
from tests.simulation.kept import KeptPartition, Leader
from tests.simulation.link import Link, SilenceError
from tests.simulation.told import summary

T = TypeVar("T")

_API_TIMEOUT_S = 2.0
_NO_LEADER = 10008
_LAG_S_MAX = 2.0
_PAGE = 100


class SimulatedStreams:
    """Implements ``runtime.ledger.partition_streams.PartitionStreams`` for one process."""

    def __init__(self, link: Link, kept: KeptPartition, *, answer_timeout_s: float) -> None:
        """Reach for one partition."""
        self._link = link
        self._world = link.world
        self._kept = kept
        self._answer_timeout_s = answer_timeout_s

    async def append(self, data: bytes, *, expected_seq: int) -> int:
        """See ``PartitionStreams``."""
        ledger, by = self._kept.ledger, self._link.life.name

        def act() -> int:
            self._lead(self._kept.leader)
            self._refuse()
            seq = ledger.append(data, expected_seq, by)
            self._world.note(by, f"ledger {self._kept.partition}: {seq} {summary(data)}")
            return seq

        return await self._ask("append", act)

    async def group_at(self, seq: int) -> bytes | None:
        """See ``PartitionStreams``."""
        kept = self._kept

        def act() -> bytes | None:
            return kept.ledger.at(seq, kept.ledger.last_seq_at(self._get(kept.leader)))

        return await self._ask("group_at", act)

    async def bounds(self) -> tuple[int, int]:
        """See ``PartitionStreams``."""
        kept = self._kept

        def act() -> tuple[int, int]:
            last_seq = kept.ledger.last_seq_at(self._get(kept.leader))
            return kept.ledger.first_seq, max(last_seq, kept.ledger.first_seq - 1)

        return await self._ask("bounds", act, timeout_s=_API_TIMEOUT_S)

    async def tail(self, start_seq: int) -> AsyncIterator[Found]:
        """See ``PartitionStreams``; a consumer may be on a replica that lags."""
        ledger, as_of_s = self._kept.ledger, self._replica_s()

        def act() -> list[Found]:
            self._lead(self._kept.leader)
            begin = max(start_seq, ledger.first_seq)
            end = min(begin + _PAGE, ledger.last_seq_at(as_of_s) + 1)
            return [Found(seq, ledger.appended[seq - 1].data) for seq in range(begin, end)]

        while page := await self._ask("tail", act, timeout_s=_API_TIMEOUT_S):
            for found in page:
                yield found
            start_seq = page[-1].seq + 1

    async def trim(self, through_seq: int) -> None:
        """See ``PartitionStreams``."""

        def act() -> None:
            self._lead(self._kept.leader)
            self._refuse()
            held_seq = self._kept.held_seq
            if through_seq > held_seq:
                self._world.breaks(f"trimmed through {through_seq}, but held is {held_seq}")
            self._kept.ledger.trim(through_seq)

        await self._ask("trim", act)

    async def marker(self, view: View) -> Found | None:
        """See ``PartitionStreams``."""
        kept = self._kept
        return await self._ask(
            "marker", lambda: kept.marker(view, self._get(kept.view_leaders[view]))
        )

    async def write(
        self, view: View, messages: Sequence[Outgoing], marker: bytes, *, expected_seq: int
    ) -> int:
        """See ``PartitionStreams``."""
        kept = self._kept

        def act() -> int:
            self._lead(kept.view_leaders[view])
            self._refuse()
            if self._world.now_s() < kept.refusing[view]:
                raise refusal(STORAGE_FULL)
            return kept.write(view, messages, marker, expected_seq)

        return await self._ask("write", act)

    async def read(self, connection_id: UUID, *, timeout_s: float) -> Read:
        """See ``PartitionStreams``."""
        bucket, key = self._kept.bucket, str(connection_id)

        def act() -> Read:
            as_of_s = self._replica_s()
            marker, record = bucket.found(MARKER_KEY, as_of_s), bucket.found(key, as_of_s)
            marker_seq = 0 if marker is None else marker.seq
            if record is None:
                return Read(marker_seq, None)
            return Read(marker_seq, record.data, record.seq)

        return await self._ask("read", act, timeout_s=timeout_s)

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """See ``PartitionStreams``."""

        def act() -> list[Kept]:
            found = self._kept.bucket.all(self._replica_s()).items()
            kept = [Kept(one.seq, key, one.data) for key, one in found if one.seq >= start_seq]
            return sorted(kept)[:messages_max]

        return await self._ask("scan", act, timeout_s=timeout_s)

    async def due(self, minutes: Sequence[int], *, timeout_s: float) -> DueRead | None:
        """See ``PartitionStreams``."""

        def act() -> DueRead | None:
            as_of_s = self._replica_s()
            kept = [one for one in self._kept_due(as_of_s) if one.minute in minutes]
            marker = self._kept.bucket.found(MARKER_KEY, as_of_s)
            if len(kept) + (marker is not None) > ANSWERS_MAX:
                return None
            return DueRead(0 if marker is None else marker.seq, kept)

        return await self._ask("due", act, timeout_s=timeout_s)

    async def due_from(
        self, minute: int, start_seq: int, *, entries_max: int, timeout_s: float
    ) -> Sequence[KeptDue]:
        """See ``PartitionStreams``."""

        def act() -> list[KeptDue]:
            kept = self._kept_due(self._replica_s())
            found = [one for one in kept if one.minute == minute and one.seq >= start_seq]
            return found[:entries_max]

        return await self._ask("due", act, timeout_s=timeout_s)

    async def count_due(self, minute: int, *, timeout_s: float) -> int:
        """See ``PartitionStreams``."""

        def act() -> int:
            return sum(one.minute == minute for one in self._kept_due(self._replica_s()))

        return await self._ask("due", act, timeout_s=timeout_s)

    async def purge_due(self, minute: int, through_seq: int) -> None:
        """See ``PartitionStreams``."""

        def act() -> None:
            self._lead(self._kept.view_leaders[View.RECORDS])
            self._refuse()
            self._kept.bucket.purge(f"due.{minute}.", through_seq)

        await self._ask("purge", act)

    async def _ask(self, what: str, act: Callable[[], T], *, timeout_s: float | None = None) -> T:
        """Make one request to a server."""
        timeout_s = self._answer_timeout_s if timeout_s is None else timeout_s
        return await self._link.ask(what, act, timeout_s=timeout_s)

    def _lead(self, leader: Leader) -> None:
        """Have a leader take a write.

        Raises:
            SilenceError, JetStreamError: There is none.
        """
        if not leader.is_there:
            if self._world.chance("leader", 0.5):
                raise refusal(_NO_LEADER)
            raise SilenceError

    def _get(self, leader: Leader) -> float:
        """Return as of when whoever takes itself for the leader answers a get.

        Raises:
            SilenceError, JetStreamError: There is none.
        """
        if not leader.is_stale:
            self._lead(leader)
        return leader.as_of_s

    def _refuse(self) -> None:
        weather = self._world.weather
        if self._world.chance("refusals", weather.in_flight):
            raise refusal(ANOTHER_IN_FLIGHT)
        if self._world.chance("refusals", weather.refused):
            raise refusal(STORAGE_FULL)

    def _replica_s(self) -> float:
        """Return as of when a replica answers."""
        now_s, stuck_s = self._world.now_s(), self._kept.stuck_s
        draws = self._world.draws("replica")
        if stuck_s is not None and draws.random() < 1 / 3:
            return stuck_s
        if self._world.chance("replica", self._world.weather.read_stale):
            return now_s - draws.uniform(0.0, _LAG_S_MAX)
        return now_s

    def _kept_due(self, as_of_s: float) -> list[KeptDue]:
        found = self._kept.bucket.all(as_of_s).items()
        kept = (decode_due(one.seq, key, one.data) for key, one in found if is_due_key(key))
        return sorted(one for one in kept if one is not None)
