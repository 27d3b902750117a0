"""Direct gets: several messages by one request, from any replica, as it holds them at one moment.

The answer may be stale; they are used where it proves itself that it is fresh (NATS.md 2.22), or
where that does not matter. Source: ADR-31 of nats-architecture-and-design.
"""

from collections.abc import Sequence

import msgspec

from runtime.nats.errors import NoAnswerError
from runtime.nats.jetstream_api import API_TIMEOUT_S, StoredMessage
from runtime.nats.link import NatsLink


class TooManyError(Exception):
    """A request matches more messages than a server answers at once."""


async def last_messages(
    link: NatsLink,
    stream: str,
    subjects: Sequence[str],
    *,
    timeout_s: float,
    up_to_seq: int | None = None,
) -> dict[str, StoredMessage]:
    """Return the last message on each of several subjects, as one replica holds them together.

    Args:
        link: To the server.
        stream: The stream's name.
        subjects: May hold wildcards.
        timeout_s: For the whole answer.
        up_to_seq: The last as of this sequence, at least 1; None: as of now.

    Raises:
        LinkError: No answer, or not all of it.
        TooManyError: More than 1,024 messages match.
    """
    request: dict[str, object] = {"multi_last": subjects}
    if up_to_seq is not None:
        request["up_to_seq"] = up_to_seq
    answers = await link.request_many(
        f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), timeout_s=timeout_s
    )
    end = answers.pop().headers or {}
    if end.get("Status") == "413":
        raise TooManyError("more messages than one answer holds")
    if end.get("Status") not in ("204", "404"):
        raise NoAnswerError("the answer is not JetStream's")
    promised = (answers[0].headers or {}).get("Nats-Num-Pending", "") if answers else "-1"
    if promised != str(len(answers) - 1):
        raise NoAnswerError("a part of the answer is missing")
    found: dict[str, StoredMessage] = {}
    for answer in answers:
        headers = answer.headers or {}
        subject, seq = headers.get("Nats-Subject", ""), headers.get("Nats-Sequence", "")
        if not subject or not seq.isdigit():
            raise NoAnswerError("the answer is not JetStream's")
        found[subject] = StoredMessage(subject=subject, seq=int(seq), data=answer.data)
    return found


async def next_messages(
    link: NatsLink,
    stream: str,
    *,
    start_seq: int,
    messages_max: int,
    bytes_max: int,
    timeout_s: float,
    subject: str | None = None,
) -> list[StoredMessage]:
    """Return a stream's messages from a sequence on, as one replica holds them at one moment.

    Args:
        link: To the server.
        stream: The stream's name.
        start_seq: The first sequence of interest.
        messages_max: How many at most.
        bytes_max: How much at most.
        timeout_s: For the whole answer.
        subject: Only messages on it, which may hold wildcards; None: all.

    Returns:
        In the order of the stream, at least one if there is any, of at most ``bytes_max`` or one
        message more. Nothing: at that moment there was none from ``start_seq`` on.

    Raises:
        LinkError: No answer, or not all of it.
    """
    request: dict[str, object] = {"batch": messages_max, "max_bytes": bytes_max, "seq": start_seq}
    if subject is not None:
        request["next_by_subj"] = subject
    answers = await link.request_many(
        f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), timeout_s=timeout_s
    )
    end = answers.pop().headers or {}
    if end.get("Status") == "404" and not answers:
        return []
    last_seq = "0"
    found: list[StoredMessage] = []
    for answer in answers:
        headers = answer.headers or {}
        subject, seq = headers.get("Nats-Subject", ""), headers.get("Nats-Sequence", "")
        if not subject or not seq.isdigit() or headers.get("Nats-Last-Sequence") != last_seq:
            raise NoAnswerError("a part of the answer is missing")
        found.append(StoredMessage(subject=subject, seq=int(seq), data=answer.data))
        last_seq = seq
    if end.get("Status") != "204" or not found or end.get("Nats-Last-Sequence") != last_seq:
        raise NoAnswerError("the answer is not whole")
    return found


async def count_messages(
    link: NatsLink, stream: str, subject: str, *, timeout_s: float = API_TIMEOUT_S
) -> int:
    """Return how many messages a stream has on subjects that may hold wildcards.

    One small request; the server goes through its index of those subjects.

    Raises:
        LinkError: No answer.
    """
    request = {"next_by_subj": subject, "batch": 1}
    answers = await link.request_many(
        f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), timeout_s=timeout_s
    )
    if len(answers) == 1 and (answers[0].headers or {}).get("Status") == "404":
        return 0
    pending = (answers[0].headers or {}).get("Nats-Num-Pending", "")
    if not pending.isdigit():
        raise NoAnswerError("the answer is not JetStream's")
    return int(pending) + 1
