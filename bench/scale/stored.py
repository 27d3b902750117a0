"""What the records and the events say: when each connection was due, and what became of it."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from bench.scale.importing import Wanted
from bench.scale.provider import MARGIN_FRACTION, SLUGS
from bench.views import WrongOutcomeError
from domain.due import next_due
from domain.looks import epoch_s, urgent_at
from domain.profile import ProviderProfile
from domain.record import decode_record
from runtime.ledger.streams import PARTITIONS_DEFAULT
from runtime.ledger.subjects import (
    EVENT_STREAM,
    NO_TAG,
    bucket_stream,
    partition_of,
    record_key_subject,
)
from runtime.nats.direct_get import last_messages
from runtime.nats.jetstream_api import stream_info
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream

_AT_ONCE = 400
_PATIENCE_S = 60.0
_TIME = b'"time":"'
_EXPIRING = b'"type":"ProviderGrantExpiring"'
_EVENT_TOKENS = 7
_PROFILES = {
    slug: ProviderProfile(slug=slug, margin_s=margin_s, margin_fraction=MARGIN_FRACTION)
    for slug, margin_s in SLUGS.items()
}


class _Why(msgspec.Struct):
    reason: str


class _Failed(msgspec.Struct):
    """The part of an event that is read."""

    data: _Why


class Planned(NamedTuple):
    """When a connection is due by its record; seconds since the epoch."""

    at_s: float
    urgent_s: float


class Seen(NamedTuple):
    """What events tell, by connection."""

    begun_s: dict[str, list[float]]
    """When each provider call was begun."""
    ended_s: dict[str, list[float]]
    """When each refresh was done."""
    failed: Counter[str]
    """Why refreshes failed, and how many."""
    warned: Counter[str]
    """How often somebody was told that a grant ends."""


async def planned(link: NatsLink, connections: Iterable[Wanted]) -> dict[str, Planned]:
    """Return when each is due, by what the buckets hold.

    Raises:
        WrongOutcomeError: A record is not there, or says another time than the domain.
    """
    by_partition = defaultdict[int, dict[str, str]](dict)
    for one in connections:
        partition, text = partition_of(one.id, PARTITIONS_DEFAULT), str(one.id)
        by_partition[partition][record_key_subject(partition, text, NO_TAG)] = text
    found: dict[str, Planned] = {}
    for partition, subjects in by_partition.items():
        names = [*subjects]
        for start in range(0, len(names), _AT_ONCE):
            found |= await _read(link, partition, names[start : start + _AT_ONCE])
    return found


async def _read(link: NatsLink, partition: int, subjects: list[str]) -> dict[str, Planned]:
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        stored = await last_messages(link, bucket_stream(partition, NO_TAG), subjects, timeout_s=10)
        if len(stored) == len(subjects):
            return dict(_due(one.data) for one in stored.values())
        if time.monotonic() > until_s:
            raise WrongOutcomeError(f"{len(subjects) - len(stored)} records are missing")
        await asyncio.sleep(0.2)


def _due(data: bytes) -> tuple[str, Planned]:
    record = decode_record(data)
    connection = record.connection
    profile = _PROFILES[connection.provider_slug]
    due = next_due(connection, profile)
    if due is None or due.at != record.next_due:
        raise WrongOutcomeError(f"{connection.id} is due at {due}, by its record otherwise")
    urgent = urgent_at(connection, profile, due.at)
    return str(connection.id), Planned(epoch_s(due.at), epoch_s(urgent))


async def last_event(link: NatsLink) -> int:
    """Return the sequence of the last event so far."""
    info = await stream_info(link, EVENT_STREAM)
    assert info is not None
    return info.state.last_seq


async def events_since(link: NatsLink, start_seq: int) -> Seen:
    """Return what the events after a sequence tell."""
    seen = Seen(defaultdict(list), defaultdict(list), Counter(), Counter())
    async for message in read_stream(link, EVENT_STREAM, start_seq=start_seq + 1, wait_s=30.0):
        tokens = message.subject.split(".")
        if len(tokens) != _EVENT_TOKENS:
            continue
        connection_id, step = tokens[4], (tokens[5], tokens[6])
        if step == ("token_refresh", "attempted"):
            seen.begun_s[connection_id].append(_time_of(message.data))
        elif step == ("token_refresh", "succeeded"):
            seen.ended_s[connection_id].append(_time_of(message.data))
        elif step == ("token_refresh", "failed"):
            seen.failed[msgspec.json.decode(message.data, type=_Failed).data.reason] += 1
        elif step == ("status", "changed") and _EXPIRING in message.data:
            seen.warned[connection_id] += 1
    return seen


def _time_of(event: bytes) -> float:
    begin = event.index(_TIME) + len(_TIME)
    return datetime.fromisoformat(event[begin : event.index(b'"', begin)].decode()).timestamp()
