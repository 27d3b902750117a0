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
_OF_THE_ENVELOPE = frozenset({"id", "occurred_at"})
_OF_ATTEMPTS = frozenset({"attempt_id", "failure_class", "code", "provider_code", "retry_at"})


@cache
def _data_fields(event_type: type[Event]) -> tuple[tuple[str, bool], ...]:
    """Return the fields that go into ``data``, and whether they are left out where unknown.

    All but those the envelope has. Only what a refresh at a provider adds is ever left out.
    """
    names = event_type.__struct_fields__
    return tuple((name, name in _OF_ATTEMPTS) for name in names if name not in _OF_THE_ENVELOPE)


def encode_event(event: Event, *, source: str) -> bytes:
    """Return the body of the message that carries ``event``.

    Args:
        event: Any event of the domain.
        source: ``/refreshd/<daemon>``.
    """
    data: dict[str, object] = {
        name: value
        for name, is_optional in _data_fields(type(event))
        if (value := getattr(event, name)) is not None or not is_optional
    }
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
