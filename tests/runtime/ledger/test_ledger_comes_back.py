"""A server that is killed just after a trim has what was trimmed again; it is trimmed again."""

import pytest
from trio.testing import MockClock

from runtime.world import Uuid7Ids
from tests.fakes.ledger_worlds import MemoryWorld, store_refreshes, taken


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, MockClock]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


async def test_what_was_trimmed_and_is_back_is_trimmed_again_without_another_write() -> None:
    world = MemoryWorld()
    ledger = await taken(world.streams())
    await store_refreshes(ledger, next(Uuid7Ids()), first=1, last=3)
    await ledger.records.advance()
    await ledger.events.advance()
    groups = world.kept.groups
    await ledger.trim()
    assert world.kept.groups == {}
    world.kept.bring_back(groups)

    await ledger.look_at_owner()
    await ledger.trim()

    assert world.kept.groups == {}
