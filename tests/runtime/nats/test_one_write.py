"""What one turn of the event loop sends goes to the socket at once: each write costs as a message does."""

import asyncio

import pytest
from nats.aio.msg import Msg

from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from tests.fakes.eventually import eventually


async def listening(link: NatsLink) -> list[bytes]:
    """Return what will be heard on ``test.>``."""
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    await link.client.subscribe("test.>", cb=hear)
    await link.flush()
    return heard


@pytest.fixture
def writes(link: NatsLink, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each write holds."""
    sizes: list[int] = []
    writer = link.client._writer
    assert writer is not None
    write = writer.write

    def counting(data: bytes) -> None:
        sizes.append(data.count(b"PUB test."))
        write(data)

    monkeypatch.setattr(writer, "write", counting)
    return sizes


async def test_messages_of_one_turn_are_written_together_and_in_order(
    link: NatsLink, writes: list[int]
):
    heard = await listening(link)
    link.publish_now("test.a", b"1")
    link.publish_now("test.b", b"2")
    link.publish_batch([("test.c", b"", b"3"), ("test.d", b"", b"4")])
    link.publish_now("test.e", b"5")
    await asyncio.sleep(0)
    link.publish_now("test.f", b"6")
    await link.flush()

    assert heard == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert [size for size in writes if size] == [4, 1, 1]


async def test_a_flush_confirms_what_was_sent_in_the_same_turn(link: NatsLink):
    heard = await listening(link)
    for number in range(100):
        link.publish_now("test.a", b"%d" % number)
    assert link.client.unsent_bytes > 0
    await link.flush()
    await link.flush()

    assert len(heard) == 100


async def test_what_was_sent_just_before_a_close_arrives(link: NatsLink, nats_login: Login):
    heard = await listening(link)
    async with open_link(nats_login, name="test", limits=LinkLimits()) as other:
        other.publish_now("test.a", b"last")

    await eventually(lambda: heard == [b"last"])
