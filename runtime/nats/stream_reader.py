"""Reads a stretch of a stream once, in order, through a pull consumer that then goes away."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import NamedTuple

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from runtime.nats.errors import LinkError, NoAnswerError, NoRespondersError
from runtime.nats.jetstream_api import create_reading_consumer
from runtime.nats.link import NatsLink

_BATCH = 500
_BATCH_BYTES = 8 * 1024 * 1024
_WAIT_S = 5.0
_KNOWN_WITHIN_S, _KNOWN_TICK_S = 2.0, 0.05
"""How long a new consumer may take until all servers of a cluster know where it is."""
_TOKENS, _SEQUENCE_TOKEN = 9, 5
_BATCH_ENDED = frozenset({"Batch Completed", "Message Size Exceeds MaxBytes"})


class StreamMessage(NamedTuple):
    """One message of a stream."""

    sequence: int
    subject: str
    data: bytes


async def read_stream(
    link: NatsLink,
    stream: str,
    *,
    start_seq: int = 1,
    filter_subject: str | None = None,
    follow: bool = False,
    wait_s: float = _WAIT_S,
) -> AsyncGenerator[StreamMessage]:
    """Yield the stored messages from ``start_seq`` on, then stop; or wait for more.

    Args:
        link: Its inbox permission suffices, with the right to make consumers.
        stream: The stream's name.
        start_seq: The first sequence of interest.
        filter_subject: None for all.
        follow: Do not stop at the end of the stream.
        wait_s: How long one batch may take.

    Raises:
        LinkError: The server does not answer, or the consumer went away.
        JetStreamError: The stream cannot be read.
    """
    consumer = await create_reading_consumer(
        link, stream, start_seq=start_seq, filter_subject=filter_subject
    )
    is_over = not consumer.num_pending
    inbox = link.client.new_inbox()
    subscription = await link.client.subscribe(inbox)
    try:
        while not is_over or follow:
            pull = partial(_pull, link, stream, consumer.name, inbox, wait_s=wait_s)
            async with contextlib.aclosing(_batch(subscription, pull, wait_s=wait_s)) as batch:
                async for message in batch:
                    sequence, pending = _place(message)
                    yield StreamMessage(sequence, message.subject, message.data)
                    # Counting those that were there at first would stop too early: a message that
                    # is written anew meanwhile comes again, and another is left out for it.
                    is_over = not pending
                    if is_over and not follow:
                        return
    finally:
        # It would go away by itself, but one listing makes several and listings come in crowds.
        with contextlib.suppress(LinkError, nats.errors.Error):
            link.publish_now(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer.name}", b"")
            await subscription.unsubscribe()


def _pull(link: NatsLink, stream: str, consumer: str, inbox: str, *, wait_s: float) -> None:
    """Ask for the next batch, to be sent to ``inbox``."""
    request = {
        "batch": _BATCH,
        "max_bytes": _BATCH_BYTES,
        "expires": int(wait_s * 1e9),
        "idle_heartbeat": int(wait_s / 4 * 1e9),
    }
    link.publish_now(
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        msgspec.json.encode(request),
        reply=inbox,
    )


async def _batch(
    subscription: Subscription, pull: Callable[[], None], *, wait_s: float
) -> AsyncGenerator[Msg]:
    """Pull, and yield the messages until the server says that this has ended.

    Raises:
        NoRespondersError: No server knows the consumer.
        NoAnswerError: It is gone, or neither a message nor a heartbeat came.
        NotSentError: The pull was not sent.
    """
    pull()
    received, unknown_s = 0, 0.0
    while received < _BATCH:
        try:
            async with asyncio.timeout(wait_s / 2):
                message = await subscription.next_msg(timeout=None)
        except TimeoutError:
            raise NoAnswerError("the stream is silent") from None
        headers = message.headers or {}
        status, description = headers.get("Status"), headers.get("Description", "")
        if status == "100":
            continue
        if status == "408" or description in _BATCH_ENDED:
            return
        if status == "503" and not received:
            if unknown_s >= _KNOWN_WITHIN_S:
                raise NoRespondersError("no server knows the consumer")
            await asyncio.sleep(_KNOWN_TICK_S)
            unknown_s += _KNOWN_TICK_S
            pull()
            continue
        if status is not None:
            raise NoAnswerError(f"the consumer ended: {description}")
        received += 1
        yield message


def _place(message: Msg) -> tuple[int, int]:
    """Return a delivered message's stream sequence, and how many are still to come.

    Source: ADR-15; ``$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.
    <pending>`` is its acknowledgement subject, with two more tokens (domain, account) before the
    stream and one at the end in the newer form.
    """
    tokens = message.reply.split(".")
    first = _SEQUENCE_TOKEN if len(tokens) == _TOKENS else _SEQUENCE_TOKEN + 2
    return int(tokens[first]), int(tokens[first + 3])
