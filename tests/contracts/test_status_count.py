"""Connections are counted by status beside the commands that change them, and none twice."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from uuid import UUID

import msgspec
import pytest

from domain.connection import ConnectionStatus, ProviderConnection
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import Kept
from runtime.world import Uuid7Ids
from tests.fakes.connections import active, pending
from tests.fakes.ledger_worlds import LedgerWorld, entry_of, store, taken

ids = Uuid7Ids()
ACTIVE, PENDING, REVOKED = (
    ConnectionStatus.ACTIVE,
    ConnectionStatus.PENDING,
    ConnectionStatus.REVOKED,
)


def in_status(connection_id: UUID, status: ConnectionStatus) -> ProviderConnection:
    if status is PENDING:
        return pending(connection_id)
    return msgspec.structs.replace(active(connection_id), status=status)


async def change(ledger: PartitionLedger, connection_id: UUID, status: ConnectionStatus) -> None:
    """Store a status as an actor does that has just been activated."""
    stored = await ledger.read(connection_id)
    entry = entry_of(in_status(connection_id, status))
    entry.status_before = stored.connection and stored.connection.status
    await store(ledger, entry)


async def counted(ledger: PartitionLedger) -> Counter[ConnectionStatus]:
    """Return the count when it is complete."""
    while await ledger.statuses.count(ledger.scan, records_max=5):
        pass
    assert ledger.statuses.by_status is not None
    return +ledger.statuses.by_status


async def test_what_an_earlier_daemon_stored_is_counted_page_by_page(world: LedgerWorld) -> None:
    former, some = await taken(world.streams()), [next(ids) for _ in range(12)]
    for number, one in enumerate(some):
        await change(former, one, (ACTIVE, PENDING, REVOKED)[number % 3])
        if number < 9:
            await former.records.advance()

    ledger = await taken(world.streams(), daemon="d-2")

    assert ledger.statuses.by_status is None
    assert await ledger.statuses.count(ledger.scan, records_max=5)
    assert ledger.statuses.by_status is None
    assert await counted(ledger) == {ACTIVE: 4, PENDING: 4, REVOKED: 4}


async def test_an_empty_partition_is_counted_at_once(world: LedgerWorld) -> None:
    ledger, one = await taken(world.streams()), next(ids)

    assert not await ledger.statuses.count(ledger.scan, records_max=5)
    assert await counted(ledger) == {}

    await change(ledger, one, PENDING)
    await change(ledger, one, ACTIVE)
    assert await counted(ledger) == {ACTIVE: 1}


async def test_a_bucket_that_was_emptied_by_hand_ends_the_count(world: LedgerWorld) -> None:
    ledger = await taken(world.streams())

    async def scan(_start_seq: int, *, messages_max: int) -> Sequence[Kept]:
        assert messages_max
        return ()

    assert not await ledger.statuses.count(scan, records_max=5)


class Busy:
    """Reads and changes connections at random, and knows what is stored."""

    def __init__(self, seed: int) -> None:
        self.stored: dict[UUID, ConnectionStatus] = {}
        self._random = Random(seed)

    async def act(self, ledger: PartitionLedger, *, times: int) -> None:
        for _ in range(times):
            draw = self._random.random()
            one = self._random.choice([*self.stored, next(ids)])
            if draw < 0.2:
                await ledger.records.advance()
            elif draw < 0.4:
                await ledger.read(one)
            else:
                self.stored[one] = self._random.choice([ACTIVE, PENDING, REVOKED])
                await change(ledger, one, self.stored[one])


@pytest.mark.parametrize("seed", range(15))
async def test_whatever_is_read_and_changed_meanwhile_each_connection_is_counted_once(
    world: LedgerWorld, seed: int
) -> None:
    busy = Busy(seed)
    await busy.act(await taken(world.streams()), times=60)
    ledger = await taken(world.streams(), daemon="d-2")

    async def scan(start_seq: int, *, messages_max: int) -> Sequence[Kept]:
        page = await ledger.scan(start_seq, messages_max=messages_max)
        # What has been read is old when it is looked at.
        await busy.act(ledger, times=3)
        return page

    while await ledger.statuses.count(scan, records_max=4):
        await busy.act(ledger, times=1)
    await busy.act(ledger, times=10)

    assert await counted(ledger) == Counter(busy.stored.values())
