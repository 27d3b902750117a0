"""Which connections of a partition are to be looked at when: the due index, minute by minute.

Each checkpoint of a record that is to be looked at writes ``due.<minute>.<id>`` beside it, so the
bucket has an entry for every record that needs one, at its minute or later. An entry too many does
no harm: the record decides. The owner holds the entries of the minutes that come up, and what is
decided meanwhile and falls into them; all others lie in the bucket.

A minute is *done* when it is over, each of its entries was looked at and what came of that is
checkpointed. Then its entries are purged, up to the last that was seen, and a read that proves
its freshness (NATS.md 2.22) tells whether any is left. From then on none is written
under it, so the marker may say that a later owner need not look there.

A clock that is set back opens those minutes again; one that is set forward makes many due at
once, as a stop does. Then the minutes that were missed are read page by page, as many entries as
may be held. Of one provider no more are held than there is room left: others are *passed over*,
and read when some of those were looked at, so that one that is slow holds no other up.
"""

import contextlib
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import anyio
import msgspec

from domain.decision import Reply
from domain.looks import epoch_s, minute_of_s
from domain.result import Failure
from runtime.ledger.due_count import DueCount
from runtime.ledger.due_entries import DueEntry, KeptDue
from runtime.ledger.due_minutes import Minute, Timed, Wake
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.partition_streams import PartitionStreams
from runtime.ledger.records_view import Changed, RecordsView
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

_AHEAD = 1
"""How many minutes after the present one are held."""
_MINUTES_A_READ = 60
_PAGE = 500
_LOOK_S = 1.0
"""How often the clock is looked at, which may be set."""
_FRESH_S = 0.05
_FRESH_READS = 20
_AGAIN_S_MIN = 5.0
_AGAIN_S_MAX = 300.0


