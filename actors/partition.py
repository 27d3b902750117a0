"""What the actors of one partition have decided, on its way into the ledger.

While one group is being stored the next one gathers: everything decided meanwhile is stored
by one append, however many connections it is for, and every caller is answered when the group
of its command is acknowledged.

An append whose outcome is not known is the ledger's business (``actors.ports.Ledger``): it goes
on until it is. Here that only shows as time: callers whose own is up are told so, and after
``unclear_s`` nothing new is decided until the append is over.
"""

import math
from collections.abc import Callable, Sequence

import anyio

from actors.entry import Entry
from actors.ports import Journal, Ledger
from actors.world import INTERNAL_ERROR, Limits, database_error, overloaded
from domain.result import Failure

_NOT_KNOWN = "not known to be stored yet"
UNCLEAR = "an earlier write is not known to be stored yet"
_FULL = "too much is stored that its views do not hold yet"
_SLOW_S = 0.05
_BUSY_ANSWERS = 8
"""After a group that answered so many the next one gathers until the clock is at a multiple of
``_LINGER_S``, as those of the other partitions do: an append costs the same whatever it carries.
A lone caller never waits for it."""
_LINGER_S = 0.003
_LINGER_S_MAX = 0.010


class Partition:
    """The open group and the one that is being stored. ``run`` must be running."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        limits: Limits,
        journal: Journal,
        stir: Callable[[], None],
        confirms: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """Start with nothing decided.

        Args:
            ledger: The partition's, claimed just now.
            limits: The bounds.
            journal: For what is dropped.
            stir: Called when something is decided.
            confirms: Whether the partition is ours still for certain, by when the last append was
                sent that is acknowledged; monotonic.
        """
        self._stir = stir
        self._confirms = confirms
        self.owned_s = self._acknowledged_s = -math.inf
        """When it was taken; monotonic."""
        self.is_leaving = False
        """Whether it is being handed over: nothing new is decided."""
        self.ledger = ledger
        self.is_over = False
        """Whether nothing is stored any more."""
        self.is_unclear = False
        """Whether an append has not been answered for longer than ``unclear_s``."""
        self._limits = limits
        self._journal = journal
        self._open: list[Entry] = []
        self._appending: list[Entry] = []
        self._began_s = math.inf
        self._arrived: anyio.Event | None = None
        self._refused_events = 0
        self._stored_last = 0

    def begin(self) -> None:
        """Be owned from now on."""
        self.owned_s = self._acknowledged_s = anyio.current_time()

    @property
    def is_settled(self) -> bool:
        """Whether everything decided is stored, or never will be."""
        return self.is_over or not (self._open or self._appending)

    @property
    def is_confirmed(self) -> bool:
        """Whether an answer may come from memory alone (DESIGN.md section 8)."""
        return self._confirms(self._acknowledged_s)

    @property
    def entries(self) -> int:
        """How many entries are decided and not known to be stored."""
        return len(self._open) + len(self._appending)

    def refusal(self) -> Failure | None:
        """Return why nothing that changes state can be decided now, or None."""
        if self.is_unclear:
            return database_error(UNCLEAR)
        if not self.ledger.has_room:
            return overloaded(_FULL)
        return None

    def opened(self, entry: Entry) -> None:
        """Take an entry into the open group, where more can be added to it."""
        self._open.append(entry)
        if self._arrived is not None:
            self._arrived.set()

    def may_tell_refusal(self, events: int) -> bool:
        """Count the events of a command that was refused; False: there are too many already."""
        if self._refused_events >= self._limits.refused_events_max:
            self._journal.events_dropped(events)
            return False
        self._refused_events += events
        return True

    async def run(self) -> None:
        """Store group after group until cancelled.

        Raises:
            PartitionLostError: Another daemon has taken the partition; ``abandon`` is to follow.
        """
        while True:
            if not self._open:
                self._arrived = anyio.Event()
                await self._arrived.wait()
                self._arrived = None
                self._stir()
            if self._stored_last >= _BUSY_ANSWERS:
                await self._linger()
            self._close_group()
            if self._appending:
                self._began_s = anyio.current_time()
                await self.ledger.append()
                self._acknowledged_s = self._began_s
                self._settle()

    async def _linger(self) -> None:
        """Let the group grow while as many come as would be worth a group of their own."""
        until_s, gathered = anyio.current_time() + _LINGER_S_MAX, 0
        while True:
            await anyio.sleep(_LINGER_S - anyio.current_time() % _LINGER_S)
            before, gathered = gathered, sum(len(entry.replies) for entry in self._open)
            if gathered - before < _BUSY_ANSWERS or anyio.current_time() >= until_s:
                return

    def tick(self, now_s: float) -> None:
        """Tell callers whose time is up, and notice an append that takes too long."""
        took_s = now_s - self._began_s
        if took_s < _SLOW_S:
            return
        self.is_unclear = took_s > self._limits.unclear_s
        for entry in (*self._appending, *self._open):
            entry.refuse(database_error(_NOT_KNOWN), due_s=now_s)

    def abandon(self, failure: Failure, *, repeatable: Failure | None = None) -> None:
        """Give up what is not known to be stored, and answer its callers: see ``Entry.fail``."""
        given_up, self._appending, self._open = [*self._appending, *self._open], [], []
        self._began_s, self.is_unclear, self.is_over = math.inf, True, True
        for entry in given_up:
            entry.fail(failure, repeatable=repeatable)

    def _close_group(self) -> None:
        """Move what fits from the open group into the one that is stored next."""
        waiting, self._open = self._open, []
        for position, entry in enumerate(waiting):
            if entry.is_lost:
                continue
            try:
                fits = self.ledger.add(entry)
            except Exception as error:  # noqa: BLE001 -- one that cannot be written harms no other
                self._broke(entry, waiting[position:], error)
                fits = False
            if not fits:
                self._open = waiting[position:] + self._open
                return
            entry.is_open = False
            self._appending.append(entry)
        # Whatever was refused so far is on its way.
        self._refused_events = 0

    def _broke(self, broken: Entry, waiting: Sequence[Entry], error: Exception) -> None:
        """Fail an entry that cannot be written, and all that was decided on top of it.

        Not yet, while one of the same connection is in this group, which must be stored before:
        the connection would be read without it.
        """
        if any(one.connection_id == broken.connection_id for one in self._appending):
            return
        void = [entry for entry in waiting if entry.connection_id == broken.connection_id]
        for entry in void:
            entry.is_open = False
        asked = [envelope for entry in void for envelope, _ in entry.replies]
        broken.maker.broke(asked, error)
        for entry in void:
            entry.fail(INTERNAL_ERROR)

    def _settle(self) -> None:
        """Answer those whose group is stored."""
        stored, self._appending = self._appending, []
        self._stored_last = sum(len(entry.replies) for entry in stored)
        self._began_s, self.is_unclear = math.inf, False
        for entry in stored:
            entry.stored()
