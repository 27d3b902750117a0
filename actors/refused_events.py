"""What is told of commands that were refused before anything was decided."""

from collections.abc import Iterable, Iterator, Sequence

from actors.envelope import Envelope
from actors.world import World
from domain.commands import Get, GetToken
from domain.connection import ProviderConnection
from domain.decision import store_failed
from domain.events import Event, traced


def refused_events(
    connection: ProviderConnection | None, envelopes: Iterable[Envelope], cause: str, world: World
) -> Iterator[Sequence[Event]]:
    """Yield the Attempted and Failed of each command, as of a store that failed for ``cause``.

    Reads have none.
    """
    for envelope in envelopes:
        command = envelope.command
        if not isinstance(command, Get | GetToken):
            now = world.clock.now()
            decision = store_failed(connection, command, cause=cause, now=now, ids=world.ids)
            if decision.events:
                yield traced(decision.events, envelope.trace)
