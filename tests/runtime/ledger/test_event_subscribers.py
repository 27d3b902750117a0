"""What a subscriber of the events sees: the events, and nothing of how the daemon stores them."""

import msgspec
from nats.aio.msg import Msg

from runtime.ledger.streams import ensure_streams
from runtime.nats.link import NatsLink
from runtime.world import Uuid7Ids
from tests.fakes.ledger_worlds import (
    PREFIX,
    RealWorld,
    caught_up,
    followed,
    store_refreshes,
    taken,
)
from tests.fakes.stream_settings import settings_of

SETTINGS = settings_of(1)
ids = Uuid7Ids()


async def test_no_event_shows_where_answers_to_the_daemon_come_in(link: NatsLink):
    """Not even where a marker was lost, and events go one by one that the stream may know."""
    seen: list[Msg] = []

    async def see(message: Msg) -> None:
        seen.append(message)

    await ensure_streams(link, SETTINGS)
    await link.client.subscribe(f"{PREFIX}.event.>", cb=see)
    world, one = RealWorld(link, 0), next(ids)
    ledger = await taken(world.streams())
    await store_refreshes(ledger, one, first=1, last=3)
    await ledger.events.advance()
    await world.forget_marker()
    second = await taken(world.streams(), daemon="d-2")
    async with followed(second):
        await store_refreshes(second, one, first=4, last=4)
        await caught_up(second)
    await link.flush()

    told = [message for message in seen if msgspec.json.decode(message.data)["type"]]
    assert len({msgspec.json.decode(message.data)["id"] for message in told}) == 8
    assert {message.reply for message in seen} == {""}
    assert link.inbox not in str([(message.headers, message.data) for message in seen])
