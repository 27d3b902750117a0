"""Whatever becomes of any write, and whenever a daemon dies: the ledger and its views are right."""

import contextlib
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.connection import ProviderConnection
from domain.record import decode_record
from runtime.ledger.groups import decode_group
from runtime.ledger.partition_streams import View
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError
from runtime.world import Uuid7Ids
from tests.fakes.connections import active
from tests.fakes.examples import examples
from tests.fakes.faulty_streams import Fate, FaultyStreams
from tests.fakes.ledger_worlds import (
    LedgerWorld,
    MemoryWorld,
    caught_up,
    entry_of,
    followed,
    store,
    store_refreshes,
    taken,
)
from tests.fakes.schedule import run_seeded

ids = Uuid7Ids()


async def stored(streams: FaultyStreams) -> list[ProviderConnection]:
    """Return the connections of every entry in the ledger, in order."""
    groups = [decode_group(found.data) async for found in streams.streams.tail(1)]
    return [
        decode_record(entry.record).connection
        for group in groups
        for entry in group.entries
        if entry.record is not None
    ]


async def told(world: LedgerWorld, connection_id: UUID) -> list[str]:
    """Return the types of a connection's events, after checking that each is there once."""
    events = await world.events(connection_id)
    assert len({event["id"] for event in events}) == len(events)
    return [event["type"].removeprefix("ProviderTokenRefresh") for event in events]


@settings(max_examples=examples(200))
@given(
    fates=st.lists(st.sampled_from(list(Fate)), max_size=12),
    groups=st.lists(st.integers(1, 3), min_size=1, max_size=6),
)
def test_every_group_is_stored_once_and_in_order_whatever_becomes_of_its_copies(
    fates: list[Fate], groups: list[int]
) -> None:
    async def scene() -> None:
        streams = MemoryWorld().streams()
        ledger = await taken(streams)
        streams.append_fates.extend(fates)
        expected: list[ProviderConnection] = []
        for size in groups:
            connections = [active(next(ids)) for _ in range(size)]
            await store(ledger, *(entry_of(one) for one in connections))
            expected.extend(connections)

        assert await stored(streams) == expected

    run_seeded(scene, seed=0)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(1, 3)),
        st.tuples(st.sampled_from(("records", "events")), st.sampled_from(list(Fate))),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("trim"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=examples(200))
@given(steps=_steps)
def test_whatever_fails_whenever_each_event_is_there_once_and_the_last_record(
    steps: list[tuple[str, int | Fate]],
) -> None:
    run_seeded(lambda: _story(steps), seed=0)


async def _story(steps: list[tuple[str, int | Fate]]) -> None:
    world, one, generation = MemoryWorld(), next(ids), 0
    streams = world.streams()
    ledger = await taken(streams)
    for step, argument in steps:
        match step, argument:
            case "store", int(count):
                await store_refreshes(ledger, one, first=generation + 1, last=generation + count)
                generation += count
            case "crash", _:
                streams = world.streams()
                ledger = await taken(streams)
            case "trim", _:
                await ledger.trim()
            case "records" | "events", Fate() as fate:
                streams.view_fates[View(step)].append(fate)
                runner = ledger.records if step == "records" else ledger.events
                with contextlib.suppress(LinkError, JetStreamError):
                    await runner.advance()
                streams.view_fates[View(step)].clear()
            case _:
                raise AssertionError(step)
    last = await taken(world.streams())
    async with followed(last):
        await caught_up(last)

    assert await told(world, one) == ["Attempted", "Succeeded"] * generation
    stored = (await last.read(one)).connection
    assert (stored and stored.generation) == (generation or None)
    assert stored is None or stored == active(one, generation=generation)
