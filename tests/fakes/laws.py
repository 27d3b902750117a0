"""What must hold after any run, whatever failed: each law asserts, and says what it is about."""

from uuid import UUID

from domain.commands import Refresh
from domain.events import (
    Event,
    Outcome,
    ProviderConnectionStatusChanged,
    ProviderConnectionSucceeded,
    ProviderTokenRefreshSucceeded,
    Workflow,
)
from domain.result import Success
from tests.fakes.stage import Stage


def everybody_was_answered_once(stage: Stage) -> None:
    """Each command has exactly one answer, from its actor or from ``submit``."""
    assert [len(sent.replies) for sent in stage.sent] == [1] * len(stage.sent)
    assert stage.complaints == []


def stories_are_whole(events: list[Event]) -> None:
    """Of one connection: each Attempted is followed by the one end of its workflow."""
    begun: Workflow | None = None
    for event in events:
        match event.outcome:
            case Outcome.ATTEMPTED:
                assert begun is None
                begun = event.workflow
            case Outcome.SUCCEEDED | Outcome.FAILED:
                assert begun is event.workflow
                begun = None
            case Outcome.CHANGED:
                assert begun is None
    assert begun is None
    assert len({event.id for event in events}) == len(events)


def events_tell_the_history(stage: Stage, connection_id: UUID) -> None:
    """Of one connection: the events tell of what is stored, all of it, and nothing else.

    A generation and the event that tells of it are in one entry, and so are stored together.
    """
    generation = 0
    for change in stage.ledger.changes_of(connection_id):
        told = sum(
            isinstance(event, ProviderConnectionSucceeded | ProviderTokenRefreshSucceeded)
            for event in change.events
        )
        changed = [
            event for event in change.events if isinstance(event, ProviderConnectionStatusChanged)
        ]
        after = generation if change.connection is None else change.connection.generation
        assert after - generation == told
        if changed:
            assert change.connection is not None
            assert change.connection.updated_at >= changed[-1].occurred_at
        generation = after
    ids = [event.id for event in stage.events_of(connection_id)]
    assert len(set(ids)) == len(ids)


def acknowledged_is_stored(stage: Stage, connection_id: UUID) -> None:
    """Of one connection: no more refreshes were acknowledged than are told in the ledger."""
    acknowledged = sum(
        isinstance(sent.command, Refresh) and isinstance(sent.replies[0], Success)
        for sent in stage.sent
        if sent.command.connection_id == connection_id and sent.replies
    )
    told = sum(
        isinstance(event, ProviderTokenRefreshSucceeded) for event in stage.events_of(connection_id)
    )
    assert acknowledged <= told
