"""Text for people: connections, fields and events, no wider than the terminal.

A row that does not fit goes on in the next line, indented, as does its head: nothing is cut off,
so an id can always be copied. Without a terminal, or ``COLUMNS``, 80 columns are taken for it.
"""

import json
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_GAP = "  "
_INDENT = "    "


class Column(NamedTuple):
    """A column, and how wide it is at the least; the width is the same in every row."""

    head: str
    width: int


_CONNECTION = (
    Column("CONNECTION", 36),
    Column("PROVIDER", 12),
    Column("STATUS", 12),
    Column("USER", 36),
    Column("EXPIRES", 20),
    Column("GEN", 4),
    Column("ALIAS", 0),
)
_WITH_ACTION = (*_CONNECTION[:-1], Column("ALIAS", 12), Column("ACTION", 0))
_DETAILS = (
    *("reason", "needs_user_action", "from_status", "to_status"),
    *("grant_ends_at", "within_s", "cause"),
)
_EVENT = (
    Column("SEQUENCE", 8),
    Column("TIME", 20),
    Column("CONNECTION", 36),
    Column("EVENT", 31),
    Column("PROVIDER", 12),
    Column("DETAIL", 0),
)


def show_fields(value: Mapping[str, Any]) -> str:
    """Return one ``name  value`` line per field; a long value goes on below where it began."""
    return show_named([(name, cell(field)) for name, field in value.items()])


def show_named(lines: Sequence[tuple[str, str]]) -> str:
    """Return texts beside their names; a long one goes on below where it began.

    A word is never broken, nor what stands in backticks: paths and commands are to be copied, so
    they are longer than the line, if need be.
    """
    names, width = max((len(name) for name, _ in lines), default=0), _terminal_columns()
    indent = " " * min(names + len(_GAP), width // 2)
    return "\n".join(
        line
        for name, text in lines
        for line in _named(f"{name:<{names}}{_GAP}", text, width, indent)
    )


def connection_head(*, with_action: bool = False) -> str:
    """Return the head of a table of connections, and of why somebody must act."""
    columns = _WITH_ACTION if with_action else _CONNECTION
    return show_row([column.head for column in columns], columns)


def show_connection(connection: Mapping[str, Any], *, with_action: bool = False) -> str:
    """Return the row of one connection."""
    credentials = connection["credentials"] or {}
    values = (
        connection["connection_id"],
        connection["provider_slug"],
        connection["status"],
        connection["user_id"],
        _to_the_second(credentials.get("expires_at")),
        connection["generation"],
        connection["alias"],
    )
    if with_action:
        values = (*values, connection["needs_action"])
    return show_row([cell(one) for one in values], _WITH_ACTION if with_action else _CONNECTION)


def event_head() -> str:
    """Return the head of a list of events."""
    return show_row([column.head for column in _EVENT], _EVENT)


def show_event(sequence: int, event: Mapping[str, Any]) -> str:
    """Return the row of a CloudEvent."""
    data = event["data"]
    detail = " ".join(
        f"{name}={cell(data[name])}" for name in _DETAILS if data.get(name) is not None
    )
    named = (_to_the_second(event["time"]), event["subject"], event["type"], data["provider_slug"])
    return show_row([f"{sequence:>8}", *map(cell, named), detail], _EVENT)


def show_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table with the names of the fields as its head, as wide as its cells."""
    lines = [[name.upper() for name in rows[0]], *([*row.values()] for row in rows)]
    columns = [Column(cells[0], max(map(len, cells))) for cells in zip(*lines, strict=True)]
    return "\n".join(show_row(line, columns) for line in lines)


def show_row(cells: Sequence[str], columns: Sequence[Column]) -> str:
    """Return cells in their columns; those that do not fit beside the others go below.

    Where a line is broken is decided by the columns, not by the cells, so that each stands under
    its head. A last column without a width takes what room there is.
    """
    width = _terminal_columns()
    lines = [""]
    room = width
    for cell, column in zip(cells, columns, strict=True):
        if column.width > room and lines[-1]:
            lines.append(_INDENT)
            room = width - len(_INDENT)
        text = f"{cell:<{column.width}}"
        lines[-1] += text + _GAP
        room -= len(text) + len(_GAP)
    return "\n".join(part for line in lines for part in _wrapped(line, width, _INDENT))


def _terminal_columns() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _named(begin: str, text: str, width: int, indent: str) -> list[str]:
    """Return a text in as many lines as it takes; those after the first are indented."""
    lines, before = [begin], ""
    for word in _WORD.findall(text):
        if before and len(lines[-1]) + 1 + len(word) > width:
            lines.append(indent + word)
        else:
            lines[-1] += f" {word}" * bool(before) or word
        before = word
    return [line.rstrip() for line in lines]


_WORD = re.compile(r"(?:-> )?(?:`[^`]*`|\S)+")


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    """Return a row in as many lines as it takes; those after the first are indented."""
    parts = textwrap.wrap(
        line.rstrip(),
        width,
        subsequent_indent=indent,
        drop_whitespace=False,
        break_on_hyphens=False,
    )
    return [part.rstrip() for part in parts] or [""]


def _to_the_second(time: str | None) -> str | None:
    """Return a time without the fraction of its second."""
    return None if time is None else re.sub(r"\.[0-9]+", "", time)


def cell(value: object) -> str:
    """Return a value as text that a terminal can show."""
    match value:
        case None:
            return "-"
        case str():
            return "".join(c if c.isprintable() else "?" for c in value)
        case _:
            return json.dumps(value)
