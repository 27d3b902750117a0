"""The trace of a command goes with what comes of it: its events, and the request to the provider."""

from collections.abc import Callable
from typing import Any

from actors.envelope import Envelope
from domain.commands import Command, GetToken
from domain.trace import Trace
from tests.fakes.commands import connect, refresh
from tests.fakes.token_scene import ID, Scene

TRACE = Trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1")


async def ask(scene: Scene, command: Command | GetToken, trace: Trace | None) -> None:
    """Send a command in a trace, and return when it is answered."""
    answers: list[Any] = []
    answered: Callable[[Any], None] = answers.append
    scene.stage.directory.submit(Envelope(command, due_s=1e9, reply=answered, trace=trace))
    await scene.stage.settled()
    assert answers


def told(scene: Scene) -> list[tuple[str, str | None, str | None]]:
    """Return each event's step, and its trace."""
    return [
        (f"{event.workflow}.{event.outcome}", event.traceparent, event.tracestate)
        for event in scene.stage.events_of(ID)
    ]


async def test_a_refresh_at_the_provider_is_in_the_trace_of_the_caller_that_began_it() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await ask(scene, GetToken(connection_id=ID), TRACE)

    assert [request.trace for request in scene.provider.requests] == [TRACE]
    assert told(scene) == [
        ("connection.attempted", None, None),
        ("connection.succeeded", None, None),
        ("token_refresh.attempted", *TRACE),
        ("token_refresh.succeeded", *TRACE),
    ]


async def test_a_command_that_is_refused_is_told_of_in_its_trace() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await ask(scene, connect(ID), TRACE)
        await ask(scene, connect(ID), None)
        await ask(scene, refresh(ID), TRACE)

    assert [trace for _, *trace in told(scene)] == [
        [*TRACE],
        [*TRACE],
        [None, None],
        [None, None],
        [*TRACE],
        [*TRACE],
    ]
