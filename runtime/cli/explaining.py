"""``explain`` and ``history``: one connection in words, and what happened to it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from domain.list_query import HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX
from domain.result import Failure, Success
from domain.time_words import when
from runtime.cli.asking import (
    EXIT_USAGE,
    Asking,
    CommandError,
    as_token,
    run_and_show,
    to_stderr,
)
from runtime.cli.client import CommandClient
from runtime.cli.event_words import Told, told
from runtime.cli.tables import Column, cell, show_named, show_row
from runtime.nats.errors import LinkError

_HERE = Asking()
_LAST_EVENTS = 4
_HISTORY = (
    Column("TIME", 20),
    Column("EVENT", 13),
    Column("OUTCOME", 12),
    Column("TOOK", 7),
    Column("DETAIL", 0),
)
_NOBODY = "nobody"


def explain(connection_id: str, *, asking: Asking = _HERE) -> None:
    """Tell of a connection where it stands, why, what comes next, and who must do what.

    Parameters
    ----------
    connection_id
        Its UUID.
    """
    token = as_token(connection_id)

    async def explained(client: CommandClient) -> Success[Any] | Failure:
        answer = await client.call(f"connection.{token}.explain")
        if isinstance(answer, Failure):
            return answer
        return Success({**answer.value, "last": await _last(client, token)})

    run_and_show(asking, explained, show_explanation)


async def _last(client: CommandClient, token: str) -> list[dict[str, Any]] | None:
    """Return the newest events; None, and the cause on stderr, where they cannot be read."""
    try:
        page = await client.call(f"connection.{token}.history", {"limit": _LAST_EVENTS})
    except LinkError as error:
        to_stderr(f"refreshd: what happened last cannot be read: {error}")
        return None
    if isinstance(page, Failure):
        to_stderr(f"refreshd: what happened last cannot be read: {page.message}")
        return None
    return [one["event"] for one in page.value["events"]]


def show_explanation(value: Mapping[str, Any]) -> str:
    """Return an explanation with the last events, for people."""
    now = datetime.fromisoformat(value["as_of"])
    advice = value["advice"]
    who = "" if advice["who"] == _NOBODY else f"{advice['who']}: "
    last = _last_words(value["last"], now)
    lines = [
        ("stands", value["stands"]),
        *_under("because", value["because"]),
        *_under("last", last),
        ("next", value["next"]["text"]),
        ("to do", f"{who}{advice['text']}"),
    ]
    head = f"{value['connection_id']}  {value['provider_slug']}"
    return f"{head}\n\n{show_named([(name, cell(text)) for name, text in lines])}"


def _last_words(events: Sequence[Mapping[str, Any]] | None, now: datetime) -> list[str]:
    if events is None:
        return ["not known"]
    if not events:
        return ["the event stream has nothing of it any more"]
    return [
        f"{when(datetime.fromisoformat(event['time']), now)} {one.what} {one.outcome}"
        f"{': ' * bool(one.detail)}{one.detail}"
        for event, one in zip(events, told(events), strict=True)
    ]


def _under(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return texts under one name."""
    return [(name if place == 0 else "", text) for place, text in enumerate(texts)]


def history(
    connection_id: str, *, limit: int = HISTORY_LIMIT_DEFAULT, asking: Asking = _HERE
) -> None:
    """Show what happened to a connection, the newest last.

    Parameters
    ----------
    connection_id
        Its UUID.
    limit
        At most so many events, the newest ones.
    """
    if limit < 1:
        raise CommandError("--limit: at least 1", EXIT_USAGE)
    token = as_token(connection_id)

    async def read(client: CommandClient) -> Success[Any] | Failure:
        events: list[dict[str, Any]] = []
        before: int | None = None
        while True:
            wanted = min(HISTORY_LIMIT_MAX, limit - len(events))
            body = {"before": before, "limit": wanted}
            page = await client.call(f"connection.{token}.history", body)
            if isinstance(page, Failure):
                return page
            events[:0] = [one["event"] for one in page.value["events"]]
            before = page.value["cursor"]
            if before is None or len(events) >= limit:
                break
        if not events:
            # Nothing is told any more of one that has been quiet for long; one that never was is.
            known = await client.call(f"connection.{token}.get")
            if isinstance(known, Failure):
                return known
        return Success(events)

    run_and_show(asking, read, lambda events: show_history(told(events)))


def show_history(events: Sequence[Told]) -> str:
    """Return a table of events."""
    head = show_row([column.head for column in _HISTORY], _HISTORY)
    return "\n".join([head, *(show_row([cell(text) for text in one], _HISTORY) for one in events)])
