"""The partitions that this daemon serves: taken, kept and given, one by one."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping

import anyio
from anyio.abc import TaskGroup, TaskStatus

from actors.directory import Directory
from actors.ports import Ledger, PartitionLostError
from actors.waker import Waker
from runtime.ledger.due_scan import DuePolicy, DueScan
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.streams import StreamsError
from runtime.ledger.take_over import StillOwnedError
from runtime.logs import log
from runtime.nats.errors import LinkError

_MISSED_S = 5.0
"""How long a start reads what was missed before it wakes the first."""
_VIEWS_S = 1.0
_LAST_VIEWS_S = 0.2
"""How long a hand-over waits for the views, before and after the last command: the next owner
writes what they lack."""
_RELEASE_S = 2.0
_HEARD_AFTER_S = 5.0
"""For how long what comes too late for a partition that was given is still sent on."""

Hear = Callable[[int], Awaitable[Callable[[], None]]]
"""Has what is for a partition's owner come in, and returns how to end that."""
Told = Callable[[PartitionLedger], Ledger]
"""A ledger as the actors are to see it."""


class _Holding:
    """One partition that is served."""

    def __init__(self, ledger: PartitionLedger) -> None:
        self.ledger = ledger
        self.scope = anyio.CancelScope()
        self.has_read = anyio.Event()
        """Set when what was missed is read."""
        self.is_stale = anyio.Event()
        """Set when the policy has changed."""


