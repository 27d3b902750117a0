"""JSON Schemas of bodies, answers and events, made of the types that decode and encode them.

They are of draft 2020-12, and of draft 07 as well, which AsyncAPI takes. What a body must be
beyond its types' word (one of six names, one field or the other) is added here.
"""

import inspect
import re
import typing
from typing import Any

import msgspec

from domain.credentials import CredentialType
from domain.events import Event
from domain.profile import RefreshMode
from domain.result import Failure
from domain.trace import PARENT, STATE
from runtime.contract.commands import COMMANDS, Command
from runtime.gateway.bodies import OAuth2Secret

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EVENT_TYPES: tuple[type[Event], ...] = typing.get_args(Event)
_FOR_READERS_OF_CODE = re.compile(r" \((?:DESIGN|PROVIDERS|seed)[^)]*\)| Never shows\.")
TRACE: dict[str, dict[str, Any]] = {
    name: {"type": "string", "description": "Of the command's trace (W3C)."}
    for name in (PARENT, STATE)
}
"""Headers of a command, and attributes and headers of its events."""
_NOT_IN_DATA = ("type", "id", "occurred_at", *TRACE)

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return all schemas in one document: ``$defs``, by name."""
    return {
        "$schema": DRAFT,
        "title": "What refreshd takes, answers and tells",
        "$defs": definitions("#/$defs/{name}"),
    }


def definitions(ref_template: str) -> dict[str, Schema]:
    """Return each schema by its name.

    Args:
        ref_template: How one refers to another, with ``{name}`` in it.
    """
    types = [command.body for command in COMMANDS]
    types += [command.value for command in COMMANDS if command.value is not None]
    types += [OAuth2Secret, Failure, *EVENT_TYPES]
    _, found = msgspec.json.schema_components(
        [*types, CredentialType, RefreshMode], ref_template=ref_template
    )
    schemas = {name: _mended(schema) for name, schema in found.items()}

    def ref(name: str) -> Schema:
        return {"$ref": ref_template.format(name=name)}

    _be_stricter(schemas, ref)
    for kind in EVENT_TYPES:
        name = kind.__name__
        schemas[f"{name}Data"] = _data(schemas[name], name)
        schemas[name] = _cloud_event(name, schemas[name]["description"], ref(f"{name}Data"))
    schemas["FailureAnswer"] = _object({"error": ref("Failure")}, "What a refusal is answered by.")
    for command in COMMANDS:
        schemas[f"{command.name}Answer"] = _answer(command, ref)
    return dict(sorted(schemas.items()))


def _answer(command: Command, ref: typing.Callable[[str], Schema]) -> Schema:
    """Return what a command is answered by, one way or the other."""
    value: Schema = {"type": "object"} if command.is_open else {"type": "null"}
    if command.value is not None:
        value = ref(command.value.__name__)
    done = _object({"ok": value}, "It was done.")
    return {"description": command.summary, "oneOf": [done, ref("FailureAnswer")]}


def _data(event: Schema, name: str) -> Schema:
    """Return the ``data`` of an event: its fields but those that are the envelope's."""
    fields = {k: v for k, v in event["properties"].items() if k not in _NOT_IN_DATA}
    required = [field for field in event["required"] if field not in _NOT_IN_DATA]
    return {
        "title": f"{name}Data",
        "description": event["description"],
        "type": "object",
        "properties": fields,
        "required": required,
    }


def _cloud_event(name: str, description: str, data: Schema) -> Schema:
    """Return the envelope (CloudEvents 1.0, structured mode) of one type of event."""
    fields: dict[str, Schema] = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "format": "uuid"},
        "source": {"type": "string", "format": "uri-reference"},
        "type": {"const": name},
        "subject": {"type": "string", "format": "uuid"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "data": data,
    }
    schema = {"title": name, **_object(fields, description)}
    return {**schema, "properties": fields | TRACE}


def _object(fields: dict[str, Schema], description: str) -> Schema:
    return {
        "description": description,
        "type": "object",
        "properties": fields,
        "required": list(fields),
    }


def _be_stricter(schemas: dict[str, Schema], ref: typing.Callable[[str], Schema]) -> None:
    """Say what the daemon asks of a body beyond the types of its fields."""
    credentials = schemas["CredentialsBody"]
    fields = credentials["properties"]
    fields["credential_type"] = ref("CredentialType")
    fields["secret"] = {"anyOf": [ref("OAuth2Secret"), {"type": "object"}]}
    fields["encrypted_data"] = {"type": "string", "contentEncoding": "base64"}
    credentials["required"] = ["credential_type"]
    credentials["oneOf"] = [{"required": ["secret"]}, {"required": ["encrypted_data"]}]
    connect = schemas["ConnectBody"]
    connect["properties"]["refresh"] = {"anyOf": [ref("RefreshMode"), {"type": "null"}]}
    is_pending = {"required": ["pending"], "properties": {"pending": {"const": True}}}
    connect["anyOf"] = [{"required": ["credentials"]}, is_pending]
    schemas["ListQuery"]["properties"]["status"] = {
        "anyOf": [ref("ConnectionStatus"), {"type": "null"}]
    }


def _mended(schema: Any, name: str = "") -> Any:  # noqa: ANN401 -- any part of a schema
    """Return a schema in words that are not Python's: times, patterns, descriptions.

    Args:
        schema: As msgspec makes it, or a part of it.
        name: The property that it is of.
    """
    if isinstance(schema, list):
        return [_mended(one, name) for one in typing.cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    mended: Schema = {}
    for key, value in typing.cast("Schema", schema).items():
        match key:
            case "description":
                text = inspect.cleandoc(value).replace("``", "`")
                mended[key] = _FOR_READERS_OF_CODE.sub("", text)
            case "pattern":
                mended[key] = value.replace(r"\A", "^").replace(r"\Z", "$")
            case "properties":
                mended[key] = {field: _mended(one, field) for field, one in value.items()}
            case _:
                mended[key] = _mended(value, name)
    if mended == {"type": "string"} and (name == "at" or name.endswith("_at")):
        mended["format"] = "date-time"
    return mended
