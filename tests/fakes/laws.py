"""What must hold after any run, whatever failed: each law asserts, and says what it is about."""

from collections import Counter
from uuid import UUID

from domain.events import (
    Event,
    Outcome,
    ProviderConnectionStatusChanged,
    ProviderConnectionSucceeded,
    ProviderTokenRefreshSucceeded,
    Workflow,
)
from tests.fakes.stage import Stage
from tests.fakes.trouble import TroubledConnectionStore


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


def events_tell_the_history(
    stage: Stage, store: TroubledConnectionStore, connection_id: UUID
) -> None:
    """Of one connection: the events tell of what is stored, all of it, and nothing else.

    Every decision is taken at a time of its own, which is in the events and in the record.
    """
    history = [write for write in store.history if write.connection.id == connection_id]
    ours = [write for write in history if write.op_id not in store.foreign]
    generations = [0, *(write.connection.generation for write in history)]
    stored_at = Counter[object]()
    for before, write in zip(generations, history, strict=False):
        if write.op_id not in store.foreign:
            stored_at[write.connection.updated_at] += write.connection.generation - before
    events = stage.events_of(connection_id)
    told = [
        event
        for event in events
        if isinstance(event, ProviderConnectionSucceeded | ProviderTokenRefreshSucceeded)
    ]

    assert Counter[object](event.occurred_at for event in told) == +stored_at
    assert generations == sorted(generations)
    assert {
        event.occurred_at for event in events if isinstance(event, ProviderConnectionStatusChanged)
    } <= {write.connection.updated_at for write in ours}
    told_ids = [event.id for event in told]
    assert told_ids == sorted(told_ids)
