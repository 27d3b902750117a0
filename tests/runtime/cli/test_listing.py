"""``refreshd list`` shows each connection once, and each page before it asks for the next."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from domain.result import Failure, FailureCode, Success
from runtime.cli.asking import with_one_name
from runtime.cli.client import CommandClient
from runtime.cli.listing import show_listing

BUSY = Failure(code=FailureCode.OVERLOADED, message="busy")


def connection(number: int) -> dict[str, Any]:
    return {
        "id": str(UUID(int=number)),
        "user_id": str(UUID(int=7)),
        "provider_slug": "schwab",
        "status": "active",
        "generation": 1,
        "credentials": None,
        "alias": None,
        "needs_action": "because",
    }


class Daemon(CommandClient):
    """Answers with one page after another, and notes what was printed before each question."""

    def __init__(
        self, pages: Sequence[Sequence[int] | Failure], output: pytest.CaptureFixture[str]
    ) -> None:
        self._pages = list(pages)
        self._output = output
        self.asked: list[Any] = []
        self.printed: list[str] = []

    async def call(self, subject: str, body: object = None) -> Success[Any] | Failure:
        assert subject == "connections.list"
        self.note()
        self.asked.append(body)
        page = self._pages.pop(0)
        if isinstance(page, Failure):
            return page
        cursor = f"c{len(self.asked)}" if self._pages else None
        return Success({"connections": list(map(connection, page)), "cursor": cursor})

    def note(self) -> None:
        self.printed.append(self._output.readouterr().out)


Capture = pytest.CaptureFixture[str]


async def listed(
    capsys: Capture,
    *pages: Sequence[int] | Failure,
    limit: int | None = None,
    output: str = "table",
    needs_action: bool = False,
) -> tuple[Daemon, Success[None] | Failure]:
    daemon = Daemon(pages, capsys)
    query = {"status": "active", "needs_action": needs_action}
    result = await show_listing(daemon, query, limit=limit, output=output)
    daemon.note()
    return daemon, result


async def test_rows_are_shown_before_the_next_page_is_asked_for(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    daemon, _ = await listed(capsys, [1, 2], [], [3])

    before, first, second, third = daemon.printed
    assert before == ""
    assert [line.split()[0] for line in first.splitlines()[1:]] == [
        str(UUID(int=1)),
        str(UUID(int=2)),
    ]
    assert second == ""
    [row] = third.splitlines()
    assert row.startswith(str(UUID(int=3)))
    assert [body["cursor"] for body in daemon.asked] == [None, "c1", "c2"]
    assert {body["status"] for body in daemon.asked} == {"active"}


@pytest.mark.parametrize("pages", [[[]], [[], []]])
async def test_where_nobody_must_act_that_is_said_and_no_head_is_shown(
    capsys: Capture, pages: list[list[int]]
):
    daemon, _ = await listed(capsys, *pages, needs_action=True)

    assert "".join(daemon.printed) == "nobody must act\n"


async def test_who_must_act_is_shown_below_a_head_whatever_page_he_is_on(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    daemon, _ = await listed(capsys, [], [1], [], needs_action=True)

    head, row = "".join(daemon.printed).splitlines()
    assert head.split()[0] == "CONNECTION"
    assert row.split()[0] == str(UUID(int=1))
    assert row.endswith("because")


async def test_a_connection_that_comes_again_is_shown_once(capsys: Capture):
    daemon, _ = await listed(capsys, [1, 2], [2, 3, 1], output="json")

    shown = json.loads("".join(daemon.printed))
    assert [one["connection_id"] for one in shown] == [
        str(UUID(int=number)) for number in (1, 2, 3)
    ]


async def test_json_is_one_array_however_many_pages_came(capsys: Capture):
    for pages in ([[]], [[], []], [[1]], [[], [1, 2], [], [3]], [[1], []]):
        daemon, _ = await listed(capsys, *pages, output="json")

        assert json.loads("".join(daemon.printed)) == [
            with_one_name(connection(number)) for page in pages for number in page
        ]


async def test_no_more_are_asked_for_than_are_wanted(capsys: Capture):
    daemon, _ = await listed(capsys, [1, 2], [3], [4], limit=3)

    assert [body["limit"] for body in daemon.asked] == [3, 1]


async def test_lines_of_json_are_a_connection_each(capsys: Capture):
    daemon, _ = await listed(capsys, [1, 2], [], [3], output="jsonl")

    lines = "".join(daemon.printed).splitlines()
    assert [json.loads(line) for line in lines] == [
        with_one_name(connection(number)) for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
async def test_a_refused_first_page_prints_nothing(capsys: Capture, output: str):
    daemon, result = await listed(capsys, BUSY, output=output)

    assert result == BUSY
    assert daemon.printed == ["", ""]


async def test_a_refused_later_page_leaves_what_was_shown(capsys: Capture):
    daemon, result = await listed(capsys, [1], BUSY)

    assert result == BUSY
    assert str(UUID(int=1)) in daemon.printed[1]
