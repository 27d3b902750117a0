"""Events as CloudEvents 1.0 in structured JSON mode (DESIGN.md section 4)."""

from functools import cache
from typing import NamedTuple

import msgspec

from domain.events import Event

CONTENT_TYPE = "application/cloudevents+json"
_UUID_LENGTH = 36
_BEFORE_TIME, _BEFORE_USER, _BEFORE_CONNECTION = (
    b'","occurred_at":"',
    b'","user_id":"',
    b'","connection_id":"',
)
_encoder = msgspec.json.Encoder()


class CloudEvent(NamedTuple):
    """An event as it is published."""

    id: str
    connection_id: str
    body: bytes


def encode_event(event: Event, *, source: str) -> CloudEvent:
    """Return the message that carries ``event``; ``data`` is its fields without id and time.

    Args:
        event: Any event of the domain. What only a refresh at a provider fills is left out
            where it is not known.
        source: ``/refreshd/<daemon>``.
    """
    # One encoding holds it all in the order of the fields, and each is as long as it always is
    # or ends where the next begins. Nothing before the slug can hold a quote.
    fields = _encoder.encode(event)
    start = _id_at(type(event))
    id_end = start + _UUID_LENGTH
    time_at = id_end + len(_BEFORE_TIME)
    time_end = fields.index(_BEFORE_USER, time_at)
    connection_at = time_end + len(_BEFORE_USER) + _UUID_LENGTH + len(_BEFORE_CONNECTION)
    event_id, connection_id = (
        fields[start:id_end],
        fields[connection_at : connection_at + _UUID_LENGTH],
    )
    body = (
        b'{"specversion":"1.0","id":"%b","source":%b,"type":"%b","subject":"%b","time":"%b",'
        b'"datacontenttype":"application/json","data":{%b}'
        % (
            event_id,
            _quoted(source),
            type(event).__name__.encode(),
            connection_id,
            fields[time_at:time_end],
            fields[time_end + 2 :],
        )
    )
    return CloudEvent(event_id.decode(), connection_id.decode(), body)


@cache
def _id_at(event_type: type[Event]) -> int:
    """Return where an event's id begins in its encoding."""
    return len(b'{"type":"%b","id":"' % event_type.__name__.encode())


@cache
def _quoted(source: str) -> bytes:
    return _encoder.encode(source)
