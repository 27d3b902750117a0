"""The few JetStream API calls that refreshd makes, over a link, with their answers decoded.

Reads go to the stream's leader (``STREAM.MSG.GET``); a direct get, which may be stale, is only
used where the answer itself proves that it is fresh (NATS.md 2.22). Source: ADR-1, ADR-2, ADR-17,
ADR-31 and ADR-50 of nats-architecture-and-design.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from runtime.nats.client import Arrived
from runtime.nats.errors import NoAnswerError
from runtime.nats.link import NatsLink

UNAVAILABLE = 10008
"""A cluster has no leader now."""
WRONG_LAST_SEQUENCE = 10071
NAME_IN_USE = 10058
NO_SUITABLE_PEERS = 10005
ANOTHER_WRITE_IN_FLIGHT = 10164
NO_MESSAGE_FOUND = 10037
STREAM_NOT_FOUND = 10059
SUBJECTS_OVERLAP = 10065
DUPLICATE_IN_BATCH = 10201

API_TIMEOUT_S = 5.0

_T = TypeVar("_T")


class ApiErrorBody(msgspec.Struct):
    """JetStream's error object."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class JetStreamError(Exception):
    """JetStream answered with an error; the request had no effect."""

    def __init__(self, error: ApiErrorBody) -> None:
        """Keep the error's code; the text is the server's own."""
        super().__init__(f"JetStream error {error.err_code}: {error.description[:200]}")
        self.err_code = error.err_code

    @property
    def is_refused(self) -> bool:
        """Whether the message, or its batch, did not come as expected: it may be there already."""
        return self.err_code in (WRONG_LAST_SEQUENCE, DUPLICATE_IN_BATCH)


class PubAck(msgspec.Struct):
    """The answer to a publish."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiErrorBody | None = None


class StoredMessage(msgspec.Struct):
    """A message read back from a stream; ``data`` and ``hdrs`` travel in base64."""

    subject: str = ""
    seq: int = 0
    data: bytes = b""
    hdrs: bytes = b""


class _MessageAnswer(msgspec.Struct):
    message: StoredMessage | None = None
    error: ApiErrorBody | None = None


class _PurgeAnswer(msgspec.Struct):
    success: bool = False
    error: ApiErrorBody | None = None


class StreamState(msgspec.Struct):
    """What a stream holds."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamInfo(msgspec.Struct):
    """A stream's configuration, as the server sees it, and its state."""

    config: dict[str, object] = msgspec.field(default_factory=dict)
    state: StreamState = msgspec.field(default_factory=StreamState)
    ts: datetime | None = None
    """When the server said so, by its clock."""
    error: ApiErrorBody | None = None


def number_of(config: Mapping[str, object], setting: str) -> int:
    """Return a stream's setting that is a number; 0 where there is none."""
    number = config.get(setting)
    return number if isinstance(number, int) else 0


class ConsumerInfo(msgspec.Struct):
    """A consumer that was just made."""

    name: str = ""
    num_pending: int = 0
    error: ApiErrorBody | None = None


_pub_ack = msgspec.json.Decoder(PubAck)
_message_answer = msgspec.json.Decoder(_MessageAnswer)
_purge_answer = msgspec.json.Decoder(_PurgeAnswer)
_stream_info = msgspec.json.Decoder(StreamInfo)
_consumer_info = msgspec.json.Decoder(ConsumerInfo)


def read_pub_ack(message: Arrived) -> PubAck:
    """Return the sequence that a publish was stored at.

    Raises:
        JetStreamError: The stream refused it.
        NoAnswerError: The answer is no JetStream answer, so nothing is known.
    """
    try:
        ack = _pub_ack.decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NoAnswerError("the answer is not JetStream's") from None
    if ack.error is not None:
        raise JetStreamError(ack.error)
    if not ack.seq:
        raise NoAnswerError("the answer is not JetStream's")
    return ack


async def last_message(
    link: NatsLink, stream: str, subject: str, *, timeout_s: float = API_TIMEOUT_S
) -> StoredMessage | None:
    """Return the last message on ``subject`` from the stream's leader, or None.

    Raises:
        LinkError: No answer.
        JetStreamError: Any refusal but "no message found".
    """
    return await _message(link, stream, {"last_by_subj": subject}, timeout_s=timeout_s)


async def _message(
    link: NatsLink, stream: str, which: Mapping[str, object], *, timeout_s: float
) -> StoredMessage | None:
    answer = await link.request(
        f"$JS.API.STREAM.MSG.GET.{stream}", msgspec.json.encode(which), timeout_s=timeout_s
    )
    decoded = _decode(_message_answer, answer)
    if decoded.error is not None:
        if decoded.error.err_code == NO_MESSAGE_FOUND:
            return None
        raise JetStreamError(decoded.error)
    if decoded.message is None:
        raise NoAnswerError("the answer is not JetStream's")
    return decoded.message


