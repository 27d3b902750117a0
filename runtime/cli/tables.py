"""Text for people: connections, fields and events."""

import io
import json
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH = 300
"""No column is ever squeezed: an alias has at most 100 characters."""


def show_fields(value: Mapping[str, Any]) -> str:
    """Return one ``name  value`` line per field."""
    width = max(map(len, value), default=0)
    return "\n".join(f"{name:<{width}}  {_cell(field)}" for name, field in value.items())


def show_connections(connections: list[dict[str, Any]]) -> str:
    """Return a table of connections."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("ID", "PROVIDER", "STATUS", "GENERATION", "EXPIRES", "ALIAS"):
        table.add_column(column, no_wrap=True)
    for connection in connections:
        credentials = connection["credentials"] or {}
        table.add_row(
            *(
                Text(_cell(value))
                for value in (
                    connection["id"],
                    connection["provider_slug"],
                    connection["status"],
                    str(connection["generation"]),
                    credentials.get("expires_at"),
                    connection["alias"],
                )
            )
        )
    text = io.StringIO()
    Console(file=text, width=_WIDTH).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


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
