"""Events as CloudEvents 1.0 in structured JSON mode (DESIGN.md section 4)."""

from datetime import datetime
from functools import cache
from uuid import UUID

import msgspec

from domain.events import Event

CONTENT_TYPE = "application/cloudevents+json"


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
_OF_ATTEMPTS = frozenset({"attempt_id", "failure_class", "code", "provider_code", "retry_at"})


@cache
def _left_out_where_unknown(event_type: type[Event]) -> tuple[str, ...]:
    """Return the fields that only a refresh at a provider fills."""
    return tuple(name for name in event_type.__struct_fields__ if name in _OF_ATTEMPTS)


def encode_event(event: Event, *, source: str) -> bytes:
    """Return the body of the message that carries ``event``.

    Args:
        event: Any event of the domain.
        source: ``/refreshd/<daemon>``.
    """
    data = msgspec.structs.asdict(event)
    del data["id"], data["occurred_at"]
    for name in _left_out_where_unknown(type(event)):
        if data[name] is None:
            del data[name]
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
