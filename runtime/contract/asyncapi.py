"""The AsyncAPI document: which subjects there are, and what is said on each.

Source:
    AsyncAPI 3.1.0; its NATS binding 0.1.0.
"""

from typing import Any

from runtime import VERSION
from runtime.contract.commands import COMMANDS, Command
from runtime.contract.schemas import EVENT_TYPES, TRACE, definitions
from runtime.gateway.subjects import QUEUE_GROUP
from runtime.gateway.wire import (
    MESSAGE_ID_HEADER,
    TIMEOUT_HEADER,
    TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX,
)
from runtime.ledger.cloud_events import CONTENT_TYPE

_DESCRIPTION = (
    "A daemon that owns OAuth grants: one actor per connection, so concurrent token refreshes "
    "never race. Commands are NATS requests, and the answer comes to the request's reply "
    "subject; every step of every connection is an event."
)
_PARAMETERS = {
    "connection_id": {"description": "The connection's UUID, in canonical lower-case form."},
    "provider_slug": {"description": "The provider's name in the daemon's configuration."},
}
_QUEUE = {"nats": {"queue": QUEUE_GROUP, "bindingVersion": "0.1.0"}}
_TEXT = {"type": "string"}

Part = dict[str, Any]


def asyncapi(prefix: str) -> Part:
    """Return the document of a daemon whose subjects begin with ``prefix``."""
    replies = {f"{one.name}Answer": _ref("messages", f"{one.name}Answer") for one in COMMANDS}
    return {
        "asyncapi": "3.1.0",
        "info": {"title": "refreshd", "version": VERSION, "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {
            **{one.name: _command_channel(one, prefix) for one in COMMANDS},
            "Replies": {
                "address": None,
                "description": "The reply subject of each request.",
                "messages": replies,
            },
            **_event_channels(prefix),
        },
        "operations": {
            **{f"take{one.name}": _command_operation(one) for one in COMMANDS},
            **{
                f"tell{name}": {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
                for name in _event_channels(prefix)
            },
        },
        "components": {
            "messages": _messages(),
            "schemas": definitions("#/components/schemas/{name}") | _headers(),
        },
    }


def _ref(kind: str, name: str) -> Part:
    return {"$ref": f"#/components/{kind}/{name}"}


def _channel(address: str, messages: list[str]) -> Part:
    """Return where such messages go."""
    parameters = {name: said for name, said in _PARAMETERS.items() if f"{{{name}}}" in address}
    return {
        "address": address,
        "messages": {name: _ref("messages", name) for name in messages},
        **({"parameters": parameters} if parameters else {}),
    }


def _command_channel(command: Command, prefix: str) -> Part:
    return _channel(f"{prefix}.{command.subject}", [command.name])


def _command_operation(command: Command) -> Part:
    """Return that the daemon takes a command, and where it answers."""
    answer = f"#/channels/Replies/messages/{command.name}Answer"
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{command.name}"},
        "summary": command.summary,
        "bindings": _QUEUE,
        "reply": {"channel": {"$ref": "#/channels/Replies"}, "messages": [{"$ref": answer}]},
    }


def _event_channels(prefix: str) -> dict[str, Part]:
    """Return the subjects of events: one for each workflow and outcome."""
    types: dict[tuple[str, str], list[str]] = {}
    for kind in EVENT_TYPES:
        types.setdefault((kind.workflow.value, kind.outcome.value), []).append(kind.__name__)
    subject = f"{prefix}.event.{{provider_slug}}.{{connection_id}}"
    return {
        "".join(word.title() for word in (*workflow.split("_"), outcome)): _channel(
            f"{subject}.{workflow}.{outcome}", names
        )
        for (workflow, outcome), names in types.items()
    }


def _messages() -> dict[str, Part]:
    """Return every message by its name."""
    messages: dict[str, Part] = {}
    for command in COMMANDS:
        headers = "ChangeHeaders" if command.changes else "ReadHeaders"
        messages[command.name] = {
            "summary": command.summary,
            "headers": _ref("schemas", headers),
            "payload": _ref("schemas", command.body.__name__),
        }
        messages[f"{command.name}Answer"] = {
            "headers": _ref("schemas", "AnswerHeaders"),
            "payload": _ref("schemas", f"{command.name}Answer"),
        }
    for kind in EVENT_TYPES:
        messages[kind.__name__] = {
            "contentType": CONTENT_TYPE,
            "headers": _ref("schemas", "EventHeaders"),
            "payload": _ref("schemas", kind.__name__),
        }
    return messages


def _headers() -> dict[str, Part]:
    """Return the schemas of the messages' headers, whose values are all texts."""
    time_limit = {
        TIMEOUT_HEADER: {
            **_TEXT,
            "pattern": "^[0-9]{1,6}$",
            "description": "How long the caller waits, in milliseconds, "
            f"1 to {TIMEOUT_MS_MAX}; {TIMEOUT_MS_DEFAULT} where it is not there.",
        }
    }
    message_id = {
        MESSAGE_ID_HEADER: {
            **_TEXT,
            "description": "Unique across commands; a repeat with it has no second effect.",
        }
    }
    service_error = {
        "Nats-Service-Error": {**_TEXT, "description": "The failure's message."},
        "Nats-Service-Error-Code": {**_TEXT, "pattern": "^[0-9]{3}$"},
    }
    event_id = {MESSAGE_ID_HEADER: {**_TEXT, "format": "uuid", "description": "The event's id."}}
    return {
        "ReadHeaders": {"type": "object", "properties": time_limit | TRACE},
        "ChangeHeaders": {"type": "object", "properties": time_limit | message_id | TRACE},
        "AnswerHeaders": {"type": "object", "properties": service_error},
        "EventHeaders": {
            "type": "object",
            "properties": {**event_id, "content-type": {"const": CONTENT_TYPE}, **TRACE},
            "required": [*event_id, "content-type"],
        },
    }
