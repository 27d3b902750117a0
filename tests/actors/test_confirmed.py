"""An owner whose heartbeats stayed away knows only by an append that a partition is still its own."""

import contextlib
from collections.abc import AsyncGenerator

import anyio
import msgspec
from anyio.abc import TaskGroup

from actors.client_gate import ClientGates
from actors.cluster import Cluster, Hooks
from actors.members import Heartbeat

_TIMEOUT_S = 5.0


class _Keeper:
    """Keeps nothing, and notes when it is to take something."""

    owned: dict[int, int] = {}  # noqa: RUF012 -- never changed

    def __init__(self) -> None:
        self.taken_s: list[float] = []

    def place(self, partition: int) -> bool | None:
        return False

    async def take(self, partition: int) -> bool:
        self.taken_s.append(anyio.current_time())
        return False

    async def give(self, partition: int) -> None:
        raise AssertionError


class _Alone:
    """A member that hears its own heartbeats, as long as ``is_heard``."""

    def __init__(self) -> None:
        self.is_heard = True
        self.keeper = _Keeper()
        self._tasks: TaskGroup | None = None
        hooks = Hooks(
            send=self._send,
            report=dict,
            load=lambda: 0,
            draw=lambda: 0.5,
            changed=lambda: None,
        )
        self.cluster = Cluster(
            "d-1",
            version="1",
            partitions=1,
            keeper=self.keeper,
            hooks=hooks,
            gates=ClientGates(),
            timeout_s=_TIMEOUT_S,
        )

    def _send(self, beat: Heartbeat) -> bool:
        assert self._tasks is not None
        if self.is_heard:
            self._tasks.start_soon(self._come_back, beat)
        return True

    async def _come_back(self, beat: Heartbeat) -> None:
        await anyio.sleep(0.01)
        self.cluster.heard(beat)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Cluster]:
        """Take part beside the body."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            await tasks.start(self.cluster.run)
            yield self.cluster
            tasks.cancel_scope.cancel()


async def test_heartbeats_that_come_back_without_a_gap_confirm_an_owner_for_ever() -> None:
    alone = _Alone()
    async with alone.running() as cluster:
        taken_s = anyio.current_time()
        for _ in range(20):
            await anyio.sleep(3.0)

            assert cluster.confirms(taken_s)


async def test_an_owner_is_not_confirmed_when_neither_heartbeat_nor_append_came_back() -> None:
    alone = _Alone()
    async with alone.running() as cluster:
        taken_s = anyio.current_time()
        alone.is_heard = False
        await anyio.sleep(_TIMEOUT_S + 1.5)

        assert not cluster.confirms(taken_s)


async def test_who_comes_back_is_not_confirmed_before_the_others_must_have_heard_it() -> None:
    alone = _Alone()
    async with alone.running() as cluster:
        await anyio.sleep(3.0)
        alone.is_heard = False
        await anyio.sleep(_TIMEOUT_S + 1.0)
        assert not cluster.confirms(anyio.current_time())
        alone.is_heard = True
        await anyio.sleep(2.0)
        assert not cluster.confirms(anyio.current_time())
        await anyio.sleep(2.0)
        assert cluster.confirms(anyio.current_time())


async def test_appends_alone_confirm_who_never_hears_itself() -> None:
    alone = _Alone()
    async with alone.running() as cluster:
        alone.is_heard = False
        await anyio.sleep(3 * _TIMEOUT_S + 3.0)

        assert cluster.confirms(anyio.current_time() - _TIMEOUT_S + 0.1)
        assert not cluster.confirms(anyio.current_time() - _TIMEOUT_S - 0.1)


async def test_after_a_gap_a_heartbeat_confirms_only_what_an_append_has_confirmed_since() -> None:
    alone = _Alone()
    async with alone.running() as cluster:
        taken_s = anyio.current_time()
        await anyio.sleep(3.0)
        alone.is_heard = False
        await anyio.sleep(_TIMEOUT_S + 3.0)
        alone.is_heard = True
        await anyio.sleep(2.0)
        appended_s = anyio.current_time()
        await anyio.sleep(_TIMEOUT_S + 3.0)

        assert not cluster.confirms(taken_s)
        assert cluster.confirms(appended_s)


async def test_a_member_that_was_cut_off_listens_before_it_takes_what_nobody_seems_to_own() -> None:
    alone = _Alone()
    other = Heartbeat(daemon="d-2", number=1, owned={0: 1})
    async with alone.running() as cluster:
        await anyio.sleep(3.0)
        cluster.heard(other)
        alone.keeper.taken_s.clear()
        alone.is_heard = False
        await anyio.sleep(_TIMEOUT_S + 3.0)
        alone.is_heard = True
        back_s = anyio.current_time()
        await anyio.sleep(5.0)
        assert cluster.members.beats == []

    assert alone.keeper.taken_s
    assert all(at_s > back_s + 1.0 for at_s in alone.keeper.taken_s)


async def test_a_member_that_was_cut_off_takes_at_once_what_it_is_given() -> None:
    alone = _Alone()
    other = Heartbeat(daemon="d-2", number=1, owned={0: 1}, is_leaving=True)
    async with alone.running() as cluster:
        await anyio.sleep(3.0)
        alone.is_heard = False
        await anyio.sleep(_TIMEOUT_S + 3.0)
        alone.is_heard = True
        await anyio.sleep(1.0)
        cluster.heard(other)
        alone.keeper.taken_s.clear()
        given_s = anyio.current_time()
        cluster.heard(msgspec.structs.replace(other, number=2, owned={}))
        await anyio.sleep(0.2)

    assert [at_s - given_s < 0.2 for at_s in alone.keeper.taken_s] == [True]


async def test_a_lost_heartbeat_or_two_are_no_gap() -> None:
    alone = _Alone()
    async with alone.running() as cluster:
        taken_s = anyio.current_time()
        await anyio.sleep(10.0)
        alone.is_heard = False
        await anyio.sleep(2.5)
        alone.is_heard = True
        await anyio.sleep(20.0)

        assert cluster.confirms(taken_s)
