"""Holds JSON to the published schemas, and to no field more than they name."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from runtime.contract.schemas import json_schema

SCHEMA_FOLDER = Path(__file__).parent.parent.parent / "clients/schema"
FILES = {"asyncapi": "asyncapi.json", "json": "schemas.json"}
"""What ``refreshd schema`` of each kind prints is kept here."""


def closed(schema: Any) -> Any:
    """Return a schema by which an object has no other fields than are named."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if found.get("type") == "object" and found.get("properties"):
        found.setdefault("additionalProperties", False)
    return found


@cache
def validator(name: str, *, is_closed: bool = True) -> Draft202012Validator:
    """Return what tells whether JSON is what the schema of this name says."""
    schemas = copy.deepcopy(json_schema())
    document = closed(schemas) if is_closed else schemas
    return Draft202012Validator(
        {**document, "$ref": f"#/$defs/{name}"}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def faults(name: str, value: Any, *, is_closed: bool = True) -> list[str]:
    """Return what is wrong with JSON by the schema of this name."""
    found = validator(name, is_closed=is_closed).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]
