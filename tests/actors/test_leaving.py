"""A member that leaves stays until all the others know what it owns no more."""

from collections.abc import Callable, Mapping

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


def member(name: str, shelf: Shelf, send: Callable[[Heartbeat], bool]) -> Cluster:
    hooks = Hooks(send=send, report=dict, load=lambda: 0, draw=lambda: 0.5, changed=lambda: None)
    return Cluster(name, version="0", partitions=4, keeper=shelf, hooks=hooks, timeout_s=TIMEOUT_S)


async def test_it_waits_for_a_member_that_hears_late_and_not_for_one_that_never_does() -> None:
    late_s = 0.0
    clusters: dict[str, Cluster] = {}
    async with anyio.create_task_group() as tasks:

        async def brought(beat: Heartbeat, to: Cluster, after_s: float) -> None:
            await anyio.sleep(after_s)
            to.heard(beat)

        def send(beat: Heartbeat) -> bool:
            for name, one in clusters.items():
                tasks.start_soon(brought, beat, one, late_s if name == "b" else 0.001)
            return True

        for name in ("a", "b"):
            clusters[name] = member(name, Shelf(), send)
        for one in clusters.values():
            tasks.start_soon(one.run)
        await anyio.sleep(10.0)
        late_s, began_s = 1.2, anyio.current_time()

        await clusters["a"].leave()

        took_s = anyio.current_time() - began_s
        clusters["a"].is_leaving, late_s = False, 10_000.0
        began_s = anyio.current_time()
        await clusters["a"].leave()
        again_s = anyio.current_time() - began_s
        tasks.cancel_scope.cancel()

    assert 1.2 <= took_s < 2.0
    assert again_s < 2.5
