"""What people read in a terminal: nothing in it is taken for markup or for a control code."""

from typing import Any

import pytest

from runtime.cli.tables import show_connections, show_event, show_fields

ID = "01890000-0000-7000-8000-00000000c0de"


def _connection(alias: str) -> dict[str, Any]:
    return {
        "id": ID,
        "provider_slug": "schwab",
        "status": "active",
        "generation": 1,
        "credentials": None,
        "alias": alias,
    }


@pytest.mark.parametrize("alias", ["[/x]", "[bold]x", "[link=http://a]b[/link]", ":smile:"])
def test_an_alias_is_never_taken_for_markup(alias: str):
    assert alias in show_connections([_connection(alias)])


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


def test_a_long_alias_does_not_squeeze_the_id():
    shown = show_connections([_connection("x" * 100)])

    assert ID in shown
    assert "x" * 100 in shown
