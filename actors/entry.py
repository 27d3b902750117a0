"""What one connection adds to the ledger, and who is answered when it is stored."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from actors.envelope import Envelope
from domain.commands import GetToken
from domain.connection import ProviderConnection
from domain.decision import Reply
from domain.events import Event
from domain.looks import Look
from domain.remembered import Answers
from domain.result import Failure

EVENTS_MAX = 128
"""How many events an entry takes before the next one is begun."""


class Maker(Protocol):
    """Whoever made an entry."""

    def broke(self, asked: Sequence[Envelope], error: Exception) -> None:
        """What was decided for ``asked`` cannot be written: a bug. Must not raise."""
        ...

    def settled(self, entry: "Entry") -> None:
        """The entry is stored, or it never will be. Must not raise."""
        ...


class Entry:
    """All that was decided on one connection while a group gathered: one record, its events."""

    __slots__ = (
        "answers",
        "before",
        "commands",
        "connection",
        "connection_id",
        "events",
        "is_look_new",
        "is_lost",
        "is_open",
        "is_stored",
        "look",
        "maker",
        "replies",
    )

    def __init__(self, connection_id: UUID, maker: Maker) -> None:
        """Begin with nothing decided."""
        self.connection_id = connection_id
        self.connection: ProviderConnection | None = None
        """As it is after the entry; None where nothing changed."""
        self.before: ProviderConnection | None = None
        """As it was before the entry changed it; None where nothing was stored."""
        self.answers: Answers = ()
        """What is remembered with it."""
        self.look: Look | None = None
        """When it is to be looked at next."""
        self.is_look_new = False
        """Whether the due index may lack that."""
        self.events: list[Event] = []
        self.replies: list[tuple[Envelope, Reply]] = []
        """Who waits for it, and what they are told when it is stored."""
        self.commands = 0
        """How many of them did not come for a token."""
        self.is_open = True
        """Whether more can be added."""
        self.is_stored = False
        self.is_lost = False
        """Whether it will never be stored."""
        self.maker = maker

    def owe(self, envelope: Envelope, reply: Reply) -> None:
        """Answer ``envelope`` when the entry is stored."""
        self.replies.append((envelope, reply))
        self.commands += not isinstance(envelope.command, GetToken)

    def stored(self) -> None:
        """Answer everyone: what they are told is stored."""
        self.is_stored = True
        for envelope, reply in self.replies:
            envelope.answer(reply)
        self.maker.settled(self)

    def fail(self, failure: Failure, *, repeatable: Failure | None = None) -> None:
        """Answer everyone with ``failure``: nothing of it is stored as far as is known.

        Those that may be done again in any case are answered with ``repeatable``, if it is given.
        """
        self.is_open, self.is_lost = False, True
        replies, self.replies, self.commands = self.replies, [], 0
        for envelope, _ in replies:
            envelope.answer((envelope.is_repeatable and repeatable) or failure)
        self.maker.settled(self)

    def refuse(self, failure: Failure, *, due_s: float) -> None:
        """Answer with ``failure`` those whose time is up at ``due_s``, and forget them."""
        late = [envelope for envelope, _ in self.replies if envelope.due_s <= due_s]
        if late:
            self.replies = [one for one in self.replies if one[0].due_s > due_s]
            for envelope in late:
                envelope.answer(failure)
                self.commands -= not isinstance(envelope.command, GetToken)
