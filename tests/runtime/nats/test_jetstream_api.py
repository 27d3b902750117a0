"""Whatever comes back on an inbox, it is a JetStream answer or nothing is known."""

import pytest

from runtime.nats.client import Arrived
from runtime.nats.direct_get import next_messages
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

    async def request(self, *_arguments: object, **_options: object) -> Arrived:
        return Arrived("", "", self.data, None)


@pytest.mark.parametrize("data", ODD)
async def test_an_odd_answer_is_never_taken_for_nothing_stored(data: bytes):
    with pytest.raises(NoAnswerError):
        await last_message(_Answering(data), "KV_x", "$KV.x.y")
    with pytest.raises(NoAnswerError):
        await stream_info(_Answering(data), "KV_x")
    with pytest.raises(NoAnswerError):
        read_pub_ack(Arrived("", "", data, None))
    with pytest.raises(NoAnswerError):
        await create_stream(_Answering(data), {"name": "KV_x"})
    with pytest.raises(NoAnswerError):
        await create_reading_consumer(_Answering(data), "KV_x", start_seq=1)


class _Sending(NatsLink):
    """A link whose requests are answered with these headers, one message each."""

    def __init__(self, *answers: dict[str, str]) -> None:
        self.answers = answers

    async def request_many(self, *_arguments: object, **_options: object) -> list[Arrived]:
        return [Arrived("", "", b"", one) for one in self.answers]


def _sent(seq: int, last_seq: int) -> dict[str, str]:
    return {
        "Nats-Subject": "x",
        "Nats-Sequence": str(seq),
        "Nats-Last-Sequence": str(last_seq),
    }


END = {"Status": "204", "Nats-Last-Sequence": "7"}


async def _next(*answers: dict[str, str]) -> list[int]:
    link = _Sending(*answers)
    found = await next_messages(link, "KV_x", start_seq=1, messages_max=9, bytes_max=9, timeout_s=1)
    return [message.seq for message in found]


async def test_the_next_messages_are_all_that_were_sent():
    assert await _next(_sent(3, 0), _sent(7, 3), END) == [3, 7]
    assert await _next({"Status": "404"}) == []


@pytest.mark.parametrize(
    "answers",
    [
        (_sent(7, 3), END),
        (_sent(3, 0), END),
        (_sent(3, 0), _sent(7, 5), END),
        (_sent(3, 0), _sent(7, 3), {"Status": "204"}),
        (_sent(3, 0), _sent(7, 3), {"Status": "404"}),
        (_sent(3, 0), {}, END),
        ({"Status": "204", "Nats-Last-Sequence": "0"},),
        ({"Status": "408"},),
        ({},),
    ],
)
async def test_next_messages_of_which_one_is_missing_are_no_answer(
    answers: tuple[dict[str, str], ...],
):
    with pytest.raises(NoAnswerError):
        await _next(*answers)
