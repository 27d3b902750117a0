"""What becomes of an outcome that comes when its partition has changed hands.

=====================================  ========================================================
its attempt is open                    it ends that, at once
the credentials that were presented    it is stored all the same: they may be spent, and what
are the present ones, and no attempt   it gave is all that works
is open
they are, and another one was left     it is stored behind that one's end, if that brings none,
open                                   before anything is presented again
they are, and another one is under     nothing now: it comes again
way here
newer ones are                         it is done with
its connection was never stored        a failure is done with: nothing was presented for it
=====================================  ========================================================
"""

from collections.abc import Callable
from typing import Protocol

import anyio

from actors.entry import Entry
from actors.envelope import Envelope
from actors.partition import Partition
from actors.ports import Outcome
from actors.world import World
from domain.commands import Get
from domain.connection import ProviderConnection
from domain.decision import Reply
from domain.refreshing import Step, came_late
from domain.result import FailureCode, Success

_LOOK_S = 2.0
"""How long the connection may take to be read."""
_STORED_S = 5.0
"""How long it may take to be stored; then it comes again."""


class Receiver(Protocol):
    """The actor of the connection."""

    partition: Partition

    @property
    def connection(self) -> ProviderConnection | None:
        """The newest state."""
        ...

    def commit(self, step: Step) -> Entry:
        """Decide a step."""
        ...

    def answer_behind(self, envelope: Envelope, reply: Reply) -> None:
        """Answer when what is decided is stored."""
        ...

    def take_in(self, outcome: Outcome, stored: Callable[[], None]) -> None:
        """End the open intent with it, or have it ready for when that ends without one."""
        ...


def receive(
    outcome: Outcome,
    stored: Callable[[], None],
    submit: Callable[[Envelope], None],
    actor_of: Callable[[int], Receiver | None],
    world: World,
) -> None:
    """Store what another daemon's flight brought, where that is of use still.

    Args:
        outcome: Of an attempt that was begun before this daemon took the partition.
        stored: Called once nothing is lost without ``outcome``; maybe never: hand it in again.
        submit: Takes a command to its actor.
        actor_of: The one that is resident, by the number of its connection's id.
        world: The ports.
    """
    connection_id = outcome.connection.id

    def known(reply: Reply) -> None:
        actor = actor_of(connection_id.int)
        if isinstance(reply, Success):
            if actor is not None:
                take_brought(actor, outcome, stored, world)
        elif (
            reply.code is FailureCode.CONNECTION_NOT_FOUND
            and outcome.connection.generation == outcome.generation
        ):
            stored()

    look = Get(connection_id=connection_id)
    submit(Envelope(look, due_s=anyio.current_time() + _LOOK_S, reply=known))


def take_brought(
    actor: Receiver, outcome: Outcome, stored: Callable[[], None], world: World
) -> None:
    """Do with an outcome what the table says; call ``stored`` when nothing is lost without it."""
    connection = actor.connection
    if connection is not None and connection.generation < outcome.generation:
        return
    if not outcome.is_awaited_by(connection) and not outcome.is_of_use_to(connection):
        stored()
    elif connection is None or connection.intent is not None:
        actor.take_in(outcome, stored)
    elif not actor.partition.refusal():
        now = world.clock.now()
        actor.commit(
            came_late(connection, outcome.connection, outcome.events, now=now, ids=world.ids)
        )

        def known(reply: Reply) -> None:
            if isinstance(reply, Success):
                stored()

        look = Get(connection_id=connection.id)
        due_s = anyio.current_time() + _STORED_S
        actor.answer_behind(Envelope(look, due_s=due_s, reply=known), Success(None))
