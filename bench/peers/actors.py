"""(d) One pykka actor for each connection, which writes through to PostgreSQL.

pykka is the actor library that Python people know and that is kept up: it came with Mopidy in
2010, and its last release is of this year. An actor is a thread with an inbox. Others do not fit:
Ray starts a process for each actor, 500 of them here; Thespian sends through processes too;
xoscar brings pandas and scipy; Dramatiq's actors are functions without a state.

Fair: an actor reads its row once and keeps what a refresh looks at, so that a refresh is one round
trip and one commit, written only if the generation is the one that the actor knows. Pool and
statement are those of the other peers: the event loop makes the round trip while the actor waits.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import pykka

from bench.peers.handling import Found, refused, tell_failed, to_write
from bench.peers.store import READ, STORE_IF_SAME, STORED, Pool, StaleError
from domain.commands import Refresh
from domain.decision import Reply
from domain.result import Success
from runtime.ledger.sealing import Keyring

_T = TypeVar("_T")


class _Asked(NamedTuple):
    """A message: what is asked, and where the reply goes."""

    command: Refresh
    replied: "asyncio.Future[Reply]"


class _World(NamedTuple):
    """What all actors share."""

    pool: Pool
    keyring: Keyring
    loop: asyncio.AbstractEventLoop

    def wait_for(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the event loop do it, and block the actor's thread until it is done."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


class ConnectionActor(pykka.ThreadingActor):
    """Owns one connection: its thread takes one message at a time."""

    use_daemon_thread = True

    def __init__(self, connection_id: UUID, world: _World) -> None:
        """Know nothing of the row yet."""
        super().__init__()
        self._id = connection_id
        self._world = world
        self._found: Found | None = None

    def on_receive(self, message: Any) -> None:  # noqa: ANN401 -- pykka's signature
        """Carry out one refresh, and have the event loop hand over the reply."""
        assert isinstance(message, _Asked)
        try:
            reply = self._refresh(message.command)
        except Exception as error:  # noqa: BLE001 -- it is the caller's; the actor lives on
            self._found = None
            self._world.loop.call_soon_threadsafe(message.replied.set_exception, error)
        else:
            self._world.loop.call_soon_threadsafe(message.replied.set_result, reply)

    def _refresh(self, command: Refresh) -> Reply:
        if self._found is None:
            row = self._world.wait_for(self._world.pool.fetchrow(READ, self._id))
            self._found = None if row is None else Found(*row)
        found = self._found
        failure = refused(found, command)
        if failure is not None:
            self._world.wait_for(tell_failed(self._world.pool, found, command, failure))
            return failure
        assert found is not None
        generation = found.generation + 1
        values = to_write(command, self._world.keyring, sealed_for=generation)
        if self._world.wait_for(self._world.pool.execute(STORE_IF_SAME, *values)) != STORED:
            raise StaleError(command.connection_id)
        self._found = found._replace(generation=generation)
        return Success(None)


class Actors:
    """Implements ``Peer``: a connection's actor keeps its refreshes apart."""

    def __init__(self, pool: Pool, keyring: Keyring) -> None:
        """Have no actor yet. Belongs to the running event loop."""
        self._world = _World(pool, keyring, asyncio.get_running_loop())
        self._actors: dict[UUID, pykka.ActorRef[ConnectionActor]] = {}

    async def refresh(self, command: Refresh) -> Reply:
        """Have the connection's actor carry out one refresh."""
        actor = self._actors.get(command.connection_id)
        if actor is None:
            actor = ConnectionActor.start(command.connection_id, self._world)
            self._actors[command.connection_id] = actor
        replied: asyncio.Future[Reply] = self._world.loop.create_future()
        actor.tell(_Asked(command, replied))
        return await replied

    def close(self) -> None:
        """End the actors; those that wait for the event loop end with the process."""
        for actor in self._actors.values():
            actor.stop(block=False)
