"""What the due index holds of the minutes that come up."""

from typing import NamedTuple, Protocol
from uuid import UUID

from actors.waker import Told
from runtime.ledger.due_entries import DueEntry


class Wake(Protocol):
    """Has a connection looked at; see ``actors.waker.Waker.wake``."""

    def __call__(self, connection_id: UUID, *, slug: str, urgent_s: float, told: Told) -> None:
        """Call ``told`` once, when that is over."""
        ...


class Minute:
    """What is held of a minute."""

    __slots__ = ("page_seq", "passed", "passed_seq", "seen_seq", "waiting")

    def __init__(self, waiting: dict[UUID, float] | None = None) -> None:
        """Know nothing but who is waiting, if anybody is."""
        self.waiting = {} if waiting is None else waiting
        """Who is not looked at yet, and when that is due."""
        self.seen_seq = 0
        """The last entry that was read."""
        self.page_seq = 1
        """Where to go on reading what one answer does not hold."""
        self.passed: set[str] = set()
        """The providers of whom entries were passed over."""
        self.passed_seq = 0
        """The first of these entries."""


class Timed(NamedTuple):
    """An entry that is held."""

    wake_s: float
    number: int
    minute: int
    entry: DueEntry
    failures: int = 0
