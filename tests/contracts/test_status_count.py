"""Connections are counted by status beside the commands that change them, and none twice."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import msgspec
import pytest

from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.grant_life import NO_REFRESH_TOKEN_NOTE
from domain.profile import FailureClass
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.partition_streams import Kept
from runtime.ledger.provider_names import ProviderNames
from runtime.ledger.status_count import NEEDING_SHOWN_MAX, Kind
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
    entry.before = stored.connection
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


def dead(connection_id: UUID, day: int = 1) -> ProviderConnection:
    return msgspec.structs.replace(
        active(connection_id),
        status=ConnectionStatus.EXPIRED,
        trouble=Trouble(
            failure_class=FailureClass.USER,
            code="invalid_grant",
            reason="It is over",
            at=datetime(2026, 1, day, tzinfo=UTC),
        ),
    )


def without_refresh_token(connection_id: UUID) -> ProviderConnection:
    one = active(connection_id)
    assert one.credentials is not None
    credentials = msgspec.structs.replace(one.credentials, notes=(NO_REFRESH_TOKEN_NOTE,))
    return msgspec.structs.replace(one, credentials=credentials)


async def put(ledger: PartitionLedger, connection: ProviderConnection) -> None:
    """Store a connection as an actor does."""
    entry = entry_of(connection)
    entry.before = (await ledger.read(connection.id)).connection
    await store(ledger, entry)


async def test_connections_are_counted_by_provider_and_by_what_their_grants_need(
    world: LedgerWorld,
) -> None:
    former, (one, two, three) = await taken(world.streams()), [next(ids) for _ in range(3)]
    slug = active(one).provider_slug
    for connection in (active(one), dead(two), without_refresh_token(three)):
        await put(former, connection)
    await former.records.advance()
    read = await taken(world.streams(), daemon="d-2")
    await counted(read)

    for ledger in (former, read):
        await counted(ledger)
        assert +Counter(ledger.statuses.by_kind) == {
            Kind(slug, ACTIVE): 1,
            Kind(slug, ConnectionStatus.EXPIRED, needs_user=True, needs_action=True): 1,
            Kind(slug, ACTIVE, lacks_refresh_token=True, needs_action=True): 1,
        }
        assert {one.connection_id: one.reason for one in ledger.statuses.needing} == {
            two: "the connection is expired: It is over",
            three: "it ends at 2026-01-01T00:00:00Z, and there is no refresh token",
        }

    for connection in (dead(one), active(two), active(three)):
        await put(read, connection)
    assert +Counter(read.statuses.by_kind) == {
        Kind(slug, ACTIVE): 2,
        Kind(slug, ConnectionStatus.EXPIRED, needs_user=True, needs_action=True): 1,
    }
    assert [needing.connection_id for needing in read.statuses.needing] == [one]


async def test_of_the_grants_that_need_their_users_the_last_to_end_are_kept(
    world: LedgerWorld,
) -> None:
    ledger = await taken(world.streams())
    some = [next(ids) for _ in range(NEEDING_SHOWN_MAX + 2)]

    for number, one in enumerate(some):
        await put(ledger, dead(one, day=30 if number else 1))

    kept = {needing.connection_id for needing in ledger.statuses.needing}
    assert len(kept) == NEEDING_SHOWN_MAX
    assert some[0] not in kept


def test_however_many_providers_are_named_the_names_they_are_counted_by_are_bounded() -> None:
    names = ProviderNames(names_max=2)
    names.admit(["schwab"])

    assert [names.of(slug) for slug in ("a", "b", "c", "schwab", "a")] == [
        "a",
        "other",
        "other",
        "schwab",
        "a",
    ]
