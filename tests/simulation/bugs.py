"""Bugs of different kinds, planted one at a time, to see that the simulation finds each."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import PropertyMock, patch

import msgspec

from actors import flight
from actors.entry import Entry
from actors.envelope import Envelope
from actors.open_intent import open_until_s
from actors.partition import Partition
from actors.ports import Stored
from domain.decision import Reply
from runtime.ledger import due_index, partition_ledger, take_over
from runtime.ledger.delivery import Delivery
from runtime.ledger.log_writer import LogWriter
from runtime.ledger.marked_view import MarkedView
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import Outgoing, Read, View
from tests.simulation.faults import drawn_plan
from tests.simulation.kept import KeptPartition
from tests.simulation.run import run
from tests.simulation.streams import SimulatedStreams


class Found(NamedTuple):
    """How long it took to find a bug."""

    seeds: int
    seed: int
    """The one that did."""
    law: str
    """The first that was broken."""


def found(bug: str, *, seeds_max: int, first: int = 0) -> Found | None:
    """Run seeds from ``first`` on with a bug until a law is broken; None: it was not found.

    Of a bug that only shows where owners come back only such seeds are run.
    """
    seeds: Iterator[int] = itertools.count(first)
    if bug in _OF_OWNERS_AWAY:
        seeds = (seed for seed in seeds if drawn_plan(seed, hosts_max=3).reads)
    for number, seed in enumerate(itertools.islice(seeds, seeds_max), 1):
        with BUGS[bug]():
            broken = run(seed).broken
        if broken:
            return Found(number, seed, broken[0])
    return None


def _answered_before_the_append() -> AbstractContextManager[Any]:
    owe = Entry.owe

    def at_once(self: Entry, envelope: Envelope, reply: Reply) -> None:
        owe(self, envelope, reply)
        envelope.answer(reply)

    return patch.object(Entry, "owe", at_once)


def _claimed_before_the_end() -> AbstractContextManager[Any]:
    read_on = take_over._read_on

    async def but_for_the_last(streams: Any, tail: list[Any], writer: Any, **names: Any) -> None:
        await read_on(streams, tail, writer, **names)
        if len(tail) > 1:
            tail.pop()

    return patch.object(take_over, "_read_on", but_for_the_last)


def _marker_without_compare_and_set() -> AbstractContextManager[Any]:
    write = KeptPartition.write

    def always(
        self: KeptPartition, view: View, messages: list[Outgoing], marker: bytes, _: int
    ) -> int:
        found = self.marker(view, float("inf"))
        return write(self, view, messages, marker, 0 if found is None else found.seq)

    return patch.object(KeptPartition, "write", always)


def _read_without_proof() -> AbstractContextManager[Any]:
    read = SimulatedStreams.read

    async def fresh_as_it_comes(self: SimulatedStreams, *given: Any, **names: Any) -> Read:
        return (await read(self, *given, **names))._replace(marker_seq=1 << 60)

    return patch.object(SimulatedStreams, "read", fresh_as_it_comes)


def _changed_stored(change: Callable[[Stored], Stored]) -> AbstractContextManager[Any]:
    stored = partition_ledger._stored
    return patch.object(partition_ledger, "_stored", lambda *given: change(stored(*given)))


def _intent_skipped() -> AbstractContextManager[Any]:
    def without(stored: Stored) -> Stored:
        if stored.connection is None:
            return stored
        return stored._replace(connection=msgspec.structs.replace(stored.connection, intent=None))

    return _changed_stored(without)


def _answers_forgotten() -> AbstractContextManager[Any]:
    return _changed_stored(lambda stored: stored._replace(answers=()))


def _outcome_dropped() -> AbstractContextManager[Any]:
    async def keep(*_: object) -> bool:
        return True

    return patch.object(Delivery, "keep", keep)


def _trimmed_too_far() -> AbstractContextManager[Any]:
    def furthest(self: PartitionLedger) -> int:
        return max(self.records.mark.through, self.events.mark.through)

    return patch.object(PartitionLedger, "settled_seq", property(furthest))


def _memory_trusted() -> AbstractContextManager[Any]:
    return patch.object(Partition, "is_confirmed", PropertyMock(return_value=True))


def _refusal_taken_for_stored() -> AbstractContextManager[Any]:
    async def is_ours(*_: object) -> bool:
        return True

    return patch.object(LogWriter, "_is_ours", is_ours)


def _clocks_compared() -> AbstractContextManager[Any]:
    def by_this_clock(intent: Any, **names: Any) -> float:
        return open_until_s(intent, **{**names, "us": intent.owner})

    return patch.object(flight, "open_until_s", by_this_clock)


def _missed_minutes_forgotten() -> AbstractContextManager[Any]:
    init = due_index.DueIndex.__init__

    def from_now_on(self: Any, streams: Any, records: Any, **names: Any) -> None:
        records.mark.due = msgspec.structs.replace(records.mark.due, minute=0)
        init(self, streams, records, **names)

    return patch.object(due_index.DueIndex, "__init__", from_now_on)


def _view_begun_anew() -> AbstractContextManager[Any]:
    adopt = MarkedView._adopt

    def a_group_too_early(self: MarkedView, found: Any) -> None:
        adopt(self, found)
        if self.view is View.EVENTS:
            self.through = max(self.through - 1, 0)

    return patch.object(MarkedView, "_adopt", a_group_too_early)


BUGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "answered before the append is acknowledged": _answered_before_the_append,
    "claimed without reading to the end": _claimed_before_the_end,
    "marker without compare-and-set": _marker_without_compare_and_set,
    "read without proof": _read_without_proof,
    "intent skipped after a hand-over": _intent_skipped,
    "outcome of a fenced owner dropped": _outcome_dropped,
    "answers forgotten at a take-over": _answers_forgotten,
    "trimmed up to where one view is": _trimmed_too_far,
    "memory trusted without confirmation": _memory_trusted,
    "refused append taken for stored": _refusal_taken_for_stored,
    "intent's end by another host's clock": _clocks_compared,
    "missed minutes forgotten at a take-over": _missed_minutes_forgotten,
    "event view begun a group too early": _view_begun_anew,
}
_OF_OWNERS_AWAY = ("memory trusted without confirmation",)
