"""Whatever comes back on an inbox, it is a JetStream answer or nothing is known."""

import pytest
from nats.aio.msg import Msg

from runtime.nats.errors import NoAnswerError
from runtime.nats.jetstream_api import (
    create_reading_consumer,
    create_stream,
    last_message,
    read_pub_ack,
    stream_info,
)
from runtime.nats.link import NatsLink

ODD = [
    b"",
    b"null",
    b"{}",
    b'{"ok":null}',
    b'{"stream":"\xff","seq":1}',
    b"[" * 100_000,
    b'{"message":null}',
]


class _Answering(NatsLink):
    """A link that answers every request with the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def request(self, *_arguments: object, **_options: object) -> Msg:
        return Msg(None, data=self.data)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", ODD)
async def test_an_odd_answer_is_never_taken_for_nothing_stored(data: bytes):
    with pytest.raises(NoAnswerError):
        await last_message(_Answering(data), "KV_x", "$KV.x.y")
    with pytest.raises(NoAnswerError):
        await stream_info(_Answering(data), "KV_x")
    with pytest.raises(NoAnswerError):
        read_pub_ack(Msg(None, data=data))  # type: ignore[arg-type]
    with pytest.raises(NoAnswerError):
        await create_stream(_Answering(data), {"name": "KV_x"})
    with pytest.raises(NoAnswerError):
        await create_reading_consumer(_Answering(data), "KV_x", start_seq=1)
