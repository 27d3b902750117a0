"""The fake store and the one on JetStream keep the same promises.

A write is applied at most once, only at the revision that it expects, and never unseen.
"""

import contextlib
from collections.abc import Callable
from uuid import UUID

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ports import ConnectionStore, Stored, Write, WriteConflictError
from domain.connection import ProviderConnection
from runtime.ledger.connection_store import JetStreamConnectionStore, StoreLimits
from tests.fakes.connections import active, ids, pending
from tests.fakes.faulty_link import FaultyLink
from tests.fakes.world import MemoryConnectionStore

_PARTITIONS = 3


@pytest.fixture(params=["memory", "jetstream"])
def store(request: pytest.FixtureRequest, link: FaultyLink) -> ConnectionStore:
    """Both implementations, one after the other."""
    return MemoryConnectionStore() if request.param == "memory" else _on_jetstream(link)


def _on_jetstream(link: FaultyLink) -> JetStreamConnectionStore:
    return JetStreamConnectionStore(link, partitions=_PARTITIONS, limits=StoreLimits())


def _write(connection_id: UUID, expected_revision: int, *, generation: int = 1) -> Write:
    connection = active(connection_id, generation=generation)
    return Write(connection, expected_revision, next(ids).bytes)


async def test_an_id_that_was_never_written_holds_nothing_at_revision_zero(
    store: ConnectionStore,
) -> None:
    assert await store.load(next(ids)) == Stored(None, 0)


@pytest.mark.parametrize("make", [active, pending])
async def test_what_was_written_is_what_is_loaded(
    store: ConnectionStore, make: Callable[[UUID], ProviderConnection]
) -> None:
    connection = make(next(ids))

    revision = await store.write(Write(connection, 0, next(ids).bytes))

    assert revision > 0
    assert await store.load(connection.id) == Stored(connection, revision)


async def test_a_write_is_loaded_at_once_a_hundred_times_in_a_row(store: ConnectionStore) -> None:
    connection_id, revision = next(ids), 0
    for generation in range(1, 101):
        write = _write(connection_id, revision, generation=generation)
        revision = await store.write(write)

        assert await store.load(connection_id) == Stored(write.connection, revision)


async def test_revisions_grow(store: ConnectionStore) -> None:
    connection_id = next(ids)
    revisions = [0]
    for generation in range(1, 6):
        write = _write(connection_id, revisions[-1], generation=generation)
        revisions.append(await store.write(write))

    assert revisions == sorted(set(revisions))


async def test_connections_do_not_share_revisions(store: ConnectionStore) -> None:
    connection_ids = [next(ids) for _ in range(10)]
    for connection_id in connection_ids:
        await store.write(_write(connection_id, 0))

    for connection_id in connection_ids:
        stored = await store.load(connection_id)
        assert stored.connection == active(connection_id)
        await store.write(_write(connection_id, stored.revision, generation=2))


@pytest.mark.parametrize("distance", [-1, 1, 1000])
async def test_a_write_at_another_revision_conflicts_and_changes_nothing(
    store: ConnectionStore, distance: int
) -> None:
    connection_id = next(ids)
    revision = await store.write(_write(connection_id, 0))
    revision = await store.write(_write(connection_id, revision, generation=2))

    with pytest.raises(WriteConflictError):
        await store.write(_write(connection_id, revision + distance, generation=9))

    assert await store.load(connection_id) == Stored(active(connection_id, generation=2), revision)


async def test_a_connection_is_created_only_once(store: ConnectionStore) -> None:
    connection_id = next(ids)
    revision = await store.write(_write(connection_id, 0))

    with pytest.raises(WriteConflictError):
        await store.write(_write(connection_id, 0, generation=9))

    assert await store.load(connection_id) == Stored(active(connection_id), revision)


async def test_a_write_expecting_a_revision_where_there_is_none_conflicts(
    store: ConnectionStore,
) -> None:
    connection_id = next(ids)

    with pytest.raises(WriteConflictError):
        await store.write(_write(connection_id, 7))

    assert await store.load(connection_id) == Stored(None, 0)


async def test_the_same_write_sent_again_is_the_same_revision_and_one_effect(
    store: ConnectionStore,
) -> None:
    connection_id = next(ids)
    first = await store.write(_write(connection_id, 0))
    write = _write(connection_id, first, generation=2)

    revisions = {await store.write(write) for _ in range(5)}

    assert len(revisions) == 1
    assert await store.load(connection_id) == Stored(write.connection, revisions.pop())


async def test_the_same_write_sent_at_the_same_time_is_one_effect(store: ConnectionStore) -> None:
    connection_id = next(ids)
    write = _write(connection_id, 0)
    revisions: set[int] = set()

    async def send() -> None:
        revisions.add(await store.write(write))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(send)

    assert len(revisions) == 1
    assert await store.load(connection_id) == Stored(write.connection, revisions.pop())


async def test_a_write_sent_again_after_another_one_conflicts_and_changes_nothing(
    store: ConnectionStore,
) -> None:
    connection_id = next(ids)
    old = _write(connection_id, 0)
    new = _write(connection_id, await store.write(old), generation=2)
    revision = await store.write(new)

    with pytest.raises(WriteConflictError):
        await store.write(old)

    assert await store.load(connection_id) == Stored(new.connection, revision)


async def test_of_twenty_racers_exactly_one_wins_each_round(store: ConnectionStore) -> None:
    connection_id, revision = next(ids), 0
    for round_number in range(50):
        winners: list[tuple[Write, int]] = []

        async def race(racer: int, expected: int, winners: list[tuple[Write, int]]) -> None:
            write = _write(connection_id, expected, generation=racer)
            with contextlib.suppress(WriteConflictError):
                winners.append((write, await store.write(write)))

        async with anyio.create_task_group() as tasks:
            for racer in range(20):
                tasks.start_soon(race, 20 * round_number + racer + 1, revision, winners)

        [(write, revision)] = winners
        assert await store.load(connection_id) == Stored(write.connection, revision)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write at", "send again", "load"]), st.integers(0, 20)
    ),
    max_size=20,
)


@given(steps=_steps)
@settings(max_examples=50)
async def test_both_stores_answer_the_same_to_any_sequence(
    module_link: FaultyLink, steps: list[tuple[str, int]]
) -> None:
    fake, real = MemoryConnectionStore(), _on_jetstream(module_link)
    connection_id = next(ids)
    revisions = [(0, 0)]
    writes: list[tuple[Write, Write]] = []
    for step, choice in steps:
        if step == "load":
            in_fake, in_real = await fake.load(connection_id), await real.load(connection_id)
            assert in_fake.connection == in_real.connection
            assert (in_fake.revision, in_real.revision) == revisions[-1]
            continue
        if step == "send again":
            if not writes:
                continue
            pair = writes[choice % len(writes)]
        else:
            expected = revisions[-1 if step == "write" else choice % len(revisions)]
            write = _write(connection_id, expected[0], generation=len(writes) + 1)
            pair = (write, write._replace(expected_revision=expected[1]))
            writes.append(pair)
        outcome = await _outcome(fake, pair[0]), await _outcome(real, pair[1])
        assert (outcome[0] is None) == (outcome[1] is None)
        if outcome[0] is not None and outcome[1] is not None and outcome not in revisions:
            revisions.append((outcome[0], outcome[1]))


async def _outcome(store: ConnectionStore, write: Write) -> int | None:
    """Return the revision of a write, or None for a conflict."""
    try:
        return await store.write(write)
    except WriteConflictError:
        return None
