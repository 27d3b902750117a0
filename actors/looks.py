"""What an actor does when its connection is looked at although nobody has asked.

A look has an envelope like a command, so that whatever holds for commands holds for it: it waits
for the record and for a flight, it is answered once, and not before what came of it is stored.
It is told *success* when nothing is due any more and the record says when it is looked at next;
any failure means that it must come again.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import anyio
import msgspec

from actors.entry import Entry
from actors.envelope import Envelope
from actors.later import Later
from actors.ports import CannotUnsealError, Stored
from actors.wish import Wish
from actors.world import SHUTTING_DOWN, World
from domain.commands import Get
from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.decision import Reply
from domain.due import DueKind, next_due
from domain.grant_end import warned
from domain.looks import next_look, urgent_at
from domain.oauth_secret import OAuthSecret
from domain.refreshing import Step
from domain.result import Failure, Success
from domain.token_read import redated

if TYPE_CHECKING:
    from actors.flight import Flight
    from actors.partition import Partition

NOTHING_NEW_S = 60.0
"""How long a connection is left alone that is due all the same after what was done."""
NOTHING_TO_PRESENT_S = 86_400.0
"""How long one is left alone whose secret holds nothing that could be presented."""
_WARNINGS_MAX = 8
"""How many warnings one look tells; the next look tells the rest."""


class LookEnvelope(Envelope):
    """A look on its way."""

    __slots__ = ("acts", "flight", "later", "next_due")

    def __init__(
        self,
        connection_id: UUID,
        later: Later,
        *,
        reply: Callable[[Reply], None],
        acts: bool = True,
    ) -> None:
        """Look at a connection.

        Args:
            connection_id: Whose.
            later: When to come again if the provider must not be asked now.
            reply: Called exactly once, and must not raise.
            acts: Whether to do what is due, or only to have the record say when that is.
        """
        super().__init__(Get(connection_id=connection_id), due_s=math.inf, reply=reply)
        self.acts = acts
        self.later = later
        self.flight: Flight | None = None
        """What has taken off for it."""
        self.next_due: datetime | None = None
        """When the connection is looked at next; known with a success."""


class Looked(Protocol):
    """The actor that looks."""

    partition: "Partition"
    newest: Stored | None

    @property
    def connection(self) -> ProviderConnection | None:
        """The newest state."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        ...

    def commit(self, step: Step, *, no_sooner: datetime | None = None) -> Entry:
        """Decide a step."""
        ...

    def take_off(self, wish: Wish | None) -> "Flight":
        """Start a flight."""
        ...

    def wait_in_line(self, envelope: Envelope) -> None:
        """Queue what waits for a flight."""
        ...

    def answer_behind(self, envelope: Envelope, reply: Reply) -> None:
        """Answer when what is decided is stored."""
        ...


def look(actor: Looked, envelope: LookEnvelope, world: World) -> None:
    """Do what is due on a connection that is known and has no flight, and have it stored."""
    for _ in range(_WARNINGS_MAX):
        stored, now = actor.newest, world.clock.now()
        assert stored is not None
        connection = stored.connection
        if connection is None:
            break
        profile = world.providers.profile(connection.provider_slug)
        due = next_due(connection, profile, now=now)
        is_due = envelope.acts and due is not None and due.at <= now
        wanted = next_look(connection, profile, stored.next_due, now=now)
        if not is_due and wanted == stored.next_due:
            break
        if (refusal := actor.partition.refusal()) is not None:
            envelope.answer(refusal)
            return
        if due is None or not is_due:
            actor.commit(Step(_rewritten(connection), ()))
            break
        if due.kind is not DueKind.WARNING:
            _refresh(actor, envelope, world, connection)
            return
        step = warned(connection, profile, now=now, ids=world.ids)
        if step is None:
            _leave_alone(actor, world, connection, NOTHING_NEW_S)
            break
        actor.commit(step)
    _answer(actor, envelope)


def _answer(actor: Looked, envelope: LookEnvelope) -> None:
    """Tell when it is looked at next, once that is stored."""
    assert actor.newest is not None
    envelope.next_due = actor.newest.next_due
    actor.answer_behind(envelope, Success(None))


def redate(actor: Looked, world: World) -> None:
    """Note that a faster clock issued the present token, before this one catches up."""
    after = redated(actor.connection, world.clock.now())
    if after is not None and not actor.is_busy and actor.partition.refusal() is None:
        actor.commit(Step(after, ()))


def _refresh(
    actor: Looked, envelope: LookEnvelope, world: World, connection: ProviderConnection
) -> None:
    """Take off, once; what is due all the same after that flight comes later."""
    flight = envelope.flight
    if flight is None:
        secret = _secret_of(connection, world)
        if secret is not None:
            envelope.flight = actor.take_off(_wish_of(connection, secret, world))
            actor.wait_in_line(envelope)
            return
        pause_s = NOTHING_TO_PRESENT_S
    elif flight.failure is SHUTTING_DOWN:
        envelope.answer(SHUTTING_DOWN)
        return
    else:
        pause_s = _pause_s(flight.failure, envelope.later, connection, world)
    _leave_alone(actor, world, connection, pause_s)
    _answer(actor, envelope)


def _wish_of(connection: ProviderConnection, secret: OAuthSecret, world: World) -> Wish:
    """Return what a flight is for that nobody has asked for."""
    profile, now = world.providers.of(connection), world.clock.now()
    left_s = (urgent_at(connection, profile, now) - now).total_seconds()
    due_s = anyio.current_time() + left_s
    generation = connection.generation
    return Wish(secret, generation, was_rejected=False, is_proactive=True, due_s=due_s)


def _leave_alone(
    actor: Looked, world: World, connection: ProviderConnection, pause_s: float
) -> None:
    """Look again later: the client must not ask now, or nothing can be presented."""
    no_sooner = world.clock.now() + timedelta(seconds=pause_s)
    actor.commit(Step(_rewritten(connection), ()), no_sooner=no_sooner)


def _pause_s(
    failure: Failure | None, later: Later, connection: ProviderConnection, world: World
) -> float:
    """Return how long to leave alone what a flight has not refreshed."""
    if failure is None or failure.retry_after_s is None:
        return NOTHING_NEW_S * (1 + world.providers.draw())
    return later.pause_s(
        connection.provider_slug,
        anyio.current_time(),
        least_s=failure.retry_after_s,
        draw=world.providers.draw(),
    )


def _rewritten(connection: ProviderConnection) -> ProviderConnection:
    """Return the same connection as another object, so that its record is written."""
    return msgspec.structs.replace(connection)


def _secret_of(connection: ProviderConnection, world: World) -> OAuthSecret | None:
    """Return the secret that can be presented, or None."""
    credentials = connection.credentials
    profile = world.providers.of(connection)
    if credentials is None or not isinstance(credentials.payload, Sealed):
        return None
    try:
        secret = OAuthSecret(
            world.sealer.unseal(
                credentials.payload, connection_id=connection.id, generation=connection.generation
            )
        )
    except CannotUnsealError:
        world.journal.cannot_unseal(connection.id)
        return None
    return None if secret.text(profile.presents) is None else secret
