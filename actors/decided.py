"""What a decision leaves in its entry: the record after it, and when that is looked at next."""

from datetime import datetime

from actors.entry import Entry
from actors.ports import Stored
from actors.world import World
from domain.connection import ProviderConnection
from domain.looks import Look, is_moved, next_look, urgent_at
from domain.remembered import Answers


def changed(
    entry: Entry,
    before: Stored,
    connection: ProviderConnection | None,
    answers: Answers,
    world: World,
    *,
    no_sooner: datetime | None = None,
) -> Stored:
    """Put a connection into its entry, and return what is known of it then.

    Args:
        entry: Of the open group.
        before: The newest state so far.
        connection: After the decision.
        answers: What is remembered with it.
        world: The ports.
        no_sooner: Do not look at it before this.
    """
    if entry.connection is None:
        entry.before = before.connection
    entry.connection, entry.answers = connection, answers
    if connection is None:
        return Stored(None, answers)
    profile, known = world.providers.profile(connection.provider_slug), before.next_due
    at = next_look(connection, profile, known, now=world.clock.now(), no_sooner=no_sooner)
    if at is None:
        entry.look = None
    elif is_moved(known, at):
        entry.look, entry.is_look_new = Look(at, urgent_at(connection, profile, at)), True
    else:
        entry.look = Look(at, at)
    return Stored(connection, answers, at)
