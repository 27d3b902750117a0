"""Events as CloudEvents 1.0 in structured JSON mode (DESIGN.md section 4)."""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.events import Event

CONTENT_TYPE = "application/cloudevents+json"
_ENVELOPE_FIELDS = ("id", "occurred_at")


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. ``data`` is the event's fields without its id and time."""

    specversion: str = "1.0"
    id: UUID
    source: str
    type: str
    subject: UUID
    time: datetime
    datacontenttype: str = "application/json"
    data: dict[str, object]


_encoder = msgspec.json.Encoder()


def encode_event(event: Event, *, source: str) -> bytes:
    """Return the body of the message that carries ``event``.

    Args:
        event: Any event of the domain.
        source: ``/refreshd/<daemon>``.
    """
    data = msgspec.structs.asdict(event)
    for field in _ENVELOPE_FIELDS:
        del data[field]
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
