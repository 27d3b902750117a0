"""What a daemon must be allowed on its NATS server: SECURITY.md's user ``daemon``, as data."""

from collections.abc import Iterator
from typing import NamedTuple

from runtime.ledger.subjects import (
    bucket_name,
    bucket_stream,
    event_markers,
    event_stream,
    heartbeats,
    ledger_stream,
    ledger_subject,
    owner_subjects,
)

_API = "$JS.API"


class Rights(NamedTuple):
    """Subjects that may have wildcards."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def daemon_rights(*, prefix: str, tag: str, partitions: int, inbox: str) -> Rights:
    """Return what a daemon needs while it runs.

    Args:
        prefix: Of its commands.
        tag: What stands for the prefix in the names of streams.
        partitions: How many there are.
        inbox: How its inboxes begin.
    """
    owner = f"{owner_subjects(tag)}>"
    publish = (
        *(event_markers(tag), owner, heartbeats(tag), f"{prefix}.event.>", f"{inbox}.>"),
        *_on_stream(event_stream(tag), "STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"),
        *(one for number in range(partitions) for one in _of_partition(number, tag)),
    )
    endpoints = ("connect", "connection.*.*", "connections.list", "status")
    subscribe = (
        *(f"{prefix}.{endpoint}" for endpoint in endpoints),
        *("$SRV.PING.refreshd", "$SRV.INFO.refreshd", "$SRV.STATS.refreshd"),
        *(owner, heartbeats(tag), f"{inbox}.>"),
    )
    return Rights(publish, subscribe)


def _of_partition(number: int, tag: str) -> Iterator[str]:
    bucket, ledger = bucket_stream(number, tag), ledger_stream(number, tag)
    yield ledger_subject(number, tag)
    yield f"$KV.{bucket_name(number, tag)}.>"
    yield from _on_stream(bucket, "STREAM.INFO", "STREAM.PURGE", "STREAM.MSG.GET", "DIRECT.GET")
    yield from _on_stream(ledger, "STREAM.INFO", "STREAM.PURGE", "STREAM.MSG.GET")
    for stream in (bucket, ledger):
        yield f"{_API}.CONSUMER.CREATE.{stream}"
        yield f"{_API}.CONSUMER.MSG.NEXT.{stream}.*"
        yield f"{_API}.CONSUMER.DELETE.{stream}.*"


def _on_stream(stream: str, *requests: str) -> Iterator[str]:
    return (f"{_API}.{request}.{stream}" for request in requests)