class Holdings:
    """Implements ``actors.cluster.Keeper``; ``run`` must be running."""

    def __init__(
        self,
        ledgers: Ledgers,
        directory: Directory,
        waker: Waker,
        policy: DuePolicy,
        *,
        hear: Hear,
        told: Told,
    ) -> None:
        """Serve nothing yet.

        Args:
            ledgers: Claims partitions and keeps their views.
            directory: Their actors.
            waker: Has connections looked at when they are due.
            policy: By which that is reckoned.
            hear: See ``Hear``.
            told: See ``Told``.
        """
        self.lost: Callable[[int], None] = lambda _: None
        """Called when another daemon has taken a partition."""
        self._ledgers = ledgers
        self._directory = directory
        self._waker = waker
        self._policy = policy
        self._hear = hear
        self._told = told
        self._holdings: dict[int, _Holding] = {}
        self._unhear: dict[int, Callable[[], None]] = {}
        """Ends what is heard for each partition: what came in twice would be done twice."""
        self._hearing_out: dict[int, anyio.CancelScope] = {}
        self._scanning = anyio.Lock()
        self._tasks: TaskGroup | None = None
        directory.lost = self._lost

    @property
    def owned(self) -> Mapping[int, int]:
        """See ``Keeper``."""
        return {number: one.ledger.claim_seq for number, one in self._holdings.items()}

    def decide_by(self, policy: DuePolicy) -> None:
        """Go by another policy from now on; records that lack an entry by it get one."""
        self._policy = policy
        for holding in self._holdings.values():
            holding.ledger.records.mark.decide_by(policy.name)
            holding.is_stale.set()

    def place(self, partition: int) -> bool | None:
        """See ``Keeper``."""
        served = self._directory.partitions.get(partition)
        if served is not None:
            return None if served.is_leaving else True
        return None if partition in self._holdings else False

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep what is served, until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            await anyio.sleep_forever()

    async def begin(self) -> None:
        """Have connections looked at from now on, the most urgent of all that is served first."""
        with anyio.move_on_after(_MISSED_S):
            for holding in [*self._holdings.values()]:
                await holding.has_read.wait()
        self._waker.begin()

    async def take(self, partition: int) -> bool:
        """See ``Keeper``."""
        try:
            ledger = await self._ledgers.claim(partition)
            await self.serve(partition, ledger)
        except StillOwnedError:
            return False
        except (StreamsError, LinkError, PartitionLostError) as error:
            self._ledgers.drop(partition)
            log.error("partition_not_taken", partition=partition, cause=str(error))
            return False
        log.info("partition_taken", partition=partition, claim_seq=ledger.claim_seq)
        return True

    async def serve(self, partition: int, ledger: PartitionLedger) -> None:
        """Serve a partition that was claimed.

        Raises:
            LinkError: What is for its owner would not come in.
        """
        assert self._tasks is not None
        ledger.records.mark.decide_by(self._policy.name)
        hearing_out = self._hearing_out.pop(partition, None)
        if hearing_out is not None:
            hearing_out.cancel()
        elif partition not in self._unhear:
            self._unhear[partition] = await self._hear(partition)
        holding = _Holding(ledger)
        self._holdings[partition] = holding
        self._directory.admit(partition, self._told(ledger))
        self._tasks.start_soon(self._hold, partition, holding)

    async def give(self, partition: int) -> None:
        """See ``Keeper``: what was decided is stored, the views have caught up if they can."""
        holding = self._holdings.get(partition)
        if holding is None or partition not in self._directory.partitions:
            return
        with anyio.move_on_after(_VIEWS_S):
            # While commands go on: what is left then is little.
            await self._ledgers.caught_up([holding.ledger])
        if partition not in self._directory.partitions:
            return
        await self._directory.empty(partition)
        with anyio.move_on_after(_LAST_VIEWS_S):
            await self._ledgers.caught_up([holding.ledger])
        # Requests that were under way at providers may have been answered meanwhile.
        await self._directory.empty(partition)
        if self._holdings.get(partition) is not holding:
            return
        self._directory.dismiss(partition)
        with anyio.move_on_after(_RELEASE_S), contextlib.suppress(PartitionLostError):
            await holding.ledger.release()
        if self._holdings.get(partition) is not holding:
            return
        self._drop(partition, holding)
        log.info("partition_given", partition=partition)

    def _lost(self, partition: int, error: PartitionLostError) -> None:
        """Know from the actors that a partition is another daemon's."""
        holding = self._holdings.get(partition)
        if holding is not None:
            self._drop(partition, holding)
            log.warning("partition_lost", partition=partition, cause=str(error))
            self.lost(partition)

    def _drop(self, partition: int, holding: _Holding) -> None:
        del self._holdings[partition]
        holding.scope.cancel()
        self._ledgers.drop(partition)
        assert self._tasks is not None
        scope = self._hearing_out[partition] = anyio.CancelScope()
        self._tasks.start_soon(self._hear_out, partition, scope)

    async def _hear_out(self, partition: int, scope: anyio.CancelScope) -> None:
        """Send on for a while what others still take for ours, unless it is ours again."""
        with scope:
            await anyio.sleep(_HEARD_AFTER_S)
            del self._hearing_out[partition]
            self._unhear.pop(partition)()

    async def _hold(self, partition: int, holding: _Holding) -> None:
        """Follow with the views, keep house, and have connections looked at, until it ends."""
        with holding.scope:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._ledgers.run, holding.ledger)
                    tasks.start_soon(self._wake_in_time, holding, tasks)
            except* PartitionLostError as group:
                if self._holdings.get(partition) is holding:
                    self._directory.dismiss(partition)
                    self._lost(partition, _first(group))

    async def _wake_in_time(self, holding: _Holding, tasks: TaskGroup) -> None:
        """Have connections looked at when they are due; records that lack an entry get one."""
        ledger = holding.ledger
        with anyio.move_on_after(_MISSED_S):
            await ledger.due.read_ahead()
        ledger.due.wake = self._waker.wake
        ledger.due.wake_due()
        holding.has_read.set()
        tasks.start_soon(ledger.due.run)
        tasks.start_soon(ledger.due.counts.run)
        while True:
            holding.is_stale = anyio.Event()
            # One partition after the other.
            async with self._scanning:
                await self._scan(ledger).run()
            await holding.is_stale.wait()

    def _scan(self, ledger: PartitionLedger) -> DueScan:
        """Return what goes through the records by the policy as it is now."""
        return DueScan(
            ledger,
            self._policy,
            now_s=self._ledgers.now_s,
            limits=self._ledgers.limits,
            note=self._waker.note,
        )


def _first(group: BaseExceptionGroup[PartitionLostError]) -> PartitionLostError:
    """Return the first error of a group of groups."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
