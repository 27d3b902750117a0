"""What must hold after a run, by the streams and the provider's own book."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from domain.events import (
    Event,
    Outcome,
    ProviderConnectionSucceeded,
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshFailed,
    ProviderTokenRefreshSucceeded,
)
from domain.looks import minute_of
from domain.record import decode_record
from runtime.ledger.cloud_events import encode_event
from runtime.ledger.due_entries import decode_due, is_due_key
from runtime.ledger.subjects import partition_of
from tests.simulation.callers import Callers, Order
from tests.simulation.daemon import Daemon
from tests.simulation.kept import KeptPartition
from tests.simulation.order_checks import orders_are_kept
from tests.simulation.provider_checks import intents_are_waited_for, tokens_are_presented_once
from tests.simulation.told import Story, Told
from tests.simulation.town import Town
from tests.simulation.world import World

_LATELY_S = 2.5
"""What is younger than that at the end need not be over."""
_REFUSED = {"token": ("NOT_ACTIVE", "REAUTH_REQUIRED"), "refresh": ("NOT_ACTIVE",), "get": ()}
"""How each command may be refused although everything works."""
_ATTEMPT = (
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshSucceeded,
    ProviderTokenRefreshFailed,
)


class Findings(NamedTuple):
    """What was found."""

    broken: list[str]
    counts: Counter[str]
    """What is allowed and happened, by name."""


def check(
    world: World, town: Town, callers: Callers, daemons: list[Daemon], last: list[Order]
) -> Findings:
    """Return every law that a run has broken.

    Args:
        world: With what the run has come to.
        town: The hosts, at the end.
        callers: With what they were told.
        daemons: All that ever ran.
        last: What callers asked when everything must have been in order.
    """
    told, counts = Told(town.kept), Counter[str]()
    broken = [*told.broken]
    for connection_id, story in told.stories.items():
        name = f"connection {connection_id.int & 0xFF}"
        broken += [f"{name}: {law}" for law in _story_holds(story, world.now_s())]
        partition = partition_of(connection_id, len(town.kept.partitions))
        if any(one.partition != partition for one in story.entries):
            broken.append(f"{name} is in another partition's ledger")
    for kept in town.kept.partitions:
        of_it = {
            one: story
            for one, story in told.stories.items()
            if partition_of(one, len(town.kept.partitions)) == kept.partition
        }
        where = f"partition {kept.partition}"
        broken += [f"{where}: {law}" for law in _events_follow(kept, told, world.now_s())]
        broken += [f"{where}: {law}" for law in _records_follow(kept, of_it, town)]
    broken += intents_are_waited_for(told, town)
    broken += orders_are_kept(told, callers, town, counts)
    broken += tokens_are_presented_once(told, town, counts)
    broken += _all_is_well(daemons, [one for one in last if _is_known(told, one)])
    return Findings(broken, counts)


def _is_known(told: Told, order: Order) -> bool:
    story = told.stories.get(order.connection_id)
    return story is not None and story.last is not None


def _story_holds(story: Story, now_s: float) -> Iterator[str]:
    """Each generation is told of by one event, and each attempt ends once."""
    updated_at, open_attempts = None, dict[UUID, float]()
    for one in story.entries:
        told = [type(event) for event in one.events]
        succeeded = told.count(ProviderConnectionSucceeded)
        succeeded += told.count(ProviderTokenRefreshSucceeded)
        connection = one.connection
        after = one.generation_before if connection is None else connection.generation
        if after - one.generation_before != succeeded:
            before = one.generation_before
            yield f"{succeeded} events tell of generations {before} to {after}, at {one.seq}"
        if connection is not None:
            if updated_at is not None and connection.updated_at < updated_at:
                yield f"updated_at goes back at {one.seq}"
            updated_at = connection.updated_at
        yield from _pairs_hold(one.events, one.seq)
        for event in one.events:
            if isinstance(event, _ATTEMPT) and event.attempt_id is not None:
                if isinstance(event, ProviderTokenRefreshAttempted):
                    open_attempts[event.attempt_id] = one.at_s
                elif open_attempts.pop(event.attempt_id, None) is None:
                    yield f"an attempt ends twice, or never began, at {one.seq}"
        if len(open_attempts) > 1:
            yield f"two attempts are open at once, at {one.seq}"
    if any(at_s < now_s - _LATELY_S for at_s in open_attempts.values()):
        yield "an attempt is open although nothing has failed for long"


def _pairs_hold(events: tuple[Event, ...], seq: int) -> Iterator[str]:
    """Of each command, Attempted is followed at once by the one end of its workflow."""
    begun: Event | None = None
    for event in events:
        if isinstance(event, _ATTEMPT) and event.attempt_id is not None:
            continue
        if event.outcome is Outcome.ATTEMPTED:
            if begun is not None:
                yield f"a command has no end, at {seq}"
            begun = event
        elif event.outcome is not Outcome.CHANGED:
            if begun is None or begun.workflow is not event.workflow:
                yield f"a command ends that has not begun, at {seq}"
            begun = None
    if begun is not None:
        yield f"a command has no end, at {seq}"


def _events_follow(kept: KeptPartition, told: Told, now_s: float) -> Iterator[str]:
    """The stream has every event of the ledger, as it was decided, once and in order."""
    wanted = [
        encode_event(event, source=f"/refreshd/{daemon}").body
        for _, event, daemon in told.events[kept.partition]
    ]
    least = sum(at_s < now_s - _LATELY_S for at_s, _, _ in told.events[kept.partition])
    found = [one.message.body for one in kept.events.told if one.partition == kept.partition]
    if found == wanted[: len(found)] and len(found) >= least:
        return
    if len(set(found)) < len(found):
        yield "an event is in the stream twice"
    lacking = len([one for one in wanted[:least] if one not in set(found)])
    surplus = len([one for one in found if one not in set(wanted)])
    yield f"of {len(wanted)} events {lacking} are not in the stream, {surplus} are not the ledger's"
    if not lacking and not surplus:
        yield "events are in another order than the ledger's"


def _records_follow(kept: KeptPartition, stories: dict[UUID, Story], town: Town) -> Iterator[str]:
    """The bucket has each connection's last record, and an entry for when it is due."""
    found = kept.bucket.all(float("inf"))
    entries = [decode_due(one.seq, key, one.data) for key, one in found.items() if is_due_key(key)]
    minutes: dict[UUID, list[int]] = {}
    for one in entries:
        if one is not None:
            minutes.setdefault(one.entry.connection_id, []).append(one.minute)
    for connection_id, story in stories.items():
        record = found.get(str(connection_id))
        last = story.last
        if last is None or last.record is None or last.at_s > town.world.now_s() - _LATELY_S:
            continue
        if record is None or record.data != last.record:
            yield f"the bucket has not the record of {last.seq} of {connection_id.int & 0xFF}"
        next_due = decode_record(last.record).next_due
        if next_due is not None and not town.clocks_were_set:
            known = min(minutes.get(connection_id, []), default=None)
            if known is None or known > minute_of(next_due) + _MINUTES_LATE:
                yield f"{connection_id.int & 0xFF} is due, and not in the index: {known}"


_MINUTES_LATE = 2


def _all_is_well(daemons: list[Daemon], last: list[Order]) -> Iterator[str]:
    """When the faults are over everybody is served, and no daemon has met a bug."""
    for order in last:
        if order.passing == "PROVIDER_UNAVAILABLE":
            # It backs off for longer than these callers have asked.
            continue
        if order.answer is None:
            yield f"{order} was never answered, long after the faults"
        elif order.code is not None and order.code not in _REFUSED[order.verb]:
            yield f"{order} was answered {order.code}, long after the faults"
        elif len(order.attempts) > 1 and order.verb != "token":
            yield f"{order} had to be repeated, long after the faults"
    for daemon in daemons:
        for trouble in ("crashed", "quarantined", "outcome_lost", "cannot_unseal"):
            if daemon.journal.counts[trouble]:
                errors = [repr(error) for error in daemon.journal.errors]
                yield f"{daemon.life.name}: {trouble} {errors[:2]}"
