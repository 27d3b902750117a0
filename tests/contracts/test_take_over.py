"""Taking a partition: read to the end, build what the views lack, claim; and what is refused."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog
from structlog.testing import capture_logs

from actors.ports import PartitionLostError, Stored
from runtime.ledger.groups import Kind, decode_group
from runtime.ledger.partition_streams import Found
from runtime.ledger.streams import StreamsError
from runtime.ledger.take_over import StillOwnedError
from runtime.world import Uuid7Ids
from tests.fakes.connections import active
from tests.fakes.faulty_streams import Fate
from tests.fakes.ledger_worlds import (
    LedgerWorld,
    MemoryWorld,
    caught_up,
    followed,
    store_refreshes,
    taken,
)

ids = Uuid7Ids()


async def test_a_claim_is_a_message_that_names_the_daemon(world: LedgerWorld) -> None:
    await taken(world.streams(), daemon="d-7")

    (claim,) = [decode_group(found.data) async for found in world.streams().tail(1)]
    assert (claim.kind, claim.daemon, claim.entries) == (Kind.CLAIM, "d-7", ())


async def test_what_the_former_owner_acknowledged_is_known_at_once(world: LedgerWorld) -> None:
    one = next(ids)
    await store_refreshes(await taken(world.streams()), one, first=1, last=4)

    second = await taken(world.streams(), daemon="d-2")

    assert second.recall(one) == Stored(active(one, generation=4))


async def test_the_former_owner_is_refused_from_the_claim_on(world: LedgerWorld) -> None:
    one = next(ids)
    first = await taken(world.streams())
    await taken(world.streams(), daemon="d-2")

    with pytest.raises(PartitionLostError):
        await store_refreshes(first, one, first=1, last=1)


@pytest.mark.parametrize("is_trimmed", [False, True])
async def test_a_partition_whose_owner_may_live_is_not_claimed(
    world: LedgerWorld, *, is_trimmed: bool
) -> None:
    first, asked = await taken(world.streams(), daemon="d-1"), list[str]()
    async with followed(first):
        await store_refreshes(first, next(ids), first=1, last=2)
        await caught_up(first)
        if is_trimmed:
            await first.trim()
    before = await world.streams().bounds()

    def may_claim_from(daemon: str) -> bool:
        asked.append(daemon)
        return False

    with pytest.raises(StillOwnedError, match="may still be d-1's"):
        await taken(world.streams(), daemon="d-2", may_claim_from=may_claim_from)

    assert asked == ["d-1"]
    assert await world.streams().bounds() == before
    assert (before[0] > before[1]) is is_trimmed


async def test_nobody_may_live_who_has_never_claimed_or_who_has_given_the_partition_away(
    world: LedgerWorld,
) -> None:
    first = await taken(world.streams(), daemon="d-1", may_claim_from=lambda _: False)
    await first.release()

    await taken(world.streams(), daemon="d-2", may_claim_from=lambda _: False)


@pytest.mark.parametrize("moment", ["bounds", "tail", "marker"])
async def test_an_owner_that_lives_may_trim_while_its_ledger_is_read(
    world: LedgerWorld, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(ids)
    first = await taken(world.streams())
    await store_refreshes(first, one, first=1, last=4)
    streams = world.streams()
    asked = getattr(streams, moment)

    async def trimmed() -> None:
        async with followed(first):
            await caught_up(first)
            await first.trim()

    async def then_trimmed(*given: Any) -> object:
        monkeypatch.setattr(streams, moment, asked)
        answer = await asked(*given)
        await trimmed()
        return answer

    async def trimmed_then(*given: Any) -> AsyncGenerator[Found]:
        monkeypatch.setattr(streams, moment, asked)
        await trimmed()
        async for found in asked(*given):
            yield found

    monkeypatch.setattr(streams, moment, trimmed_then if moment == "tail" else then_trimmed)

    second = await taken(streams, daemon="d-2")

    assert (await streams.bounds())[0] > 1
    async with followed(second):
        await caught_up(second)
    assert await second.read(one) == Stored(active(one, generation=4))


async def test_a_ledger_that_has_lost_a_group_between_others_is_refused() -> None:
    world = MemoryWorld()
    await store_refreshes(await taken(world.streams()), next(ids), first=1, last=2)
    del world.kept._groups[2]

    with pytest.raises(StreamsError, match="gap before 3"):
        await taken(world.streams(), daemon="d-2")


@pytest.mark.parametrize("is_trimmed", [False, True])
async def test_the_former_owner_notices_the_claim_without_a_write(
    world: LedgerWorld, *, is_trimmed: bool
) -> None:
    first = await taken(world.streams())
    await store_refreshes(first, next(ids), first=1, last=2)
    await first.look_at_owner()
    second = await taken(world.streams(), daemon="d-2")
    if is_trimmed:
        async with followed(second):
            await caught_up(second)
            await second.trim()

    with pytest.raises(PartitionLostError, match="another daemon writes its ledger"):
        await first.look_at_owner()
    await second.look_at_owner()


async def test_an_append_whose_answer_is_under_way_is_no_other_owners(world: LedgerWorld) -> None:
    streams = world.streams()
    ledger = await taken(streams)
    streams.append_fates.append(Fate.ANSWER_LOST)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(store_refreshes, ledger, next(ids), first=1, last=1))
        while not ledger.writer.trouble:
            await anyio.lowlevel.checkpoint()
        assert (await streams.bounds())[1] == ledger.writer.last_seq + 1

        await ledger.look_at_owner()

    await ledger.look_at_owner()


async def test_of_two_who_claim_at_once_one_owns_it_in_the_end(world: LedgerWorld) -> None:
    ledgers = []

    async def take(daemon: str) -> None:
        ledgers.append(await taken(world.streams(), daemon=daemon))

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(take, f"d-{number}")

    lost = 0
    for ledger in ledgers:
        try:
            await store_refreshes(ledger, next(ids), first=1, last=1)
        except PartitionLostError:
            lost += 1
    assert lost == 3


async def test_events_keep_the_source_that_decided_them(world: LedgerWorld) -> None:
    one = next(ids)
    await store_refreshes(await taken(world.streams(), daemon="d-1"), one, first=1, last=1)
    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await caught_up(second)

    assert {event["source"] for event in await world.events(one)} == {"/refreshd/d-1"}


async def test_a_trimmed_ledger_goes_on_counting(world: LedgerWorld) -> None:
    one = next(ids)
    ledger = await taken(world.streams())
    async with followed(ledger):
        await store_refreshes(ledger, one, first=1, last=3)
        await caught_up(ledger)
        await ledger.trim()

    second = await taken(world.streams(), daemon="d-2")

    assert second.writer.last_seq == ledger.writer.last_seq + 1
    stored = await second.read(one)
    assert stored.connection == active(one, generation=3)


async def test_a_ledger_that_lost_what_a_view_lacks_is_refused_with_both_named(
    world: LedgerWorld,
) -> None:
    ledger = await taken(world.streams())
    await store_refreshes(ledger, next(ids), first=1, last=3)
    await world.streams().trim(3)

    with pytest.raises(StreamsError, match="complete through 0, but its ledger holds 4 to 5"):
        await taken(world.streams(), daemon="d-2")


async def test_a_group_of_a_later_version_is_refused() -> None:
    world = MemoryWorld()
    await world.kept.append(b"\x81\xa1v\x63", expected_seq=0)

    with pytest.raises(StreamsError, match="schema 99"):
        await taken(world.streams())


async def test_what_somebody_wrote_by_hand_is_passed_over_and_not_quoted() -> None:
    world, one = MemoryWorld(), next(ids)
    ledger = await taken(world.streams())
    await store_refreshes(ledger, one, first=1, last=2)
    await world.kept.append(b"secret", expected_seq=3)

    structlog.reset_defaults()  # another test may have asked for errors alone
    with capture_logs() as logs:
        second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await store_refreshes(second, one, first=3, last=3)
        await caught_up(second)

    assert [entry["event"] for entry in logs] == ["ledger_message_unreadable"]
    assert "secret" not in str(logs)
    assert len(await world.events(one)) == 6
