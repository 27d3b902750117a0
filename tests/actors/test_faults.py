"""Whatever fails, acknowledged means stored, and the events tell of exactly what is stored."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.world import Limits
from tests.fakes import laws
from tests.fakes.commands import connection_number
from tests.fakes.examples import examples
from tests.fakes.schedule import run_seeded
from tests.fakes.script import CONNECTIONS, Act, callers, connect_all, limits, play
from tests.fakes.stage import Stage
from tests.fakes.trouble import BuggySealer, Rates, Trouble, TroubledLedger
from tests.fakes.world import TickingClock

_rate = st.sampled_from((0.0, 0.0, 0.1, 0.5))


def _faults(*, bugs: bool = False) -> st.SearchStrategy[Rates]:
    return st.builds(
        Rates,
        wait_s_max=st.sampled_from((0.0, 0.05, 0.5)),
        read_fails=_rate,
        append_is_unclear=_rate,
        is_in_memory=_rate,
        adapter_has_bug=st.sampled_from((0.0, 0.05, 0.5)) if bugs else st.just(0.0),
    )


class _Troubled:
    """A stage whose world fails."""

    def __init__(self, seed: int, rates: Rates, bounds: Limits) -> None:
        self.trouble = Trouble(seed, rates)
        self.ledger = TroubledLedger(self.trouble, group_entries_max=1 + seed % 4)
        self.stage = Stage(
            limits=bounds,
            ledger=self.ledger,
            clock=TickingClock(),
            sealer=BuggySealer(self.trouble),
        )

    async def run(self, script: list[list[Act]]) -> None:
        """Play, let the world heal, and wait until everything decided is stored."""
        async with self.stage.opened():
            await connect_all(self.stage)
            await play(self.stage, script)
            self.trouble.ended()
            assert await self.stage.directory.drain(3600)

    async def run_until_killed(self, script: list[list[Act]], *, life_s: float) -> None:
        """Play, and cancel everything at some instant."""
        async with self.stage.opened():
            with anyio.move_on_after(life_s):
                await connect_all(self.stage)
                await play(self.stage, script)

    def assert_lawful(self) -> None:
        """Assert what must hold when the world has healed."""
        laws.everybody_was_answered_once(self.stage)
        assert self.ledger.overlaps == 0
        for number in range(CONNECTIONS):
            connection_id = connection_number(number)
            laws.stories_are_whole(self.stage.events_of(connection_id))
            laws.events_tell_the_history(self.stage, connection_id)
            laws.acknowledged_is_stored(self.stage, connection_id)


@settings(max_examples=examples(300))
@given(script=callers(), bounds=limits(), rates=_faults(), seed=st.integers(0, 2**32))
def test_events_tell_exactly_what_is_stored_whatever_fails(
    script: list[list[Act]], bounds: Limits, rates: Rates, seed: int
) -> None:
    troubled = _Troubled(seed, rates, bounds)

    run_seeded(lambda: troubled.run(script), seed=seed)

    troubled.assert_lawful()
    assert troubled.stage.journal.errors == []


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_same_on_asyncio(seed: int) -> None:
    rates = Rates(wait_s_max=0.002, read_fails=0.1, append_is_unclear=0.2, is_in_memory=0.5)
    bounds = Limits(unclear_s=0.01)
    script = [[Act("refresh", turn % CONNECTIONS, waits=True) for turn in range(12)]] * 4
    troubled = _Troubled(seed, rates, bounds)

    anyio.run(lambda: troubled.run(script), backend="asyncio")

    troubled.assert_lawful()


@settings(max_examples=examples(300))
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

    troubled.assert_lawful()
