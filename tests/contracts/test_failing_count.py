"""Who fails at which provider is counted beside the changes, and whom nothing refreshes."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from domain.connection import ConnectionStatus, ProviderConnection, RefreshIntent, Trouble
from domain.credentials import CredentialType, Sealed
from domain.profile import FailureClass, ProviderProfile
from runtime.by_provider import WITHOUT_TOLD_MAX, failing_here, most_of, without_profile
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.provider_names import NAMES_MAX
from runtime.world import Uuid7Ids
from tests.fakes.commands import SLUG
from tests.fakes.connections import active
from tests.fakes.ledger_worlds import LedgerWorld, entry_of, store, taken
from tests.fakes.world import EPOCH

ids = Uuid7Ids()


def sealed(connection_id: UUID, slug: str = SLUG) -> ProviderConnection:
    """Return an active connection that the daemon could refresh."""
    one = active(connection_id)
    assert one.credentials is not None
    payload = Sealed(key_id="k-1", nonce=b"n", ciphertext=b"c")
    credentials = msgspec.structs.replace(one.credentials, payload=payload)
    return msgspec.structs.replace(one, provider_slug=slug, credentials=credentials)


def failed(
    connection_id: UUID,
    failure_class: FailureClass = FailureClass.OPERATOR,
    *,
    reason: str = "It refused",
    at: datetime = EPOCH,
) -> ProviderConnection:
    trouble = Trouble(failure_class=failure_class, code="no", reason=reason, at=at)
    return msgspec.structs.replace(sealed(connection_id), trouble=trouble, updated_at=at)


async def put(ledger: PartitionLedger, connection: ProviderConnection) -> None:
    """Store a connection as an actor does."""
    entry = entry_of(connection)
    entry.before = (await ledger.read(connection.id)).connection
    await store(ledger, entry)


async def succeeds(ledger: PartitionLedger, connection: ProviderConnection, at: datetime) -> None:
    """Store a refresh of a connection."""
    intent = RefreshIntent(
        attempt_id=next(ids), generation=1, owner="d", started_at=at, deadline_at=at
    )
    await put(ledger, msgspec.structs.replace(connection, intent=intent))
    await put(ledger, msgspec.structs.replace(connection, generation=2, updated_at=at))


async def counted(ledger: PartitionLedger) -> PartitionLedger:
    while await ledger.statuses.count(ledger.scan, records_max=5):
        pass
    return ledger


async def taken_again(world: LedgerWorld, former: PartitionLedger) -> PartitionLedger:
    """Return the partition as a daemon has it that has just been started."""
    await former.records.advance()
    return await counted(await taken(world.streams(), daemon="d-2"))


async def test_one_connection_whose_refresh_failed_is_told_with_why_also_after_a_restart(
    world: LedgerWorld,
) -> None:
    former, one = await counted(await taken(world.streams())), next(ids)
    await put(former, sealed(one))
    assert failing_here([former]) == []

    await put(former, failed(one, reason="It does not know us"))
    await put(former, failed(one, reason="It refused", at=EPOCH + timedelta(seconds=9)))

    ledger = await taken_again(world, former)
    for found in (*failing_here([former]), *failing_here([ledger])):
        assert (found.provider_slug, found.failure_class) == (SLUG, FailureClass.OPERATOR)
        assert (found.connections, found.reason, found.connection_id) == (1, "It refused", one)
    assert len(failing_here([ledger])) == 1

    await put(ledger, sealed(one))
    assert failing_here([ledger]) == []


@pytest.mark.parametrize(
    ("failure_class", "is_told"),
    [
        (FailureClass.OPERATOR, True),
        (FailureClass.TRANSIENT, False),
        (FailureClass.AMBIGUOUS, False),
    ],
)
async def test_what_may_pass_by_itself_is_told_until_another_has_succeeded(
    world: LedgerWorld, failure_class: FailureClass, *, is_told: bool
) -> None:
    ledger, one, other = await counted(await taken(world.streams())), next(ids), next(ids)
    await put(ledger, failed(one, failure_class, at=EPOCH + timedelta(seconds=5)))
    await succeeds(ledger, sealed(other), EPOCH + timedelta(seconds=1))
    assert len(failing_here([ledger])) == 1

    await succeeds(ledger, sealed(other), EPOCH + timedelta(seconds=6))

    assert bool(failing_here([ledger])) is is_told


async def test_what_other_partitions_have_of_a_provider_is_told_in_one(world: LedgerWorld) -> None:
    ledger = await counted(await taken(world.streams()))
    for second in range(3):
        await put(ledger, failed(next(ids), at=EPOCH + timedelta(seconds=second)))
    await put(ledger, msgspec.structs.replace(failed(next(ids)), status=ConnectionStatus.REVOKED))
    dead = failed(next(ids), FailureClass.USER)
    await put(ledger, msgspec.structs.replace(dead, status=ConnectionStatus.EXPIRED))

    [found] = failing_here([ledger, ledger])

    assert (found.connections, found.at) == (6, EPOCH + timedelta(seconds=2))


async def test_connections_that_nothing_refreshes_are_counted_by_slug_as_profiles_come_and_go(
    world: LedgerWorld,
) -> None:
    former, two = await taken(world.streams()), [next(ids) for _ in range(2)]
    for one in two:
        await put(former, sealed(one, "acme"))
    await put(former, sealed(next(ids), "known"))
    await put(former, msgspec.structs.replace(active(next(ids)), provider_slug="sealed-by-others"))
    profiles = {"known": ProviderProfile(slug="known")}

    assert without_profile([former], profiles.get) is None
    assert without_profile([await counted(former)], profiles.get) == {"acme": 2}
    ledger = await taken_again(world, former)
    assert without_profile([ledger], profiles.get) == {"acme": 2}

    revoked = msgspec.structs.replace(sealed(two[0], "acme"), status=ConnectionStatus.REVOKED)
    await put(ledger, revoked)
    assert without_profile([ledger], profiles.get) == {"acme": 1}
    assert without_profile([ledger], lambda slug: ProviderProfile(slug=slug)) == {}


async def test_credentials_of_another_kind_change_what_a_connection_is_counted_as(
    world: LedgerWorld,
) -> None:
    ledger, one = await counted(await taken(world.streams())), next(ids)
    ours = sealed(one)
    assert ours.credentials is not None
    of_a_key = msgspec.structs.replace(ours.credentials, credential_type=CredentialType.API_KEY)
    key = msgspec.structs.replace(ours, credentials=of_a_key)

    for connection, is_counted in ((ours, 1), (active(one), 0), (ours, 1), (key, 0), (ours, 1)):
        await put(ledger, connection)
        assert without_profile([ledger], lambda _: None) == ({SLUG: 1} if is_counted else {})


async def test_of_providers_without_a_name_of_their_own_nothing_is_told(
    world: LedgerWorld,
) -> None:
    ledger = await counted(await taken(world.streams()))
    for number in range(NAMES_MAX + 1):
        ledger.statuses.changed(None, sealed(next(ids), f"p-{number}"))

    found = without_profile([ledger], lambda _: None)

    assert found is not None
    assert len(found) == NAMES_MAX
    assert "other" not in found
    assert len(most_of(found) or {}) == WITHOUT_TOLD_MAX
