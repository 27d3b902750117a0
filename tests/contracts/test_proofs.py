"""A proof is a marker that was written since: only who owns the partition can write one."""

import anyio

from runtime.world import Uuid7Ids
from tests.fakes.eventually import eventually
from tests.fakes.ledger_worlds import (
    LedgerWorld,
    caught_up,
    followed,
    store_refreshes,
    taken,
)

ids = Uuid7Ids()


async def test_a_proof_is_a_write_of_its_own_even_where_the_bucket_lacks_nothing(
    world: LedgerWorld,
):
    ledger = await taken(world.streams())
    async with followed(ledger):
        await caught_up(ledger)
        before = ledger.records.mark.seq

        first = await ledger.records.proven()
        second = await ledger.records.proven()

    assert before < first < second == ledger.records.mark.seq


async def test_what_was_stored_before_a_proof_is_in_the_bucket_at_its_marker(world: LedgerWorld):
    one = next(ids)
    ledger = await taken(world.streams())
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=3)

        marker_seq = await ledger.records.proven()

        keys = [kept.key for kept in await ledger.scan(1, messages_max=10)]
        assert keys.index(str(one)) < keys.index("_ledger")
        assert (await ledger.scan(marker_seq, messages_max=10))[0].seq == marker_seq


async def test_proofs_that_are_wanted_together_are_written_together(world: LedgerWorld):
    ledger = await taken(world.streams())
    found: list[int] = []

    async def prove() -> None:
        found.append(await ledger.records.proven())

    async with followed(ledger), anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(prove)

    assert len(found) == 20
    assert len(set(found)) <= 2


async def test_an_owner_that_was_replaced_proves_nothing_though_its_bucket_lacks_nothing(
    world: LedgerWorld,
):
    former = await taken(world.streams(), daemon="d-1")
    proven: list[int] = []

    async def prove() -> None:
        proven.append(await former.records.proven())

    async with followed(former):
        await caught_up(former)
        later = await taken(world.streams(), daemon="d-2")
        async with followed(later), anyio.create_task_group() as tasks:
            # What the former one lacks nothing of it takes for written.
            await former.records.checkpointed()
            tasks.start_soon(prove)
            await eventually(lambda: "later owner" in former.records.trouble)

            await later.records.proven()

            tasks.cancel_scope.cancel()

    assert proven == []
