"""Whether what a daemon has decided is still on its way into the ledgers.

A nats-server that is away is no reason to end a daemon: it goes on trying, tells its callers, and
another process could do no more. What only another process mends is a partition with something to
store that nobody tries to store.
"""

import time
from collections.abc import Callable
from typing import Protocol

from actors.directory import Directory
from runtime.ledger.ledgers import Ledgers
from runtime.logs import log

STUCK_S = 15.0
"""A try has its answer, or its time-out, long before: it may take a fifth of it, or else longer."""


class Storing(Protocol):
    """The parts of a daemon that are looked at."""

    @property
    def directory(self) -> Directory:
        """Who decides."""
        ...

    @property
    def ledgers(self) -> Ledgers:
        """Where that is stored."""
        ...


class Liveness:
    """What one look has seen, for the next one."""

    def __init__(self, parts: Storing, *, now_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with what is going on now."""
        self._directory = parts.directory
        self._ledgers = parts.ledgers
        self._now_s = now_s
        self._seen: dict[int, tuple[int, float]] = {}
        """By partition: how often its writer had tried, and since when that is so."""

    def is_live(self) -> bool:
        """Whether every partition tries to store what it has; each that does not is logged."""
        now_s, before, self._seen = self._now_s(), self._seen, {}
        stuck, stuck_s = False, max(STUCK_S, 5 * self._ledgers.limits.answer_timeout_s)
        for number, partition in self._directory.partitions.items():
            ledger = self._ledgers.partitions.get(number)
            if ledger is None or not partition.entries:
                continue
            tries = ledger.writer.tries
            seen = before.get(number)
            since_s = seen[1] if seen is not None and seen[0] == tries else now_s
            self._seen[number] = (tries, since_s)
            if now_s - since_s >= stuck_s:
                stuck = True
                log.critical("partition_stuck", partition=number, for_s=round(now_s - since_s, 1))
        return not stuck
