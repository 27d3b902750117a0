"""Members that come and leave know of each other in time for nobody to be lost between them."""

import contextlib
from collections.abc import AsyncGenerator, Mapping

import anyio

from actors.cluster import Cluster, Hooks
from actors.members import Heartbeat

TIMEOUT_S = 5.0


class Shelf:
    """Implements ``actors.cluster.Keeper``: takes and gives without a ledger."""

    def __init__(self) -> None:
        self.owned: Mapping[int, int] = {}

    def place(self, partition: int) -> bool | None:
        return partition in self.owned

    async def take(self, partition: int) -> bool:
        await anyio.sleep(0.01)
        self.owned = {**self.owned, partition: 1}
        return True

    async def give(self, partition: int) -> None:
        await anyio.sleep(0.01)
        self.owned = {one: seq for one, seq in self.owned.items() if one != partition}


class Air:
    """Brings each heartbeat to every member."""

    def __init__(self) -> None:
        self.members: dict[str, Cluster] = {}
        self.takes_s: dict[str, float] = {}
        """How long a heartbeat is on its way to a member."""
        self.tasks = anyio.create_task_group()

    def join(self, name: str) -> tuple[Cluster, Shelf]:
        """Return a new member, and what it owns."""
        shelf = Shelf()
        hooks = Hooks(
            send=self._send, report=dict, load=lambda: 0, draw=lambda: 0.5, changed=lambda: None
        )
        one = self.members[name] = Cluster(
            name, version="0", partitions=4, keeper=shelf, hooks=hooks, timeout_s=TIMEOUT_S
        )
        return one, shelf

    def _send(self, beat: Heartbeat) -> bool:
        for name in self.members:
            self.tasks.start_soon(self._bring, beat, name)
        return True

    async def _bring(self, beat: Heartbeat, name: str) -> None:
        await anyio.sleep(self.takes_s.get(name, 0.001))
        self.members[name].heard(beat)


async def test_who_leaves_waits_for_one_that_hears_late_and_not_for_one_that_never_does() -> None:
    air, took_s, again_s = Air(), 0.0, 0.0
    async with air.tasks as tasks:
        (leaving, _), (other, _) = air.join("a"), air.join("b")
        tasks.start_soon(leaving.run)
        tasks.start_soon(other.run)
        await anyio.sleep(10.0)
        air.takes_s["b"], began_s = 1.2, anyio.current_time()
        await leaving.leave()
        took_s = anyio.current_time() - began_s
        leaving.is_leaving, air.takes_s["b"] = False, 10_000.0
        began_s = anyio.current_time()
        await leaving.leave()
        again_s = anyio.current_time() - began_s
        tasks.cancel_scope.cancel()

    assert 1.2 <= took_s < 2.0
    assert again_s < 2.5


async def test_who_comes_while_another_one_starts_leaves_it_what_it_takes() -> None:
    air = Air()
    async with air.tasks as tasks:
        first, _ = air.join("a")
        tasks.start_soon(first.tell)
        await first.join(within_s=0.6)
        assert first.first() == [0, 1, 2, 3]
        second, _ = air.join("b")
        tasks.start_soon(second.tell)
        await second.join(within_s=0.6)
        assert second.first() == []
        tasks.cancel_scope.cancel()


async def test_who_hears_nobody_not_even_itself_takes_nothing_from_those_it_knew() -> None:
    air = Air()
    async with air.tasks as tasks:
        (deaf, owned), (other, others) = air.join("a"), air.join("b")
        tasks.start_soon(deaf.run)
        tasks.start_soon(other.run)
        await anyio.sleep(10.0)
        assert (len(owned.owned), len(others.owned)) == (2, 2)
        air.takes_s["a"] = 30.0
        await anyio.sleep(12.0)
        assert len(owned.owned) == 2
        tasks.cancel_scope.cancel()


