"""A daemon as a member of its cluster: it tells that it is there, and takes and gives partitions.

Every member works out by itself who should own what (``domain.ownership``). It takes what it
should own and nobody is heard to own, and hands over what another one should. Nothing here is
trusted: where two are wrong about each other they claim in turn, and the ledger decides.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus

from actors.client_gate import ClientGates
from actors.hearing import Hearing
from actors.members import HEARTBEAT_S, Heartbeat, Members, Present
from actors.router import HERE
from domain.ownership import Moves, moves, owners

_TAKEN_AT_ONCE_MAX = 4
_TRIED_AGAIN_S = 1.0
_PATIENCE_S_MAX = 15.0
_SETTLED_S = 30.0
"""Who has owned a partition for so long may claim it again at once when it is lost."""
_KNOWN_S = 2.0
"""How long one that leaves waits until the others know that it owns nothing."""
_EXTRA_BEAT_S = 0.05
"""How long news gather before they are told out of turn."""


class Keeper(Protocol):
    """The partitions of this daemon."""

    @property
    def owned(self) -> Mapping[int, int]:
        """What it owns, each with the sequence of its claim; what is being given is in it."""
        ...

    def place(self, partition: int) -> bool | None:
        """Whether a partition is served here; None: it is being given, or taken."""
        ...

    async def take(self, partition: int) -> bool:
        """Claim and serve a partition; False: that cannot be done now."""
        ...

    async def give(self, partition: int) -> None:
        """Hand a partition over; return when it is released."""
        ...


class Hooks(NamedTuple):
    """Whom a cluster tells what."""

    send: Callable[[Heartbeat], bool]
    """Sends a heartbeat to all members, this one as well; False: it cannot be sent."""
    report: Callable[[], dict[str, object]]
    """What the others are to know for ``status``."""
    load: Callable[[], int]
    draw: Callable[[], float]
    """Uniform in [0, 1), for jitter."""
    changed: Callable[[], None]
    """Called when who owns what may have changed."""
    now_s: Callable[[], float] = anyio.current_time
    """The same clock; but an event loop may keep its time while one round of it lasts, be it that
    the process was stopped meanwhile."""


class _Losses:
    """How long to leave a partition alone that was lost, so that who has it gets something done."""

    def __init__(self) -> None:
        self.taken_s = self.until_s = -math.inf
        self.in_a_row = 0

    def lost(self, now_s: float, draw: float) -> None:
        self.in_a_row = 0 if now_s - self.taken_s > _SETTLED_S else self.in_a_row + 1
        pause_s = min(HEARTBEAT_S * 2**self.in_a_row, _PATIENCE_S_MAX)
        self.until_s = now_s + pause_s * (0.5 + draw)


class Cluster:
    """This daemon's part in it. ``join``, then ``run``; ``leave`` before the end."""

    def __init__(
        self,
        me: str,
        *,
        version: str,
        partitions: int,
        keeper: Keeper,
        hooks: Hooks,
        timeout_s: float,
        gates: ClientGates | None = None,
    ) -> None:
        """Know of nobody yet.

        Args:
            me: This daemon's id.
            version: Of the program, for the others.
            partitions: How many there are.
            keeper: Takes and gives them.
            hooks: How to be heard.
            timeout_s: After it a member that is not heard is gone.
            gates: The providers' limits, which the members share.
        """
        self.me = me
        self.members = Members(me, timeout_s=timeout_s)
        self._hearing = Hearing(timeout_s)
        self._former: Collection[str] = ()
        self._version = version
        self._partitions = partitions
        self._keeper = keeper
        self._hooks = hooks
        self._gates = gates or ClientGates()
        self._number = 0
        self._sent_s: dict[int, float] = {}
        self._busy: set[int] = set()
        """What is being taken or given."""
        self._giving: set[int] = set()
        self._taking: set[int] = set()
        self._released: set[int] = set()
        """What another member was heard to give away, and nobody was heard to take."""
        self._losses: dict[int, _Losses] = {}
        self._should: tuple[list[str], list[str]] = ([], [])
        self._tasks: TaskGroup | None = None
        self._stirred = anyio.Event()
        self._given = anyio.Event()
        self._heard = anyio.Event()
        self._has_news = False
        self.is_leaving = False

    @property
    def number(self) -> int:
        """How many heartbeats were sent."""
        return self._number

    def confirms(self, acknowledged_s: float) -> bool:
        """Whether nobody can have taken a partition of ours for long without our hearing of it.

        An append was acknowledged that was sent within the time after which the others take us for
        gone; or ever since one was, heartbeats of ours have come back, never so long apart. After
        a silence of so long nothing does until the others must have heard us again.

        Args:
            acknowledged_s: When the partition's last such append was sent; monotonic.
        """
        return self._hearing.confirms(acknowledged_s, self._hooks.now_s())

    def place(self, partition: int) -> str | None:
        """Return who owns a partition, for ``actors.router``."""
        is_here = self._keeper.place(partition)
        if is_here is not False:
            return HERE if is_here else None
        owner = self.members.who_serves(partition)
        if owner is None or self.members.is_suspect(owner, anyio.current_time()):
            return None
        return owner

    def heard(self, beat: Heartbeat) -> None:
        """Take in a heartbeat, this daemon's own as well."""
        now_s = anyio.current_time()
        if beat.daemon == self.me:
            self._hearing.came_back(self._sent_s.get(beat.number, -math.inf))
            return
        self._released -= beat.owned.keys()
        for partition in self.members.released(beat):
            # Nobody else gets anything done there now.
            self._released.add(partition)
            self._losses.pop(partition, None)
        if beat.is_gone:
            self._gates.gone(beat.daemon)
        elif beat.gates is not None:
            self._gates.heard(beat.daemon, beat.gates)
        if self.members.heard(beat, now_s):
            self._hooks.changed()
            self._stirred.set()
        heard, self._heard = self._heard, anyio.Event()
        heard.set()
        if beat.asks:
            self.news()

    def may_claim_from(self, daemon: str) -> bool:
        """Whether a partition may be claimed that nobody is heard to own, and ``daemon`` did last.

        It is heard, it lives no more, or it is silent for so long that it answers nothing.
        """
        now_s = anyio.current_time()
        if daemon == self.me or daemon in self._former:
            return True
        if daemon in self.members.heard_numbers:
            return not self.members.is_suspect(daemon, now_s)
        return self._hearing.knows_who_is_gone(now_s)

    def news(self) -> None:
        """Tell the others soon, and look again at what is to be taken or given."""
        self._has_news = True
        self._stirred.set()

    def lost(self, partition: int) -> None:
        """Know that another daemon has taken a partition."""
        losses = self._losses.setdefault(partition, _Losses())
        losses.lost(anyio.current_time(), self._hooks.draw())
        self.news()

    async def join(self, *, within_s: float, former: Collection[str] = ()) -> None:
        """Ask who is there, and wait so long for the answers; ``heard`` must be called already.

        Args:
            within_s: 0: nobody else can be there.
            former: Daemons that live no more, for certain.
        """
        if within_s > 0:
            self._hearing.begins(anyio.current_time())
        self._former = {*former}
        self._beat(asks=True)
        await anyio.sleep(within_s)

    async def asked(self, *, within_s: float) -> list[Present]:
        """Ask the others for news, and return all members, this one first.

        Who has not answered in that time is returned as it was heard last.
        """
        if self.members.beats:
            self._beat(asks=True)
            number = self._number
            with anyio.move_on_after(within_s):
                while any(one.heard.get(self.me, 0) < number for one in self.members.beats):
                    await self._heard.wait()
        here = self._news(self._number)
        return [Present(here, 0.0), *self.members.present(anyio.current_time())]

    def first(self) -> list[int]:
        """Return which partitions to take at first; until ``run`` the others are told so."""
        take = self._moves().take
        self._taking.update(take)
        self.news()
        return take

    async def tell(self) -> None:
        """Tell the others of this daemon, until cancelled; ``run`` does it afterwards."""
        while self._tasks is None:
            self._beat()
            self._stirred = anyio.Event()
            with anyio.move_on_after(HEARTBEAT_S):
                await self._stirred.wait()
                await anyio.sleep(_EXTRA_BEAT_S)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            self._taking.clear()
            next_s = -math.inf
            while True:
                now_s = anyio.current_time()
                if self._has_news:
                    next_s = min(next_s, now_s)
                if now_s >= next_s:
                    self._hearing.sent(now_s)
                    self._has_news = False
                    self._beat()
                    next_s = now_s + HEARTBEAT_S
                hears_s = now_s if self._hearing.is_deaf else self._hearing.heard_s
                silent = self.members.forget_silent(hears_s)
                for daemon in silent:
                    self._gates.gone(daemon)
                if silent:
                    self._hooks.changed()
                self._move()
                self._stirred = anyio.Event()
                with anyio.move_on_after(next_s - anyio.current_time()):
                    await self._stirred.wait()
                    await anyio.sleep(_EXTRA_BEAT_S)

    async def leave(self) -> None:
        """Give every partition to the others, and return when nothing is left or nobody is there.

        And when all of them know that: what they have sent here before has come then.
        ``run`` must be running; commands are forwarded meanwhile.
        """
        self.is_leaving = True
        self.news()
        while self._keeper.owned and self.members.may_own:
            self._given = anyio.Event()
            with anyio.move_on_after(HEARTBEAT_S):
                await self._given.wait()
        self._beat(asks=True)
        number = self._number
        with anyio.move_on_after(_KNOWN_S):
            while not self.members.have_heard(number):  # noqa: ASYNC110 -- as the router looks
                await anyio.sleep(_EXTRA_BEAT_S)

    def is_gone(self) -> None:
        """Tell the others that this daemon is not there any more."""
        self._beat(is_gone=True)

    def _beat(self, *, asks: bool = False, is_gone: bool = False) -> None:
        self._number += 1
        now_s = anyio.current_time()
        beat = self._news(self._number, asks=asks, is_gone=is_gone)
        self._sent_s[beat.number] = now_s
        self._sent_s.pop(beat.number - 64, None)
        self._hooks.send(beat)

    def _news(self, number: int, *, asks: bool = False, is_gone: bool = False) -> Heartbeat:
        """Return a heartbeat that says what there is to say now."""
        return Heartbeat(
            daemon=self.me,
            number=number,
            version=self._version,
            owned={} if is_gone else dict.fromkeys(self._taking, 0) | {**self._keeper.owned},
            asks=asks,
            heard=self.members.heard_numbers,
            is_leaving=self.is_leaving,
            is_gone=is_gone,
            load=self._hooks.load(),
            gates=None if is_gone else self._gates.word(),
            report={} if is_gone else self._hooks.report(),
        )

    def _moves(self) -> Moves:
        """Return what is to be taken and given now."""
        members = sorted({*self.members.may_own, *(() if self.is_leaving else (self.me,))})
        if not members:
            return Moves([], [])
        if self._should[0] != members:
            self._should = (members, owners(self._partitions, members))
        return moves(
            self.me,
            owned=self._keeper.owned,
            giving=self._giving,
            owner_of=self.members.owner_of,
            should=self._should[1],
        )

    def _move(self) -> None:
        """Begin to take and to give what is to be."""
        assert self._tasks is not None
        now_s = anyio.current_time()
        to_do = self._moves()
        for partition in to_do.give:
            if partition not in self._busy:
                self._busy.add(partition)
                self._giving.add(partition)
                self._tasks.start_soon(self._give, partition)
        hears = self._hearing.hears(now_s)
        for partition in [one for one in to_do.take if hears or one in self._released]:
            losses = self._losses.get(partition)
            is_early = losses is not None and now_s < losses.until_s
            is_free = len(self._busy) < _TAKEN_AT_ONCE_MAX and partition not in self._busy
            if is_free and not is_early:
                self._busy.add(partition)
                self._taking.add(partition)
                self._tasks.start_soon(self._take, partition)

    async def _take(self, partition: int) -> None:
        try:
            is_taken = await self._keeper.take(partition)
            losses = self._losses.setdefault(partition, _Losses())
            if is_taken:
                losses.taken_s = anyio.current_time()
            else:
                losses.until_s = anyio.current_time() + _TRIED_AGAIN_S
        finally:
            self._busy.discard(partition)
            self._taking.discard(partition)
            self._hooks.changed()
            self.news()

    async def _give(self, partition: int) -> None:
        try:
            await self._keeper.give(partition)
        finally:
            self._busy.discard(partition)
            self._giving.discard(partition)
            self._given.set()
            self._hooks.changed()
            self.news()