async def message_at(
    link: NatsLink, stream: str, seq: int, *, timeout_s: float = API_TIMEOUT_S
) -> StoredMessage | None:
    """Return the message at a sequence from the stream's leader, or None.

    Raises:
        LinkError: No answer.
        JetStreamError: Any refusal but "no message found".
    """
    return await _message(link, stream, {"seq": seq}, timeout_s=timeout_s)


async def purge_through(
    link: NatsLink,
    stream: str,
    seq: int,
    *,
    subject: str | None = None,
    timeout_s: float = API_TIMEOUT_S,
) -> None:
    """Remove every message up to and with ``seq``; the stream's last sequence stays.

    Args:
        link: To the server.
        stream: The stream's name.
        seq: The last that may be removed.
        subject: Only messages on it, which may hold wildcards; None: all.
        timeout_s: For the answer.

    Raises:
        LinkError: No answer.
        JetStreamError: Refused.
    """
    answer = await link.request(
        f"$JS.API.STREAM.PURGE.{stream}",
        msgspec.json.encode({"seq": seq + 1, **({} if subject is None else {"filter": subject})}),
        timeout_s=timeout_s,
    )
    decoded = _decode(_purge_answer, answer)
    if decoded.error is not None:
        raise JetStreamError(decoded.error)
    if not decoded.success:
        raise NoAnswerError("the answer is not JetStream's")


async def stream_info(
    link: NatsLink, stream: str, *, timeout_s: float = API_TIMEOUT_S
) -> StreamInfo | None:
    """Return a stream's configuration and state, or None where there is no such stream.

    Raises:
        LinkError: No answer; without JetStream there are no responders.
        JetStreamError: Any other refusal.
    """
    answer = await link.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_s=timeout_s)
    info = _decode(_stream_info, answer)
    if info.error is not None:
        if info.error.err_code == STREAM_NOT_FOUND:
            return None
        raise JetStreamError(info.error)
    if not info.config:
        raise NoAnswerError("the answer is not JetStream's")
    return info


async def create_stream(link: NatsLink, config: dict[str, object]) -> StreamInfo:
    """Create a stream; one that exists with the same configuration is fine.

    Raises:
        LinkError: No answer.
        JetStreamError: Refused, for one because it exists with another configuration.
    """
    return await _configure(link, "CREATE", config)


async def _configure(link: NatsLink, verb: str, config: Mapping[str, object]) -> StreamInfo:
    answer = await link.request(
        f"$JS.API.STREAM.{verb}.{config['name']}",
        msgspec.json.encode(config),
        timeout_s=API_TIMEOUT_S,
    )
    info = _decode(_stream_info, answer)
    if info.error is not None:
        raise JetStreamError(info.error)
    if not info.config:
        raise NoAnswerError("the answer is not JetStream's")
    return info


async def update_stream(link: NatsLink, config: Mapping[str, object]) -> StreamInfo:
    """Change a stream's settings.

    Raises:
        LinkError: No answer.
        JetStreamError: Refused.
    """
    return await _configure(link, "UPDATE", config)


async def create_reading_consumer(
    link: NatsLink,
    stream: str,
    *,
    start_seq: int,
    filter_subject: str | None = None,
    timeout_s: float = API_TIMEOUT_S,
) -> ConsumerInfo:
    """Make a pull consumer that reads once from ``start_seq`` and goes away by itself.

    Raises:
        LinkError: No answer.
        JetStreamError: Refused.
    """
    config: dict[str, object] = {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start_seq,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 30_000_000_000,
    }
    if filter_subject is not None:
        config["filter_subject"] = filter_subject
    answer = await link.request(
        f"$JS.API.CONSUMER.CREATE.{stream}",
        msgspec.json.encode({"stream_name": stream, "config": config}),
        timeout_s=timeout_s,
    )
    info = _decode(_consumer_info, answer)
    if info.error is not None:
        raise JetStreamError(info.error)
    if not info.name:
        # Taken for a consumer, it would have nothing to read: an empty list where there is much.
        raise NoAnswerError("the answer is not JetStream's")
    return info


def _decode(decoder: msgspec.json.Decoder[_T], answer: Arrived) -> _T:
    """Decode an API answer; anything else on the reply subject means that nothing is known."""
    try:
        return decoder.decode(answer.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NoAnswerError("the answer is not JetStream's") from None
