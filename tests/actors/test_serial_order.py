"""Whatever comes at the same time, the outcome is that of one command after another.

Replies, stored connections and events of every run without faults are compared with
``domain.decision.decide``, called on the same commands in the order in which they were taken.
"""

from datetime import datetime
from uuid import UUID

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.world import Limits
from domain.commands import Command, Connect, GetToken, Refresh
from domain.connection import ProviderConnection
from domain.credentials import Unsealed
from domain.decision import decide
from domain.events import Event
from domain.result import FailureCode
from tests.fakes import laws
from tests.fakes.commands import Kind, connection_number
from tests.fakes.examples import examples
from tests.fakes.schedule import run_seeded
from tests.fakes.script import CONNECTIONS, Act, callers, limits, play
from tests.fakes.stage import Sent, Stage
from tests.fakes.trouble import Rates, Trouble, TroubledLedger
from tests.fakes.world import EPOCH, CountingIds, PlainSealer

_ALL_KINDS: tuple[Kind, ...] = (
    "refresh",
    "refresh",
    "connect",
    "connect_pending",
    "get",
    "sync",
    "expire",
    "revoke",
    "fail",
    "refresh_with_nothing",
    "disconnect_by_stranger",
    "disconnect",
)
_NIL = UUID(int=0)


class _StoppedClock:
    """Always the same time, so that it can be left out of the comparison."""

    def now(self) -> datetime:
        return EPOCH


def _stage(seed: int, bounds: Limits, *, wait_s_max: float) -> Stage:
    trouble = Trouble(seed, Rates(wait_s_max=wait_s_max, is_in_memory=0.5))
    ledger = TroubledLedger(trouble, group_entries_max=1 + seed % 4)
    # However slow, it is no fault here.
    bounds = msgspec.structs.replace(bounds, unclear_s=3600.0)
    return Stage(limits=bounds, ledger=ledger, clock=_StoppedClock())


async def _run(stage: Stage, script: list[list[Act]]) -> None:
    async with stage.opened():
        await play(stage, script)
        assert await stage.directory.drain(3600)


@settings(max_examples=examples(200))
@given(
    script=callers(kinds=_ALL_KINDS),
    bounds=limits(),
    seed=st.integers(0, 2**32),
    wait_s_max=st.sampled_from((0.0, 0.01, 0.2)),
)
def test_simultaneous_commands_come_to_the_same_as_serial_ones(
    script: list[list[Act]], bounds: Limits, seed: int, wait_s_max: float
) -> None:
    stage = _stage(seed, bounds, wait_s_max=wait_s_max)

    run_seeded(lambda: _run(stage, script), seed=seed)

    _assert_serial(stage)


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_same_on_asyncio(seed: int) -> None:
    kinds: tuple[Kind, ...] = ("connect", *_ALL_KINDS)
    script = [
        [
            Act(kinds[(seed + caller + turn) % len(kinds)], turn % CONNECTIONS, waits=turn % 2 == 0)
            for turn in range(12)
        ]
        for caller in range(6)
    ]
    stage = _stage(seed, Limits(resident_actors_max=2), wait_s_max=0.0)

    anyio.run(lambda: _run(stage, script), backend="asyncio")

    _assert_serial(stage)


def _assert_serial(stage: Stage) -> None:
    """Compare a finished run with the serial one."""
    laws.everybody_was_answered_once(stage)
    assert stage.journal.counts.keys() <= {"dropped"}
    assert isinstance(stage.ledger, TroubledLedger)
    assert stage.ledger.overlaps == 0
    for number in range(CONNECTIONS):
        connection_id = connection_number(number)
        taken = [
            sent
            for sent in stage.sent
            if sent.command.connection_id == connection_id
            and sent.code not in (FailureCode.OVERLOADED, FailureCode.TIMED_OUT)
        ]
        states, events = _assert_replies_are_serial(taken)
        changes = stage.ledger.changes_of(connection_id)
        written = [change.connection for change in changes if change.connection is not None]
        assert [_without_id(event) for event in stage.events_of(connection_id)] == events
        later = iter(states)
        assert all(any(state == record for state in later) for record in written)
        assert (written[-1] if written else None) == states[-1]


def _assert_replies_are_serial(
    taken: list[Sent],
) -> tuple[list[ProviderConnection | None], list[Event]]:
    """Decide one command after another; return the distinct states and all the events."""
    states: list[ProviderConnection | None] = [None]
    events: list[Event] = []
    ids = CountingIds()
    for sent in taken:
        decision = decide(states[-1], _sealed(sent.command, states[-1]), now=EPOCH, ids=ids)
        # A caller whose time was up is told so, and the command takes its course.
        assert sent.reply == decision.reply or sent.code is FailureCode.DATABASE_ERROR
        events.extend(_without_id(event) for event in decision.events)
        if decision.connection is not states[-1]:
            states.append(decision.connection)
    return states, events


def _sealed(command: Command | GetToken, connection: ProviderConnection | None) -> Command:
    assert not isinstance(command, GetToken)
    if not isinstance(command, Connect | Refresh):
        return command
    if not isinstance(command.credentials, Unsealed):
        return command
    payload = PlainSealer().seal(
        command.credentials.secret,
        connection_id=command.connection_id,
        generation=1 if connection is None else connection.generation + 1,
    )
    return msgspec.structs.replace(command, credentials=command.credentials.sealed_as(payload))


def _without_id(event: Event) -> Event:
    return msgspec.structs.replace(event, id=_NIL)