class DueIndex:
    """One partition's entries that come up. ``run`` must be running."""

    def __init__(
        self,
        streams: PartitionStreams,
        records: RecordsView,
        *,
        now_s: Callable[[], float],
        limits: LedgerLimits,
    ) -> None:
        """Begin where the marker is, before anything is written into the bucket.

        Args:
            streams: The partition's.
            records: The view that writes the entries.
            now_s: The wall clock, since the epoch.
            limits: How many entries may be held.
        """
        self._streams = streams
        self._records = records
        self._now_s = now_s
        self._limits = limits
        self._now_minute = minute_of_s(now_s())
        noted, before = records.mark.due.minute, self._now_minute - 1
        self.done_minute = min(noted or before, before)
        """Nothing is left of this minute, nor of any before it."""
        self._through = self._known_through = self.done_minute
        """Up to which minute entries were read, and are held where they are decided."""
        self._minutes: dict[int, Minute] = {}
        self._closed: set[int] = set()
        """Minutes that are done although an earlier one is not."""
        self._timed: list[Timed] = []
        """A heap."""
        self._numbers = itertools.count()
        self._stirred = anyio.Event()
        self.wake: Wake | None = None
        self._trouble = ""
        self.held = 0
        """How many entries are held."""
        self._held_of = Counter[str]()
        # At once: an owner that dies within a minute leaves its successor a place to begin at.
        self._note_done()
        records.first_minute = self.done_minute + 1
        records.decided = self._followed
        self.counts = DueCount(streams, records, now_s=now_s, timeout_s=limits.read_timeout_s)

    @property
    def next_minute(self) -> int:
        """How many of those that are held are due within a minute, or late."""
        until_s = self._now_s() + 60
        return sum(
            at_s <= until_s for one in self._minutes.values() for at_s in one.waiting.values()
        )

    @property
    def late_s(self) -> float:
        """How late the one is that should have been looked at first."""
        now_s, unread_s = self._now_s(), (self._through + 1) * 60.0
        due = [min(one.waiting.values()) for one in self._minutes.values() if one.waiting]
        passed = [minute * 60.0 for minute, one in self._minutes.items() if one.passed]
        return max(now_s - min([*due, *passed], default=now_s), now_s - unread_s, 0.0)

    def _followed(self, record: Changed) -> None:
        # Before its entry is written: it may be due in a minute that was over on the clock before.
        self._follow_clock()
        if record.due is not None:
            self.decided(record.due)
            if record.is_due_new:
                self.counts.decided(record.due)

    def decided(self, entry: DueEntry) -> None:
        """Hold an entry that falls into a minute that was read already."""
        minute = max(entry.minute, self._records.first_minute)
        if minute <= self._known_through and self._has_room(entry.slug):
            self._hold(minute, entry)

    def _has_room(self, slug: str, *, parts: int = 1) -> bool:
        """Whether one more of a provider's may be held."""
        return self._held_of[slug] * parts < self._limits.due_held_max - self.held

    async def run(self) -> None:
        """Have everyone looked at in time, until cancelled; ``wake`` must be set."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wake_in_time)
            while True:
                try:
                    await self.advance()
                except (LinkError, JetStreamError) as error:
                    if not self._trouble:
                        log.warning("due_index_unread", cause=str(error))
                    self._trouble = str(error)
                else:
                    self._trouble = ""
                await anyio.sleep(_LOOK_S)

    async def advance(self) -> None:
        """Read the minutes that come up, and close those that are over.

        Raises:
            LinkError, JetStreamError: The bucket cannot be read or written now; call again.
        """
        await self._read_ahead()
        while ready := self._ready():
            if not await self._close(ready):
                break

    async def read_ahead(self) -> None:
        """Read the minutes that come up, as far as there is room and the bucket can be read."""
        with contextlib.suppress(LinkError, JetStreamError):
            await self._read_ahead()

    async def _read_ahead(self) -> None:
        self._follow_clock()
        await self._read_passed()
        until = self._now_minute + _AHEAD
        while self._through < until and self.held < self._limits.due_held_max:
            first, last = self._through + 1, min(self._through + _MINUTES_A_READ, until)
            if not await self._read(range(first, last + 1)):
                return

    def _follow_clock(self) -> None:
        """Know the minute; where the clock was set back the minutes since then come again."""
        self._now_minute = minute_of_s(self._now_s())
        if self._records.first_minute > self._now_minute:
            self._records.first_minute = self._now_minute
            self._closed = {one for one in self._closed if one < self._now_minute}
            if self.done_minute >= self._now_minute:
                self.done_minute = self._now_minute - 1
                self._note_done()
        until = self._now_minute + _AHEAD
        if self._through > until:
            self._forget_after(until)

    def _forget_after(self, until: int) -> None:
        """Hold nothing that comes up later: it is read again when it does."""
        kept: list[Timed] = []
        for timed in self._timed:
            if minute_of_s(timed.entry.at_s) <= until:
                kept.append(timed)
            elif self._is_waiting(timed):
                self._forget(timed)
        heapq.heapify(kept)
        self._timed = kept
        for minute in [one for one in self._minutes if one > until]:
            # What of it is kept is late, and was written when the clock was ahead.
            if late := self._minutes.pop(minute).waiting:
                self._minutes[minute] = Minute(late)
        self._through = self._known_through = until

    async def _read(self, minutes: Sequence[int]) -> bool:
        """Hold the entries of some minutes; False: there is no room for all of them now."""
        self._known_through = max(self._known_through, minutes[-1])
        for record in self._records.held:
            if record.due is not None:
                self.decided(record.due)
        read = await self._streams.due(minutes, timeout_s=self._limits.read_timeout_s)
        if read is not None:
            self._found(read.kept)
        elif len(minutes) > 1:
            return await self._read(minutes[: len(minutes) // 2])
        elif not await self._read_pages(minutes[0]):
            return False
        self._through = max(self._through, minutes[-1])
        return True

    async def _read_pages(self, minute: int, passed: Sequence[str] = ()) -> bool:
        """Go on reading a minute, as far as there is room, or any for those who were passed over.

        False: there is none now.
        """
        held = self._minutes.setdefault(minute, Minute())
        while any(map(self._has_room, passed)) if passed else self.held < self._limits.due_held_max:
            page = await self._streams.due_from(
                minute, held.page_seq, entries_max=_PAGE, timeout_s=self._limits.read_timeout_s
            )
            if not page:
                return True
            self._found(page)
            held.page_seq = page[-1].seq + 1
        return False

    async def _read_passed(self) -> None:
        """Read again what was passed over, where at least half of the room has come free."""
        for minute, held in sorted(self._minutes.items()):
            passed = sorted(held.passed)
            if any(self._has_room(slug, parts=2) for slug in passed):
                held.page_seq, held.seen_seq = held.passed_seq, held.passed_seq - 1
                held.passed, held.passed_seq = set(), 0
                if not await self._read_pages(minute, passed):
                    held.passed.update(passed)
                    held.passed_seq = held.passed_seq or held.page_seq

    def _found(self, page: Sequence[KeptDue]) -> None:
        for seq, minute, entry in page:
            held = self._minutes.setdefault(minute, Minute())
            if entry.connection_id in held.waiting or self._has_room(entry.slug):
                self._hold(minute, entry)
            else:
                held.passed.add(entry.slug)
                held.passed_seq = min(held.passed_seq or seq, seq)
            held.seen_seq = max(held.seen_seq, seq)

    def _hold(self, minute: int, entry: DueEntry) -> None:
        """Have a connection looked at when an entry says so."""
        waiting = self._minutes.setdefault(minute, Minute()).waiting
        before_s = waiting.get(entry.connection_id)
        if before_s == entry.at_s:
            return
        self.held += before_s is None
        self._held_of[entry.slug] += before_s is None
        waiting[entry.connection_id] = entry.at_s
        self._time(Timed(entry.at_s, next(self._numbers), minute, entry))

    def _time(self, timed: Timed) -> None:
        heapq.heappush(self._timed, timed)
        if self._timed[0] is timed:
            self._stirred.set()

    async def _wake_in_time(self) -> None:
        """Wake each at its time."""
        while True:
            self.wake_due()
            self._stirred = anyio.Event()
            first_s = self._timed[0].wake_s if self._timed else math.inf
            with anyio.move_on_after(min(max(first_s - self._now_s(), 0.001), _LOOK_S)):
                await self._stirred.wait()

    def wake_due(self) -> None:
        """Wake those whose time has come."""
        assert self.wake is not None
        now_s = self._now_s()
        while self._timed and self._timed[0].wake_s <= now_s:
            timed = heapq.heappop(self._timed)
            entry = timed.entry
            if self._is_waiting(timed):
                self.wake(
                    entry.connection_id,
                    slug=entry.slug,
                    urgent_s=entry.urgent_s,
                    told=partial(self._looked, timed),
                )

    def _is_waiting(self, timed: Timed) -> bool:
        """Whether an entry is held as it was timed."""
        held = self._minutes.get(timed.minute)
        return held is not None and held.waiting.get(timed.entry.connection_id) == timed.entry.at_s

    def _looked(self, timed: Timed, reply: Reply, next_due: datetime | None) -> None:
        """Know that a connection was looked at and that what came of it is stored, or try again."""
        entry = timed.entry
        if isinstance(reply, Failure):
            pause_s = min(_AGAIN_S_MIN * 2**timed.failures, _AGAIN_S_MAX)
            wake_s = self._now_s() + max(pause_s, reply.retry_after_s or 0.0)
            failures = min(timed.failures + 1, 16)
            number = next(self._numbers)
            self._time(timed._replace(wake_s=wake_s, number=number, failures=failures))
            return
        if self._is_waiting(timed):
            self._forget(timed)
        if next_due is not None:
            # It may be due again in a minute that was read already.
            self.decided(entry._replace(at_s=epoch_s(next_due)))

    def _forget(self, timed: Timed) -> None:
        del self._minutes[timed.minute].waiting[timed.entry.connection_id]
        self.held -= 1
        self._held_of[timed.entry.slug] -= 1

    def _ready(self) -> list[int]:
        """Return minutes that are over and have nobody left who was not looked at."""
        end = min(self._through, self._now_minute - 1) + 1
        ready = (
            minute
            for minute in range(self.done_minute + 1, end)
            if minute not in self._closed
            and not ((held := self._minutes.get(minute)) and (held.waiting or held.passed))
        )
        return list(itertools.islice(ready, _MINUTES_A_READ))

    async def _close(self, minutes: Sequence[int]) -> bool:
        """Purge some minutes, and know which of them are done; False: none is."""
        records = self._records
        records.first_minute = self._now_minute
        seq = records.followed_seq
        await records.checkpointed(unless_replaced=True)
        if records.mark.through < seq:
            return False
        for minute in minutes:
            held = self._minutes.get(minute)
            if held is not None and held.seen_seq:
                await self._streams.purge_due(minute, held.seen_seq)
                held.seen_seq = 0
        left = await self._left(minutes)
        if minutes[-1] >= self._now_minute:
            # The clock was set back meanwhile: they are to come.
            return False
        if left is None and len(minutes) > 1:
            return await self._close(minutes[:1])
        if left is None:
            self._minutes.setdefault(minutes[0], Minute()).page_seq = 1
            await self._read_pages(minutes[0])
            return False
        self._found(left)
        remaining = {kept.minute for kept in left}
        for minute in minutes:
            if minute not in remaining:
                self._minutes.pop(minute, None)
                self._closed.add(minute)
        while self.done_minute + 1 in self._closed:
            self.done_minute += 1
            self._closed.discard(self.done_minute)
        self._note_done()
        return len(remaining) < len(minutes)

    async def _left(self, minutes: Sequence[int]) -> list[KeptDue] | None:
        """Return what the bucket holds of some minutes for certain; None: too much.

        Raises:
            LinkError: No answer is fresh.
        """
        seq = self._records.mark.seq
        for _ in range(_FRESH_READS):
            read = await self._streams.due(minutes, timeout_s=self._limits.read_timeout_s)
            if read is None:
                return None
            if read.marker_seq >= seq:
                return read.kept
            await anyio.sleep(_FRESH_S)
        raise LinkError("no answer is fresh")

    def _note_done(self) -> None:
        """Let the next marker say so."""
        mark = self._records.mark
        mark.due = msgspec.structs.replace(mark.due, minute=self.done_minute)
