"""A member that is asked tells its news at once, and who does not answer is told as last heard."""

from collections.abc import Mapping

import anyio
import pytest

from actors.cluster import Cluster, Hooks
from actors.members import Heartbeat, Present


class Nothing:
    """Implements ``actors.cluster.Keeper`` for what is never taken nor given."""

    def __init__(self, owned: Mapping[int, int]) -> None:
        self.owned = owned

    def place(self, partition: int) -> bool | None:
        return partition in self.owned

    async def take(self, partition: int) -> bool:
        return False

    async def give(self, partition: int) -> None:
        return


class Prefix:
    """Daemons that hear each other, but for those that are cut off."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.cut_off: set[str] = set()
        self.counts: dict[str, int] = {}
        """What each daemon has to report."""
        self._sent: dict[str, Heartbeat] = {}

    def add(self, daemon: str, owned: Mapping[int, int] | None = None) -> Cluster:
        self.counts[daemon] = 0
        hooks = Hooks(
            send=self.send,
            report=lambda: {"count": self.counts[daemon]},
            load=lambda: 0,
            draw=lambda: 0.5,
            changed=lambda: None,
        )
        self.clusters[daemon] = Cluster(
            daemon,
            version="1",
            partitions=2,
            keeper=Nothing(owned or {}),
            hooks=hooks,
            timeout_s=5.0,
        )
        return self.clusters[daemon]

    def send(self, beat: Heartbeat) -> bool:
        for daemon, cluster in self.clusters.items():
            if beat.daemon != daemon and not self.cut_off & {daemon, beat.daemon}:
                cluster.heard(beat)
        # One's own comes back after it was sent: here, with the next.
        if beat.daemon in self._sent:
            self.clusters[beat.daemon].heard(self._sent[beat.daemon])
        self._sent[beat.daemon] = beat
        return True


async def asked(cluster: Cluster) -> dict[str, Present]:
    return {one.beat.daemon: one for one in await cluster.asked(within_s=0.4)}


async def test_who_is_alone_answers_at_once_and_sends_nothing():
    prefix = Prefix()
    alone = prefix.add("d-1", {0: 3, 1: 4})
    prefix.counts["d-1"] = 7
    before_s = anyio.current_time()

    members = await alone.asked(within_s=0.4)

    assert anyio.current_time() == before_s
    assert [(one.beat.daemon, one.age_s) for one in members] == [("d-1", 0.0)]
    assert members[0].beat.owned == {0: 3, 1: 4}
    assert members[0].beat.report == {"count": 7}
    assert alone.number == 0


async def test_the_others_tell_what_is_so_now_and_not_what_was_a_second_ago():
    prefix = Prefix()
    one, two = prefix.add("d-1", {0: 3}), prefix.add("d-2", {1: 4})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(two.run)
        await anyio.sleep(2.5)
        for count in range(1, 20):
            prefix.counts["d-2"] = count
            before_s = anyio.current_time()

            members = await asked(one)

            assert members["d-2"].beat.report == {"count": count}
            assert members["d-2"].beat.owned == {1: 4}
            assert anyio.current_time() - before_s <= 0.2
            # Who asks goes on owning what it owns.
            assert two.members.owner_of == {0: "d-1"}
        tasks.cancel_scope.cancel()


async def test_a_heartbeat_that_was_under_way_already_is_no_answer():
    prefix = Prefix()
    one, two = prefix.add("d-1"), prefix.add("d-2")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(two.run)
        await anyio.sleep(2.5)
        early = Heartbeat(
            daemon="d-2", number=two.number + 1, heard={"d-1": one.number}, report={"count": -1}
        )

        async def arrive() -> None:
            one.heard(early)

        tasks.start_soon(arrive)
        prefix.counts["d-2"] = 9
        # The early one has taken its number.
        prefix.clusters["d-2"]._number += 1

        assert (await asked(one))["d-2"].beat.report == {"count": 9}
        tasks.cancel_scope.cancel()


async def test_who_does_not_answer_is_told_as_it_was_heard_last_and_when():
    prefix = Prefix()
    one, two = prefix.add("d-1"), prefix.add("d-2")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        tasks.start_soon(two.run)
        await anyio.sleep(2.5)
        prefix.cut_off.add("d-2")
        prefix.counts["d-2"] = 5
        await anyio.sleep(1.0)
        before_s = anyio.current_time()

        silent = (await asked(one))["d-2"]

        assert anyio.current_time() - before_s == pytest.approx(0.4)
        assert silent.beat.report == {"count": 0}
        assert 1.0 <= silent.age_s <= 2.5
        await anyio.sleep(6.0)
        assert (await asked(one)).keys() == {"d-1"}
        tasks.cancel_scope.cancel()
