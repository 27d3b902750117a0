"""What the ledgers tell, read from the first message to the last: the truth that all is held against."""

from typing import NamedTuple
from uuid import UUID

import msgspec

from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.events import Event
from domain.record import decode_record
from domain.remembered import Answers, Remembered
from runtime.ledger.groups import Entry, Kind, decode_group
from tests.simulation.kept import Kept

REMEMBERED_MAX = 16


class Stored(NamedTuple):
    """One entry of one connection."""

    at_s: float
    seq: int
    partition: int
    daemon: str
    record: bytes | None
    connection: ProviderConnection | None
    """None where nothing changed."""
    events: tuple[Event, ...]
    generation_before: int


class Executed(NamedTuple):
    """A command with a message id, as its connection remembers it."""

    answer: Remembered
    place: int
    """In the order of its connection's commands."""
    stored: Stored


class Story:
    """One connection's, in the order of its ledger."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self.entries: list[Stored] = []
        self.executed: dict[bytes, Executed] = {}
        """By the digest of the message id."""
        self.tokens: dict[int, str] = {}
        """The access token of each generation that a record shows."""
        self.refresh_tokens: list[tuple[float, str]] = []
        """Each with when it was stored first."""

    @property
    def last(self) -> Stored | None:
        """The last entry with a record."""
        return next((one for one in reversed(self.entries) if one.record is not None), None)

    def generation_at(self, at_s: float) -> int:
        """Return the generation that was stored at a time."""
        found = [one.connection for one in self.entries if one.at_s <= at_s]
        return max((one.generation for one in found if one is not None), default=0)

    def as_of(self, at_s: float) -> ProviderConnection | None:
        """Return the connection as it was stored at a time."""
        found = [one.connection for one in self.entries if one.at_s <= at_s]
        return next((one for one in reversed(found) if one is not None), None)


class Told:
    """All ledgers."""

    def __init__(self, kept: Kept) -> None:
        """Read all of them."""
        self.broken: list[str] = []
        self.stories: dict[UUID, Story] = {}
        self.events: list[list[tuple[float, Event, str]]] = []
        """By partition, each with when it was stored and the daemon that decided it."""
        self.claims: list[list[tuple[float, int, str]]] = []
        """By partition: when, at which sequence, by whom."""
        for partition in kept.partitions:
            self.events.append([])
            self.claims.append([])
            claim = b""
            for seq, appended in enumerate(partition.ledger.appended, 1):
                group = decode_group(appended.data)
                if group.kind is Kind.CLAIM:
                    claim = group.claim
                    self.claims[-1].append((appended.at_s, seq, group.daemon))
                elif group.claim != claim:
                    self.broken.append(f"{group.daemon} writes at {seq} what it does not own")
                for entry in group.entries:
                    self.events[-1].extend(
                        (appended.at_s, event, group.daemon) for event in entry.events
                    )
                    self._take(
                        entry.connection_id,
                        Stored(
                            appended.at_s,
                            seq,
                            partition.partition,
                            group.daemon,
                            entry.record,
                            None,
                            entry.events,
                            0,
                        ),
                    )

    def _take(self, connection_id: UUID, stored: Stored) -> None:
        story = self.stories.setdefault(connection_id, Story())
        before = story.last
        record = None if stored.record is None else decode_record(stored.record)
        connection = None if record is None else record.connection
        known = None if before is None else before.connection
        generation = 0 if known is None else known.generation
        stored = stored._replace(connection=connection, generation_before=generation)
        story.entries.append(stored)
        if record is not None and connection is not None:
            answers = () if before is None else _answers(before)
            self._remember(story, stored, answers, record.answers)
            access, refresh = tokens_of(connection)
            story.tokens[connection.generation] = access
            if refresh and all(refresh != known for _, known in story.refresh_tokens):
                story.refresh_tokens.append((stored.at_s, refresh))

    def _remember(self, story: Story, stored: Stored, before: Answers, after: Answers) -> None:
        """Take in which commands an entry executed: those that it remembers behind the others."""
        for count in range(len(after) + 1):
            new = after[len(after) - count :]
            if (*before, *new)[-REMEMBERED_MAX:] == after:
                break
        else:
            self.broken.append(f"answers are forgotten at {stored.partition}/{stored.seq}")
            new = ()
        for answer in new:
            known = story.executed.get(answer.message_id)
            place = len(story.executed)
            if known is not None and place - known.place < REMEMBERED_MAX:
                where = f"{stored.partition}/{stored.seq} and {known.stored.seq}"
                self.broken.append(f"one command is executed twice, at {where}")
            story.executed[answer.message_id] = Executed(answer, place, stored)


def _answers(stored: Stored) -> Answers:
    assert stored.record is not None
    return decode_record(stored.record).answers


def tokens_of(connection: ProviderConnection) -> tuple[str, str]:
    """Return a connection's access and refresh token, empty where there is none."""
    credentials = connection.credentials
    if credentials is None or not isinstance(credentials.payload, Sealed):
        return "", ""
    secret = msgspec.json.decode(credentials.payload.ciphertext)
    return secret.get("access_token", ""), secret.get("refresh_token", "")


def summary(data: bytes) -> str:
    """Return in a line what a group says."""
    group = decode_group(data)
    if group.kind is not Kind.ENTRIES:
        return group.kind.value.upper()
    return "; ".join(_summed_up(one) for one in group.entries)


def _summed_up(entry: Entry) -> str:
    told = " ".join(f"{event.workflow}.{event.outcome}" for event in entry.events)
    name = entry.connection_id.int & 0xFF
    if entry.record is None:
        return f"{name}: {told or 'nothing'}"
    connection = decode_record(entry.record).connection
    state = f"{connection.status} {connection.generation} {tokens_of(connection)[1]}"
    intent = " intent" if connection.intent is not None else ""
    doubt = " in doubt" if connection.doubted_at is not None else ""
    return f"{name}: {state}{intent}{doubt}, {told}"
