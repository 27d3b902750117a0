"""A caller takes only refreshd's answers for answers."""

import pytest
from nats.aio.msg import Msg

from domain.result import Failure, FailureCode, Success
from runtime.cli.client import CommandClient
from runtime.ledger.subjects import event_stream, tag_of
from runtime.nats.errors import NoAnswerError
from runtime.nats.jetstream_api import create_stream
from runtime.nats.link import NatsLink

ODD = [b"", b"hello", b"\xff", b"[" * 100_000, b"[]", b"7", b'{"a":"\xff"}']

DEEP = b'{"ok":' + b"[" * 100_000


async def answered(link: NatsLink, data: bytes) -> Success[object] | Failure:
    """Return what a caller makes of an answer."""

    async def answer(message: Msg) -> None:
        await message.respond(data)

    await link.client.subscribe("p.status", cb=answer)
    await link.flush()
    return await CommandClient(link, prefix="p").call("status")


@pytest.mark.parametrize(
    "data", [*ODD, b"{}", DEEP, b'{"error":{"code":"NO_SUCH_CODE","message":"x"}}']
)
async def test_an_answer_that_is_not_refreshds_is_none(link: NatsLink, data: bytes):
    with pytest.raises(NoAnswerError, match="not refreshd's"):
        await answered(link, data)


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b'{"ok":null}', Success(None)),
        (b'{"ok":{"a":1},"more":2}', Success({"a": 1})),
        (
            b'{"error":{"code":"OVERLOADED","message":"x"}}',
            Failure(code=FailureCode.OVERLOADED, message="x"),
        ),
    ],
)
async def test_a_value_and_a_failure_are_told_apart(
    link: NatsLink, data: bytes, outcome: Success[object] | Failure
):
    assert await answered(link, data) == outcome


@pytest.mark.parametrize("data", ODD)
async def test_what_is_no_event_is_told_with_its_place(link: NatsLink, data: bytes):
    await create_stream(
        link, {"name": event_stream(tag_of("p")), "subjects": ["p.event.>"], "storage": "file"}
    )
    for body in (b'{"id":"1"}', data):
        await link.request("p.event.schwab.1.connection.x", body, timeout_s=5.0)
    events = CommandClient(link, prefix="p").events()

    assert await anext(events) == (1, {"id": "1"})
    with pytest.raises(NoAnswerError, match="event 2 is not refreshd's"):
        await anext(events)
