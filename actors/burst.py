"""Commands that are decided one after another and stored by one write."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from actors.debts import UnsettledWrite
from actors.mailbox import Envelope
from actors.ports import Stored, Write
from actors.world import World
from domain.commands import Command, Connect, GetToken, Refresh
from domain.connection import ProviderConnection
from domain.credentials import Unsealed
from domain.decision import Decision, decide, store_failed
from domain.events import Event

ANOTHER_WRITER = "another writer kept changing the connection"


class _Step(NamedTuple):
    """One command of a burst and what was decided on it."""

    envelope: Envelope
    command: Command
    decision: Decision


class Burst:
    """What a batch of commands makes of one connection; every command is answered by it."""

    def __init__(
        self, batch: Sequence[Envelope], before: Stored, connection_id: UUID, world: World
    ) -> None:
        """Decide one command after another, each on what the one before it left."""
        self._before = before
        self._connection_id = connection_id
        self._world = world
        now = world.clock.now()
        connection = before.connection
        self._steps: list[_Step] = []
        for envelope in batch:
            command = self._sealed(command_of(envelope), connection)
            decision = decide(connection, command, now=now, ids=world.ids)
            connection = decision.connection
            self._steps.append(_Step(envelope, command, decision))
        self.is_answered = False
        self.write: Write | None = None
        """The one write that stores everything; None where nothing changed."""
        if connection is not None and connection is not before.connection:
            self.write = Write(connection, before.revision, next(world.ids).bytes)

    @property
    def events(self) -> list[Event]:
        """What was decided to be published, in order."""
        return [event for step in self._steps for event in step.decision.events]

    def answer(self) -> None:
        """Answer each command with what was decided."""
        self.is_answered = True
        for step in self._steps:
            step.envelope.reply(step.decision.reply)

    def answer_unwritten(self, cause: str) -> list[Event]:
        """Answer a burst whose write was certainly not applied; return its events.

        What was decided before the first change still holds; the change and all that was
        decided on top of it did not happen.
        """
        self.is_answered = True
        before = self._before.connection
        events: list[Event] = []
        held = 0
        while self._steps[held].decision.connection is before:
            events.extend(self._steps[held].decision.events)
            self._steps[held].envelope.reply(self._steps[held].decision.reply)
            held += 1
        undone = [step.envelope for step in self._steps[held:]]
        return events + answer_failed(undone, before, cause, self._world)

    def answer_in_doubt(self, cause: str) -> UnsettledWrite:
        """Answer a burst whose write may have been applied; return what is owed for it."""
        assert self.write is not None
        self.is_answered = True
        before, world = self._before.connection, self._world
        commands = [step.command for step in self._steps]

        def events_if_lost() -> list[Event]:
            failures = [_failed(command, before, ANOTHER_WRITER, world) for command in commands]
            return [event for decision in failures for event in decision.events]

        for step in self._steps:
            step.envelope.reply(_failed(step.command, before, cause, world).reply)
        return UnsettledWrite(self.write, self.events, events_if_lost)

    def answer_at_the_end(self) -> None:
        """Answer a burst that the daemon's end cut off: a write that was sent may be applied."""
        if self.write is None:
            self.answer()
        else:
            self.answer_in_doubt("the daemon stopped")

    def _sealed(self, command: Command, connection: ProviderConnection | None) -> Command:
        """Return ``command`` with its plaintext sealed for the generation it would become.

        The client that the grant belongs to is noted with it, as far as a profile tells.
        """
        if not isinstance(command, Connect | Refresh):
            return command
        credentials = command.credentials
        if not isinstance(credentials, Unsealed):
            return command
        generation = 1 if connection is None else connection.generation + 1
        payload = self._world.sealer.seal(
            credentials.secret, connection_id=self._connection_id, generation=generation
        )
        slug = command.provider_slug if isinstance(command, Connect) else None
        slug = connection.provider_slug if connection is not None else slug
        profile = None if slug is None else self._world.providers.profile(slug)
        sealed = msgspec.structs.replace(
            credentials.sealed_as(payload), client_id=None if profile is None else profile.client_id
        )
        return msgspec.structs.replace(command, credentials=sealed)


def answer_failed(
    envelopes: Sequence[Envelope],
    connection: ProviderConnection | None,
    cause: str,
    world: World,
) -> list[Event]:
    """Answer ``DATABASE_ERROR`` to each command, and return the events that tell of it."""
    events: list[Event] = []
    for envelope in envelopes:
        decision = _failed(command_of(envelope), connection, cause, world)
        events.extend(decision.events)
        envelope.reply(decision.reply)
    return events


def command_of(envelope: Envelope) -> Command:
    """Return the command; ``token`` never stands in line with commands."""
    assert not isinstance(envelope.command, GetToken)
    return envelope.command


def _failed(
    command: Command, connection: ProviderConnection | None, cause: str, world: World
) -> Decision:
    """Return the store-failure decision for ``command``."""
    return store_failed(connection, command, cause=cause, now=world.clock.now(), ids=world.ids)
