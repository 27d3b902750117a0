"""What people read in a terminal: nothing in it is taken for markup or for a control code."""

from typing import Any

import pytest

from runtime.cli.tables import (
    connection_head,
    event_head,
    show_connection,
    show_event,
    show_fields,
    show_named,
    show_table,
)

ID = "01890000-0000-7000-8000-00000000c0de"
USER = "01890000-0000-7000-8000-00000000abcd"


def show_connections(connections: list[dict[str, Any]]) -> str:
    """Return a table as ``refreshd list`` prints it."""
    return "\n".join([connection_head(), *map(show_connection, connections)])


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def _connection(alias: str) -> dict[str, Any]:
    return {
        "connection_id": ID,
        "user_id": USER,
        "provider_slug": "schwab",
        "status": "active",
        "generation": 1,
        "credentials": None,
        "alias": alias,
    }


@pytest.mark.parametrize("alias", ["[/x]", "[bold]x", "[link=http://a]b[/link]", ":smile:"])
def test_an_alias_is_never_taken_for_markup(alias: str):
    assert alias in show_connections([_connection(alias)])


def test_why_somebody_must_act_is_the_last_column():
    connection = _connection("mine") | {"needs_action": "the connection is \x1brevoked"}

    head = connection_head(with_action=True)
    row = show_connection(connection, with_action=True)

    assert head.endswith("ALIAS         ACTION")
    assert row.endswith("mine          the connection is ?revoked")


@pytest.mark.parametrize("alias", ["\x1b[31mred", "a\nb", "\x9b31m", "\x1b]0;title\x07"])
def test_no_control_character_reaches_the_terminal(alias: str):
    shown = show_connections([_connection(alias)]) + show_fields({"alias": alias})

    assert all(character.isprintable() or character == "\n" for character in shown)
    assert len(show_connections([_connection(alias)]).splitlines()) == 2


@pytest.mark.parametrize("field", ["time", "subject", "type", "provider_slug", "reason"])
def test_no_control_character_of_an_event_reaches_the_terminal(field: str):
    event = dict.fromkeys(("time", "subject", "type"), "x") | {field: "a\x1b[31m\nb"}
    data = {"provider_slug": "x", "reason": "x"} | {field: "a\x1b[31m\nb"}

    shown = show_event(7, event | {"data": data})

    assert shown.startswith("       7  ")
    assert "a?[31m?b" in shown
    assert shown.isprintable()


def _event(**data: Any) -> dict[str, Any]:
    return {
        "time": "2026-11-27T09:15:07.171895Z",
        "subject": ID,
        "type": "ProviderConnectionStatusChanged",
        "data": {"provider_slug": "s" * 50, **data},
    }


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_tables_fit_the_terminal_and_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, width: int
):
    monkeypatch.setenv("COLUMNS", str(width))
    row = _connection("x" * 100) | {"provider_slug": "s" * 50, "status": "disconnected"}
    providers = [{"slug": "s" * 50, "endpoint": "https://" + "e" * 100}]
    shown = [
        show_connections([row]),
        event_head(),
        show_event(12345678, _event(reason="because " * 30, from_status="active")),
        show_table(providers),
        show_fields({"connection_id": ID[:12], "a_name_of_some_length": ["e " * 30] * 3}),
    ]

    lines = [line for text in shown for line in text.splitlines()]

    assert max(map(len, lines)) <= width
    letters = "".join("".join(shown).split())
    for whole in (ID, USER, "s" * 50, "x" * 100, "e" * 100, "because" * 30, "disconnected"):
        assert whole in letters


def test_at_80_columns_an_id_is_in_one_piece_and_under_its_head(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")

    head, below, *row = show_connections([_connection("mine")]).splitlines()

    assert row[0].startswith(ID)
    assert row[1].index(USER) == below.index("USER")
    assert row[1].index("mine") == below.index("ALIAS")
    assert row[0].index("active") == head.index("STATUS")


def test_a_long_value_goes_on_below_where_it_began(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")

    first, second, third = show_fields({"id": ID, "partitions": ["a" * 30, "b" * 30]}).splitlines()

    assert first == f"id          {ID}"
    assert second.rstrip() == f'partitions  ["{"a" * 30}",'
    assert third.strip() == f'"{"b" * 30}"]'
    assert third.startswith(" " * 12)


def test_without_a_terminal_everything_fits_80_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "0")
    shown = [
        show_connections([_connection("x" * 100)]),
        event_head(),
        show_event(1, _event(reason="why " * 100)),
        show_fields({"ledger": {"partitions": [{"ledger_seq": n} for n in range(50)]}}),
    ]

    assert max(len(line) for text in shown for line in text.splitlines()) == 80


PATH = "/a/long/way/to/" + "a-folder/" * 12 + "refreshd.toml"
COMMAND = f"`refreshd explain {ID} --config {PATH}`"


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("whole", [PATH, COMMAND, f"{COMMAND},"])
def test_a_path_or_a_command_is_in_one_piece_to_be_copied(
    monkeypatch: pytest.MonkeyPatch, width: int, whole: str
):
    monkeypatch.setenv("COLUMNS", str(width))

    lines = show_named([("problem", f"others can read it: {whole} and this is {'why ' * 20}")])

    [line] = [line for line in lines.splitlines() if whole in line]
    assert line.strip() == whole
    assert max(len(one) for one in lines.splitlines() if one != line) <= width
