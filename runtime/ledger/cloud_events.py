"""Events as CloudEvents 1.0 in structured JSON mode (DESIGN.md section 4)."""

from functools import cache
from typing import NamedTuple

import msgspec

from domain.events import Event
from domain.trace import Trace

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
    # or ends where the next begins. Nothing before the slug can hold a quote that is not escaped.
    # Between time and user stand the attributes of a trace, where there is one, in order for both.
    fields = _encoder.encode(event)
    id_at, id_end, time_at, between = _frame(type(event), source)
    time_end = fields.index(_BEFORE_USER, time_at)
    connection_at = time_end + len(_BEFORE_USER) + _UUID_LENGTH + len(_BEFORE_CONNECTION)
    event_id = fields[id_at:id_end]
    connection_id = fields[connection_at : connection_at + _UUID_LENGTH]
    body = (
        b'{"specversion":"1.0","id":"%b%b%b","time":"%b",'
        b'"datacontenttype":"application/json","data":{%b}'
        % (event_id, between, connection_id, fields[time_at:time_end], fields[time_end + 2 :])
    )
    return CloudEvent(event_id.decode(), connection_id.decode(), body)


def trace_lines(event: Event) -> str:
    """Return the headers of an event that belongs to a trace, each ended by CRLF.

    Source:
        CloudEvents, extension "Distributed Tracing"; the same two are attributes of the body.
    """
    assert event.traceparent is not None
    headers = Trace(event.traceparent, event.tracestate).headers
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


@cache
def _frame(event_type: type[Event], source: str) -> tuple[int, int, int, bytes]:
    """Return where id and time are in an event's encoding, and what comes behind the id here."""
    name = event_type.__name__.encode()
    id_at = len(b'{"type":"%b","id":"' % name)
    id_end = id_at + _UUID_LENGTH
    between = b'","source":%b,"type":"%b","subject":"' % (_encoder.encode(source), name)
    return id_at, id_end, id_end + len(_BEFORE_TIME), between
