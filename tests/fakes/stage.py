"""A directory of actors among fakes, and a note of everything that was sent and answered."""

import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from uuid import UUID

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from actors.directory import TICK_S, Directory
from actors.envelope import Envelope, due_s
from actors.ports import Clock, Sealer
from actors.world import Limits, Providers, World
from domain.commands import Command, GetToken, Refresh
from domain.connection import ProviderConnection
from domain.decision import Reply
from domain.events import (
    Event,
    ProviderConnectionFailed,
    ProviderDisconnectionFailed,
    ProviderTokenRefreshFailed,
)
from domain.result import Failure, FailureCode, Success
from tests.fakes.providers import no_providers
from tests.fakes.world import (
    CountingIds,
    CountingJournal,
    MemoryLedger,
    MemorySpill,
    PlainSealer,
    TickingClock,
)

_FAILURES = (
    ProviderConnectionFailed,
    ProviderDisconnectionFailed,
    ProviderTokenRefreshFailed,
)


_TOKEN_PATIENCE_S = 600.0


class Sent:
    """One command that was submitted, and every answer that came to it."""

    def __init__(self, command: Command | GetToken) -> None:
        """Note the command; nothing is answered yet."""
        self.command = command
        self.replies: list[Reply] = []
        self.answered = anyio.Event()

    @property
    def reply(self) -> Reply:
        """The one answer."""
        assert len(self.replies) == 1, f"{len(self.replies)} answers to {self.command}"
        return self.replies[0]

    @property
    def code(self) -> FailureCode | None:
        """The answer's failure code; None for a success."""
        return self.reply.code if isinstance(self.reply, Failure) else None


class Stage:
    """The actors under test, their fakes, and the callers' notes."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        ledger: MemoryLedger | None = None,
        sealer: Sealer | None = None,
        clock: Clock | None = None,
        providers: Providers | None = None,
        ids: CountingIds | None = None,
    ) -> None:
        """Set up a directory that is not running yet."""
        self.limits = limits or Limits()
        self.ledger = ledger or MemoryLedger()
        self.clock = clock or TickingClock()
        self.journal = CountingJournal()
        self.providers = providers or no_providers()
        self.spill = MemorySpill()
        world = World(
            sealer or PlainSealer(),
            self.clock,
            ids or CountingIds(),
            self.journal,
            self.providers,
            self.spill,
        )
        self.directory = Directory(
            world=world, limits=self.limits, ledgers=[self.ledger], partition_of=lambda _: 0
        )
        self.sent: list[Sent] = []
        self.complaints: list[str] = []
        """Broken promises that only show at the moment they are broken."""
        self._acknowledged: Counter[UUID] = Counter()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncGenerator[TaskGroup]:
        """Run the directory beside the body, and cancel it after."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.directory.run)
            yield tasks
            tasks.cancel_scope.cancel()

    def send(
        self,
        command: Command | GetToken,
        *,
        patience_s: float = math.inf,
        message_id: bytes | None = None,
        can_wait: bool = True,
    ) -> Sent:
        """Submit a command without waiting for anything.

        Nobody waits for a token for ever: where no time is named it is a long one.
        """
        if isinstance(command, GetToken) and patience_s == math.inf:
            patience_s = _TOKEN_PATIENCE_S
        sent = Sent(command)
        self.sent.append(sent)
        self.directory.submit(
            Envelope(
                command,
                due_s=due_s(anyio.current_time(), patience_s, self.limits.answer_margin_s),
                reply=lambda reply: self._answer(sent, reply),
                message_id=message_id,
                can_wait=can_wait,
            )
        )
        return sent

    async def ask(
        self,
        command: Command | GetToken,
        *,
        patience_s: float = math.inf,
        message_id: bytes | None = None,
    ) -> Reply:
        """Submit a command and return its answer."""
        sent = self.send(command, patience_s=patience_s, message_id=message_id)
        await sent.answered.wait()
        return sent.reply

    async def settled(self) -> None:
        """Return when no actor has anything left to do."""
        while self.directory.busy_actors:
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(TICK_S / 5)

    def stored(self, connection_id: UUID) -> ProviderConnection:
        """Return the connection that is stored."""
        connection = self.ledger.records[connection_id].connection
        assert connection is not None
        return connection

    def events_of(self, connection_id: UUID) -> list[Event]:
        """Return the events of one connection, in the order of the ledger."""
        return [event for event in self.ledger.events if event.connection_id == connection_id]

    def story_of(self, connection_id: UUID) -> list[str]:
        """Return the events of one connection as ``workflow.outcome``."""
        return [f"{event.workflow}.{event.outcome}" for event in self.events_of(connection_id)]

    def _answer(self, sent: Sent, reply: Reply) -> None:
        sent.replies.append(reply)
        sent.answered.set()
        self._look_around()
        if isinstance(sent.command, Refresh) and isinstance(reply, Success):
            connection_id = sent.command.connection_id
            self._acknowledged[connection_id] += 1
            # Connecting took at least one generation besides.
            if self._acknowledged[connection_id] >= self.stored(connection_id).generation:
                self.complaints.append("a refresh was acknowledged before it was stored")

    def _look_around(self) -> None:
        """Note a mailbox that holds more than it may, or more actors than may be resident."""
        for actor in self.directory._actors.values():
            if actor.queued_commands > self.limits.mailbox_commands_max:
                self.complaints.append("a mailbox is over its bound")
        if self.directory.resident_actors > self.limits.resident_actors_max:
            self.complaints.append("too many actors are resident")


def reasons(events: Iterable[Event]) -> list[str]:
    """Return what the failures among events say."""
    return [event.reason for event in events if isinstance(event, _FAILURES)]
