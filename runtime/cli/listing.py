"""``refreshd list``: connections, shown page by page as they come."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from domain.connection import ConnectionStatus
from domain.list_query import LIST_LIMIT_MAX
from domain.result import Failure, Success
from runtime.cli.asking import (
    EXIT_USAGE,
    Asking,
    CommandError,
    run_and_show,
    show_done,
    with_one_name,
)
from runtime.cli.client import CommandClient
from runtime.cli.tables import connection_head, show_connection

_HERE = Asking()


def list_command(
    *,
    user_id: str | None = None,
    provider_slug: str | None = None,
    status: ConnectionStatus | None = None,
    needs_action: Annotated[bool, Parameter(negative=())] = False,
    limit: int | None = None,
    asking: Asking = _HERE,
) -> None:
    """List connections.

    Parameters
    ----------
    user_id
        Only this owner's.
    provider_slug
        Only at this provider.
    status
        Only those that stand so.
    needs_action
        Only those of which somebody must act soon, and why: they have ended, end within 7 days, or
        end and have no refresh token.
    limit
        At most so many; all without it.
    """
    if limit is not None and limit < 1:
        raise CommandError("--limit: at least 1", EXIT_USAGE)
    query: dict[str, Any] = {"user_id": user_id, "provider_slug": provider_slug, "status": status}
    if needs_action:
        query["needs_action"] = True
    run_and_show(
        asking,
        lambda client: show_listing(client, query, limit=limit, output=asking.output),
        show_done,
        prints=False,
    )


async def show_listing(
    client: CommandClient, query: Mapping[str, Any], *, limit: int | None, output: str
) -> Success[None] | Failure:
    """Print each connection once: in a table, a JSON array or a line each; pages as they come.

    Nothing is printed before the first page; a failure later leaves what was printed as it is.

    Raises:
        LinkError: No daemon listens, or no answer came.
    """
    shown = _shown(output, with_action=bool(query.get("needs_action")))
    seen: set[str] = set()
    cursor: str | None = None
    while True:
        wanted = LIST_LIMIT_MAX if limit is None else min(LIST_LIMIT_MAX, limit - len(seen))
        body = {**query, "cursor": cursor, "limit": wanted}
        page = await client.call("connections.list", body)
        if isinstance(page, Failure):
            return page
        # One that was written meanwhile may come again.
        named = map(with_one_name, page.value["connections"])
        fresh = [one for one in named if one["connection_id"] not in seen]
        seen.update(one["connection_id"] for one in fresh)
        shown.add(fresh)
        cursor = page.value["cursor"]
        if cursor is None or len(seen) == limit:
            shown.end()
            return Success(None)


def _shown(output: str, *, with_action: bool) -> "_Table | _JsonArray | _JsonLines":
    match output:
        case "json":
            return _JsonArray()
        case "jsonl":
            return _JsonLines()
        case _:
            return _Table(with_action=with_action)


class _Table:
    """Prints connections for people."""

    def __init__(self, *, with_action: bool) -> None:
        self._with_action = with_action
        self._head = [connection_head(with_action=with_action)]

    def add(self, connections: Sequence[Mapping[str, Any]]) -> None:
        """Print some more."""
        if self._with_action and not connections:
            return
        shown = (show_connection(one, with_action=self._with_action) for one in connections)
        lines = [*self._head, *shown]
        self._head = []
        if lines:
            print("\n".join(lines), flush=True)

    def end(self) -> None:
        """Say where there was nobody to act for."""
        if self._with_action and self._head:
            print("nobody must act")


class _JsonArray:
    """Prints connections for programs."""

    def __init__(self) -> None:
        self._before = "[\n"

    def add(self, connections: Sequence[Mapping[str, Any]]) -> None:
        """Print some more."""
        for connection in connections:
            text = textwrap.indent(json.dumps(connection, indent=2), "  ")
            print(self._before + text, end="", flush=connection is connections[-1])
            self._before = ",\n"

    def end(self) -> None:
        """Close it."""
        print("[]" if self._before.startswith("[") else "\n]")


class _JsonLines:
    """Prints connections for programs that take a line at a time."""

    def add(self, connections: Sequence[Mapping[str, Any]]) -> None:
        """Print some more."""
        for connection in connections:
            print(json.dumps(connection), flush=connection is connections[-1])

    def end(self) -> None:
        """Print nothing."""
