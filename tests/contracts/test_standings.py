"""How a partition stands is told by its owner, and read from its streams where it has none."""

from runtime.ledger.standing import read_standing, standing_of
from runtime.nats.errors import NO_ANSWER_IN_TIME, NoAnswerError
from runtime.world import Uuid7Ids
from tests.fakes.ledger_worlds import LedgerWorld, caught_up, followed, store_refreshes, taken
from tests.fakes.memory_streams import MemoryStreams

ids = Uuid7Ids()


async def test_how_an_unowned_partition_stands_is_read_from_its_streams(world: LedgerWorld):
    owner = await taken(world.streams())
    async with followed(owner):
        await store_refreshes(owner, next(ids), first=1, last=2)
        await caught_up(owner)
        await owner.trim()
    await store_refreshes(owner, next(ids), first=1, last=3)
    told = standing_of(owner)

    read = await read_standing(world.streams(), 0)

    assert (told.ledger_seq, told.events_lacking, told.events_lag) == (6, 6, 3)
    assert (read.ledger_seq, read.trimmed_seq) == (6, 3)
    assert (read.records_lag, read.events_lag, read.events_lacking) == (3, 3, 3)
    assert (read.claim_seq, read.by_status) == (None, None)


async def test_where_an_unowned_partition_cannot_be_read_something_may_lack():
    read = await read_standing(_Silent(), 0)

    assert read.events_lacking == 1
    assert read.ledger_seq is None
    assert read.troubles.keys() == {"ledger"}


class _Silent(MemoryStreams):
    """Streams that give no answer."""

    async def bounds(self) -> tuple[int, int]:
        """See ``PartitionStreams``."""
        raise NoAnswerError(NO_ANSWER_IN_TIME)
