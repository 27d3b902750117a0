"""Text for people: connections, fields and events."""

import json
from collections.abc import Mapping
from typing import Any


def show_fields(value: Mapping[str, Any]) -> str:
    """Return one ``name  value`` line per field."""
    width = max(map(len, value), default=0)
    return "\n".join(f"{name:<{width}}  {_cell(field)}" for name, field in value.items())


def show_connections(connections: list[dict[str, Any]]) -> str:
    """Return a table of connections."""
    return "\n".join([connection_head(), *map(show_connection, connections)])


def connection_head() -> str:
    """Return the head of a table of connections."""
    return _row("ID", "PROVIDER", "STATUS", "GENERATION", "EXPIRES", "ALIAS")


def show_connection(connection: Mapping[str, Any]) -> str:
    """Return the row of one connection."""
    credentials = connection["credentials"] or {}
    return _row(
        *(
            _cell(value)
            for value in (
                connection["id"],
                connection["provider_slug"],
                connection["status"],
                connection["generation"],
                credentials.get("expires_at"),
                connection["alias"],
            )
        )
    )


def _row(*cells: str) -> str:
    """Return cells under each other's heads."""
    widths = (36, 12, 12, 10, 24, 0)
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def show_event(sequence: int, event: Mapping[str, Any]) -> str:
    """Return one line for a CloudEvent."""
    data = event["data"]
    detail = " ".join(
        f"{name}={_cell(data[name])}"
        for name in ("reason", "needs_user_action", "from_status", "to_status")
        if data.get(name) is not None
    )
    named = (event["time"], event["subject"], data["provider_slug"], event["type"])
    return "  ".join([f"{sequence:>8}", *map(_cell, named), detail]).rstrip()


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case str():
            return "".join(c if c.isprintable() else "?" for c in value)
        case _:
            return json.dumps(value)