async def test_who_can_never_hear_anybody_takes_what_it_does_not_hear_to_be_owned() -> None:
    air = Air()
    async with air.tasks as tasks:
        deaf, owned = air.join("a")
        air.takes_s["a"] = 10_000.0
        tasks.start_soon(deaf.run)
        await anyio.sleep(10.0)
        assert len(owned.owned) == 0
        await anyio.sleep(10.0)
        assert len(owned.owned) == 4
        tasks.cancel_scope.cancel()


async def test_who_has_news_all_the_time_knows_all_the_same_that_it_hears_nobody() -> None:
    air = Air()
    async with air.tasks as tasks:
        deaf, owned = air.join("a")
        air.takes_s["a"] = 10_000.0
        tasks.start_soon(deaf.run)
        for _ in range(100):
            await anyio.sleep(0.4)
            deaf.news()
        assert len(owned.owned) == 4
        tasks.cancel_scope.cancel()


async def test_who_has_just_come_takes_at_once_what_it_is_given() -> None:
    air = Air()
    async with air.tasks as tasks:
        (leaving, _), (coming, taken) = air.join("a"), air.join("b")
        tasks.start_soon(leaving.run)
        await anyio.sleep(0.1)
        await coming.join(within_s=0.6)
        tasks.start_soon(coming.run)
        await anyio.sleep(0.1)
        await leaving.leave()
        await anyio.sleep(0.2)
        assert len(taken.owned) == 4
        tasks.cancel_scope.cancel()


async def test_who_has_just_come_claims_from_nobody_who_may_be_cut_off_and_answer() -> None:
    air = Air()
    async with air.tasks as tasks:
        coming, _ = air.join("b")
        tasks.start_soon(coming.tell)
        await coming.join(within_s=0.6, former=["a-1"])
        assert not coming.may_claim_from("a")
        assert coming.may_claim_from("a-1")
        assert coming.may_claim_from("b")
        tasks.start_soon(coming.run)
        await anyio.sleep(TIMEOUT_S - 0.7)
        assert not coming.may_claim_from("a")
        await anyio.sleep(0.2)
        assert coming.may_claim_from("a")
        tasks.cancel_scope.cancel()


async def test_who_is_heard_to_own_nothing_may_be_claimed_from_and_who_falls_silent_may_not() -> (
    None
):
    air = Air()
    async with air.tasks as tasks:
        (other, _), (coming, _) = air.join("a"), air.join("b")
        tasks.start_soon(other.tell)
        await coming.join(within_s=0.6)
        assert coming.may_claim_from("a")
        air.takes_s["b"] = 10_000.0
        await anyio.sleep(3.0)
        assert not coming.may_claim_from("a")
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _there_for_long() -> AsyncGenerator[tuple[Air, Cluster]]:
    air = Air()
    async with air.tasks as tasks:
        one, _ = air.join("a")
        await one.join(within_s=0.6)
        tasks.start_soon(one.run)
        await anyio.sleep(10.0)
        yield air, one
        tasks.cancel_scope.cancel()


async def test_who_falls_silent_is_claimed_from_when_it_is_silent_for_the_whole_time_out() -> None:
    async with _there_for_long() as (_, one):
        one.heard(Heartbeat(daemon="c", number=1))
        assert one.may_claim_from("c")
        await anyio.sleep(TIMEOUT_S - 1.0)
        assert not one.may_claim_from("c")
        await anyio.sleep(3.0)
        assert one.may_claim_from("c")


async def test_who_was_cut_off_listens_anew_before_it_claims_from_who_is_silent() -> None:
    async with _there_for_long() as (air, one):
        assert one.may_claim_from("c")
        air.takes_s["a"] = 10_000.0
        await anyio.sleep(4.0)
        air.takes_s["a"] = 0.001
        await anyio.sleep(3.0)
        assert not one.may_claim_from("c")
        await anyio.sleep(4.0)
        assert one.may_claim_from("c")


async def test_on_a_server_that_nobody_else_can_be_on_nobody_is_waited_for() -> None:
    air = Air()
    async with air.tasks:
        alone, _ = air.join("a")
        await alone.join(within_s=0.0)

        assert alone.may_claim_from("b")
