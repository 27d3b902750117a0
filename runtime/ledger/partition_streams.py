"""What a partition's ledger needs of the streams: its own log, and a place for each view.

``JetStreamPartition`` is the real thing; ``tests.fakes.memory_streams`` behaves like it. Every
method may raise ``LinkError`` (its subclasses tell whether something may have happened) and
``JetStreamError`` (nothing happened).
"""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from runtime.ledger.due_entries import KeptDue


class View(StrEnum):
    """What follows the ledger."""

    RECORDS = "records"
    EVENTS = "events"


class Outgoing(NamedTuple):
    """One message of a view."""

    subject: str
    body: bytes
    header_lines: str = ""
    """Each ended by CRLF."""


class Found(NamedTuple):
    """A message as it is stored."""

    seq: int
    data: bytes


class Kept(NamedTuple):
    """A message of the bucket."""

    seq: int
    key: str
    data: bytes


class Read(NamedTuple):
    """What one multi-get answered, from one replica at one moment."""

    marker_seq: int
    """0: no marker."""
    record: bytes | None
    record_seq: int = 0


class DueRead(NamedTuple):
    """Entries of the due index, from one replica at one moment."""

    marker_seq: int
    """0: no marker."""
    kept: list[KeptDue]


class PartitionStreams(Protocol):
    """One partition's place in the streams."""

    async def append(self, data: bytes, *, expected_seq: int) -> int:
        """Append to the ledger if its last sequence is the expected one; return the new one."""
        ...

    async def group_at(self, seq: int) -> bytes | None:
        """Return the ledger's message at ``seq`` from the leader; None: there is none."""
        ...

    async def bounds(self) -> tuple[int, int]:
        """Return the ledger's first and last sequence; the first is one more where it is empty."""
        ...

    def tail(self, start_seq: int) -> AsyncIterator[Found]:
        """Yield what the ledger holds from ``start_seq`` on."""
        ...

    async def trim(self, through_seq: int) -> None:
        """Remove the ledger's messages up to and with ``through_seq``."""
        ...

    async def marker(self, view: View) -> Found | None:
        """Return a view's marker from the leader."""
        ...

    async def write(
        self, view: View, messages: Sequence[Outgoing], marker: bytes, *, expected_seq: int
    ) -> int:
        """Write all messages and the marker behind them, or nothing.

        Returns:
            The marker's sequence.

        Raises:
            JetStreamError: 10071 where the marker's last sequence is not the expected one.
        """
        ...

    async def read(self, connection_id: UUID, *, timeout_s: float) -> Read:
        """Return a record and the marker, as one replica holds them at one moment."""
        ...

    async def scan(self, start_seq: int, *, messages_max: int, timeout_s: float) -> Sequence[Kept]:
        """Return what the bucket holds from ``start_seq`` on, at one moment of one replica.

        In the order of the last writes, at most so many, at least one if there is any.
        """
        ...

    async def due(self, minutes: Sequence[int], *, timeout_s: float) -> DueRead | None:
        """Return the bucket's entries of some minutes; None: too many for one answer."""
        ...

    async def due_from(
        self, minute: int, start_seq: int, *, entries_max: int, timeout_s: float
    ) -> Sequence[KeptDue]:
        """Return entries of a minute from ``start_seq`` on, at one moment of one replica.

        In the order of the last writes, at most so many, at least one if there is any.
        """
        ...

    async def count_due(self, minute: int, *, timeout_s: float) -> int:
        """Return how many entries a minute has, as one replica holds them."""
        ...

    async def purge_due(self, minute: int, through_seq: int) -> None:
        """Remove the entries of a minute up to and with ``through_seq``, and no later ones."""
        ...
