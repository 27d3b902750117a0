"""Reading a stretch of a stream while the servers of a cluster are still telling each other of it."""

import asyncio
from typing import Any

import msgspec
import pytest

from runtime.nats import stream_reader
from runtime.nats.errors import NoRespondersError
from runtime.nats.jetstream_api import ConsumerInfo, create_stream
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream


async def stored(link: NatsLink) -> None:
    """Store two messages in the stream ``S``."""
    await create_stream(link, {"name": "S", "subjects": ["s.*"], "storage": "file"})
    for number in ("1", "2"):
        await link.request(f"s.{number}", number.encode(), timeout_s=5.0)


async def make(link: NatsLink, name: str) -> None:
    """Make a consumer of ``S`` by this name."""
    config = {"name": name, "ack_policy": "none", "mem_storage": True, "num_replicas": 1}
    body = msgspec.json.encode({"stream_name": "S", "config": config})
    await link.request(f"$JS.API.CONSUMER.CREATE.S.{name}", body, timeout_s=5.0)


async def test_a_consumer_that_not_every_server_knows_yet_is_asked_again(
    link: NatsLink, monkeypatch: pytest.MonkeyPatch
):
    await stored(link)
    making: list[asyncio.Task[None]] = []
    pull = stream_reader._pull

    async def told_of(_link: NatsLink, *_: Any, **__: Any) -> ConsumerInfo:
        return ConsumerInfo(name="late", num_pending=2)

    def asked_in_vain_at_first(*arguments: Any, **options: Any) -> None:
        pull(*arguments, **options)
        if not making:
            making.append(asyncio.create_task(make(link, "late")))

    monkeypatch.setattr(stream_reader, "create_reading_consumer", told_of)
    monkeypatch.setattr(stream_reader, "_pull", asked_in_vain_at_first)

    assert [message.data async for message in read_stream(link, "S")] == [b"1", b"2"]
    await asyncio.gather(*making)


async def test_a_consumer_that_no_server_comes_to_know_ends_the_reading(
    link: NatsLink, monkeypatch: pytest.MonkeyPatch
):
    await stored(link)

    async def of_nobody(_link: NatsLink, *_: Any, **__: Any) -> ConsumerInfo:
        return ConsumerInfo(name="never", num_pending=2)

    monkeypatch.setattr(stream_reader, "create_reading_consumer", of_nobody)
    monkeypatch.setattr(stream_reader, "_KNOWN_WITHIN_S", 0.1)

    with pytest.raises(NoRespondersError, match="no server knows the consumer"):
        _ = [message async for message in read_stream(link, "S")]
