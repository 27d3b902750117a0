"""What many callers do to a few connections: drawn by hypothesis, played on a stage."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import anyio
from hypothesis import strategies as st

from actors.world import Limits
from tests.fakes.commands import Kind, command, connection_number
from tests.fakes.stage import Stage

CONNECTIONS = 3

_KINDS: tuple[Kind, ...] = (
    "refresh",
    "refresh",
    "refresh",
    "connect",
    "get",
    "sync",
    "expire",
    "revoke",
    "refresh_with_nothing",
    "disconnect_by_stranger",
    "disconnect",
)


class Act(NamedTuple):
    """One command of one caller."""

    kind: Kind
    connection: int
    pause_s: float = 0.0
    """How long the caller does nothing before."""
    waits: bool = False
    """Whether the caller waits for the answer before the next act."""
    patience_s: float = math.inf


Caller = Sequence[Act]


def callers(*, kinds: Sequence[Kind] = _KINDS) -> st.SearchStrategy[list[list[Act]]]:
    """Draw what up to six callers do, two thirds of it refreshing."""
    acts = st.builds(
        Act,
        kind=st.sampled_from(kinds),
        connection=st.integers(0, CONNECTIONS - 1),
        pause_s=st.sampled_from((0.0, 0.0, 0.01, 0.2)),
        waits=st.booleans(),
        patience_s=st.sampled_from((math.inf, math.inf, 0.05)),
    )
    return st.lists(st.lists(acts, min_size=1, max_size=12), min_size=1, max_size=6)


def limits() -> st.SearchStrategy[Limits]:
    """Draw bounds so tight that every one of them is met."""
    return st.builds(
        Limits,
        mailbox_commands_max=st.integers(1, 6),
        resident_actors_max=st.integers(1, CONNECTIONS),
        idle_s=st.sampled_from((0.02, 0.2, 300.0)),
        unclear_s=st.sampled_from((0.1, 1.0)),
        refused_events_max=st.sampled_from((2, 8, 10_000)),
        restarts_max=st.integers(1, 5),
        quarantine_s=st.sampled_from((0.05, 30.0)),
    )


async def play(stage: Stage, script: Sequence[Caller]) -> None:
    """Let all callers act at the same time; return when the last has done so."""
    async with anyio.create_task_group() as tasks:
        for caller in script:
            tasks.start_soon(_act, stage, caller)


async def connect_all(stage: Stage) -> None:
    """Connect every connection of the script, one after another."""
    for number in range(CONNECTIONS):
        await stage.ask(command("connect", connection_number(number), "first"))


async def _act(stage: Stage, caller: Caller) -> None:
    for act in caller:
        await anyio.sleep(act.pause_s)
        asked = command(act.kind, connection_number(act.connection), f"secret {len(stage.sent)}")
        sent = stage.send(asked, patience_s=act.patience_s)
        if act.waits:
            await sent.answered.wait()
