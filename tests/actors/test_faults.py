"""Whatever fails, acknowledged means stored, and the events tell of exactly what is stored."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.world import Limits
from domain.events import ProviderConnectionSucceeded, ProviderTokenRefreshSucceeded
from tests.fakes import laws
from tests.fakes.commands import connection_number
from tests.fakes.schedule import run_seeded
from tests.fakes.script import CONNECTIONS, Act, callers, connect_all, limits, play
from tests.fakes.stage import Stage
from tests.fakes.trouble import (
    BuggySealer,
    Rates,
    Trouble,
    TroubledConnectionStore,
    TroubledEventLog,
)
from tests.fakes.world import TickingClock

_rate = st.sampled_from((0.0, 0.0, 0.1, 0.5))


def _faults(*, bugs: bool = False) -> st.SearchStrategy[Rates]:
    return st.builds(
        Rates,
        wait_s_max=st.sampled_from((0.0, 0.05, 0.5)),
        load_fails=_rate,
        write_fails=_rate,
        write_is_lost=_rate,
        write_is_late=_rate,
        answer_is_lost=_rate,
        somebody_else_writes=_rate,
        append_stops=_rate,
        adapter_has_bug=st.sampled_from((0.0, 0.05, 0.5)) if bugs else st.just(0.0),
    )


class _Troubled:
    """A stage whose world fails."""

    def __init__(self, seed: int, rates: Rates, bounds: Limits) -> None:
        clock = TickingClock()
        self.trouble = Trouble(seed, rates)
        self.store = TroubledConnectionStore(self.trouble, clock=clock)
        self.event_log = TroubledEventLog(self.trouble)
        self.stage = Stage(
            limits=bounds,
            store=self.store,
            event_log=self.event_log,
            clock=clock,
            sealer=BuggySealer(self.trouble),
        )

    async def run(self, script: list[list[Act]]) -> None:
        """Play, let the world heal, and wait until every debt is paid."""
        async with self.stage.opened() as self.store.tasks:
            await connect_all(self.stage)
            await play(self.stage, script)
            self.trouble.ended()
            assert await self.stage.directory.drain(3600)

    async def run_until_killed(self, script: list[list[Act]], *, life_s: float) -> None:
        """Play, and cancel everything at some instant."""
        async with self.stage.opened() as self.store.tasks:
            with anyio.move_on_after(life_s):
                await connect_all(self.stage)
                await play(self.stage, script)

    def assert_lawful(self) -> None:
        """Assert what must hold when the world has healed."""
        laws.everybody_was_answered_once(self.stage)
        assert self.stage.journal.errors == []
        assert self.store.turns.overlaps == self.event_log.turns.overlaps == 0
        for number in range(CONNECTIONS):
            connection_id = connection_number(number)
            laws.stories_are_whole(self.stage.events_of(connection_id))
            laws.events_tell_the_history(self.stage, self.store, connection_id)
            self.assert_every_generation_was_told(number)

    def assert_every_generation_was_told(self, number: int) -> None:
        """Assert: generations stored = successes told + what somebody else stored."""
        connection_id = connection_number(number)
        if connection_id not in self.store.records:
            return
        generation = foreign = 0
        for write in self.store.history:
            if write.connection.id == connection_id:
                grown = write.connection.generation - generation
                foreign += grown if write.op_id in self.store.foreign else 0
                generation += grown
        told = sum(
            isinstance(event, ProviderConnectionSucceeded | ProviderTokenRefreshSucceeded)
            for event in self.stage.events_of(connection_id)
        )
        assert told == self.stage.stored(connection_id).generation - foreign


@settings(max_examples=300)
@given(script=callers(), bounds=limits(), rates=_faults(), seed=st.integers(0, 2**32))
def test_events_tell_exactly_what_is_stored_whatever_fails(
    script: list[list[Act]], bounds: Limits, rates: Rates, seed: int
) -> None:
    troubled = _Troubled(seed, rates, bounds)

    run_seeded(lambda: troubled.run(script), seed=seed)

    troubled.assert_lawful()


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_same_on_asyncio(seed: int) -> None:
    rates = Rates(
        load_fails=0.1,
        write_fails=0.2,
        write_is_lost=0.2,
        write_is_late=0.2,
        answer_is_lost=0.2,
        somebody_else_writes=0.2,
        append_stops=0.2,
    )
    bounds = Limits(debt_pause_s_min=0.0001, debt_pause_s_max=0.0001, burst_commands_max=3)
    script = [[Act("refresh", turn % CONNECTIONS, waits=True) for turn in range(12)]] * 4
    troubled = _Troubled(seed, rates, bounds)

    anyio.run(lambda: troubled.run(script), backend="asyncio")

    troubled.assert_lawful()


@settings(max_examples=300)
@given(
    script=callers(),
    bounds=limits(),
    rates=_faults(bugs=True),
    life_s=st.sampled_from((0.0, 0.05, 0.3, 3.0)),
    seed=st.integers(0, 2**32),
)
def test_everybody_is_answered_once_even_when_actors_crash_and_the_daemon_is_cancelled(
    script: list[list[Act]], bounds: Limits, rates: Rates, life_s: float, seed: int
) -> None:
    troubled = _Troubled(seed, rates, bounds)

    run_seeded(lambda: troubled.run_until_killed(script, life_s=life_s), seed=seed)

    laws.everybody_was_answered_once(troubled.stage)
    assert troubled.store.turns.overlaps == troubled.event_log.turns.overlaps == 0
