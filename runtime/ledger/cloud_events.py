"""Events as CloudEvents 1.0 in structured JSON mode (DESIGN.md section 4)."""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.events import Event

CONTENT_TYPE = "application/cloudevents+json"
_FIRST_OF_DATA = b'"user_id":'


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. ``data`` is the event's fields without its id and time."""

    specversion: str = "1.0"
    id: UUID
    source: str
    type: str
    subject: UUID
    time: datetime
    datacontenttype: str = "application/json"
    data: msgspec.Raw


_encoder = msgspec.json.Encoder()


def encode_event(event: Event, *, source: str) -> bytes:
    """Return the body of the message that carries ``event``.

    Args:
        event: Any event of the domain. What only a refresh at a provider fills is left out
            where it is not known.
        source: ``/refreshd/<daemon>``.
    """
    # An event's type, id and time come before its data, and none of them can hold a quote.
    fields = _encoder.encode(event)
    data = msgspec.Raw(b"{" + fields[fields.index(_FIRST_OF_DATA) :])
    return _encoder.encode(
        CloudEvent(
            id=event.id,
            source=source,
            type=type(event).__name__,
            subject=event.connection_id,
            time=event.occurred_at,
            data=data,
        )
    )
