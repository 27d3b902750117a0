"""Whoever owns a partition checkpoints it for whoever asks, however many messages are lost."""

import contextlib
from collections.abc import AsyncGenerator

import anyio
import pytest

from actors.bus import Heard
from runtime.cluster.checkpoints import Checkpoints
from runtime.ledger.subjects import NO_TAG, owner_filter
from tests.fakes.memory_bus import MemoryBus


class Bucket:
    """Implements ``runtime.cluster.checkpoints.Records``: its marker moves with each write."""

    def __init__(self, marker_seq: int, *, write_s: float = 0.0, is_lost: bool = False) -> None:
        self.marker_seq = marker_seq
        self.writes = 0
        self._write_s = write_s
        self._is_lost = is_lost

    async def proven(self) -> int:
        if self._is_lost:
            await anyio.sleep_forever()
        await anyio.sleep(self._write_s)
        self.writes += 1
        self.marker_seq += 1
        return self.marker_seq

    async def checkpointed(self) -> None:
        """Lack nothing."""


@contextlib.asynccontextmanager
async def member(
    bus: MemoryBus, daemon: str, owned: dict[int, Bucket] | None = None
) -> AsyncGenerator[Checkpoints]:
    """Yield a daemon that hears what is for the owner of what it owns."""
    owned = owned or {}
    checkpoints = Checkpoints(daemon, bus, tag=NO_TAG, here=owned.get)

    def take(message: Heard) -> None:
        checkpoints.take(message)

    await checkpoints.listen()
    for partition in owned:
        await bus.subscribe(owner_filter(partition, NO_TAG), take)
    async with anyio.create_task_group() as tasks:
        await tasks.start(checkpoints.run)
        yield checkpoints
        tasks.cancel_scope.cancel()


async def test_each_partition_is_proven_by_its_owner_the_own_ones_too():
    bus = MemoryBus()
    async with (
        member(bus, "d-1", {0: Bucket(10)}) as one,
        member(bus, "d-2", {1: Bucket(20)}) as two,
    ):
        assert [await one.proven(0), await one.proven(1)] == [11, 21]
        assert [await two.proven(0), await two.proven(1)] == [12, 22]


async def test_a_question_or_an_answer_that_is_lost_comes_again():
    bus = MemoryBus()
    async with member(bus, "d-1") as one, member(bus, "d-2", {0: Bucket(10)}):
        for lost in range(6):
            bus.lost_next = lost
            with anyio.fail_after(0.2 * lost + 0.1):
                assert await one.proven(0) > 10


async def test_a_checkpoint_that_takes_long_is_not_begun_anew_by_each_repetition():
    bus = MemoryBus()
    slow = Bucket(10, write_s=3.0)
    async with member(bus, "d-1") as one, member(bus, "d-2", {0: slow}):
        assert await one.proven(0) == 11

    assert slow.writes == 1
    assert bus.sent.count("refreshd_owner.00.checkpoint.d-1") == 15


async def test_of_two_that_take_themselves_for_the_owner_the_one_that_can_write_answers():
    bus = MemoryBus()
    async with (
        member(bus, "d-1", {0: Bucket(10, is_lost=True)}) as former,
        member(bus, "d-2", {0: Bucket(20)}),
    ):
        assert await former.proven(0) == 21


async def test_nobody_owns_it_until_somebody_does():
    bus = MemoryBus()
    async with member(bus, "d-1") as one, anyio.create_task_group() as tasks:
        found: list[int] = []

        async def prove() -> None:
            found.append(await one.proven(0))

        tasks.start_soon(prove)
        await anyio.sleep(7)
        assert found == []

        async with member(bus, "d-2", {0: Bucket(10)}):
            await anyio.sleep(0.3)
            assert found == [11]


async def test_an_answer_to_an_earlier_question_answers_no_later_one():
    bus = MemoryBus()
    async with member(bus, "d-1") as one:
        async with member(bus, "d-2", {0: Bucket(10)}):
            heard: list[Heard] = []
            await bus.subscribe("refreshd_owner.00.checkpointed.d-1", heard.append)
            await one.proven(0)

        with anyio.move_on_after(1.0) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.proven, 0)
                await anyio.sleep(0.5)
                bus.publish(heard[0].subject, heard[0].data)

    assert scope.cancelled_caught


async def test_owners_that_do_not_all_answer_in_time_are_told_from_those_that_do():
    bus = MemoryBus()
    async with member(bus, "d-1") as one, member(bus, "d-2", {0: Bucket(10), 1: Bucket(20)}):
        assert await one.all_proven([], within_s=1.0)
        assert await one.all_proven([0, 1], within_s=1.0)
        assert not await one.all_proven([0, 1, 2], within_s=1.0)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xc1", b"\x81\xa6number\xa1x"])
async def test_what_is_no_question_and_no_answer_is_passed_over(data: bytes):
    bus = MemoryBus()
    async with member(bus, "d-1", {0: Bucket(10)}) as one:
        bus.publish("refreshd_owner.00.checkpoint.d-1", data)
        bus.publish("refreshd_owner.00.checkpointed.d-1", data)

        assert not one.take(Heard("refreshd_owner.00.token.some-id", "", data, None))
        assert await one.proven(0) == 11
