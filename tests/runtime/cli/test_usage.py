"""Who leaves arguments out is told of all of them; commands that are advised lack none."""

import re
import shlex

import pytest
from cyclopts import CycloptsError

from domain.advice import Who, advice, mend_of
from domain.connection import CONNECTABLE, ConnectionStatus
from runtime.cli.main import app
from runtime.cli.usage import usage_words
from tests.domain.shapes import NOW, stored

NEEDED = ("--connection-id", "--user-id", "--provider-id", "--provider-slug", "--credentials-file")


def said(command: str) -> str:
    with pytest.raises(CycloptsError) as refused:
        app.parse_args(shlex.split(command), print_error=False, exit_on_error=False)
    return usage_words(app, refused.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "connect --connection-id ID --credentials-file FILE",
            (
                "--user-id, --provider-id and --provider-slug are missing. "
                "`refreshd connect --help` says what there is."
            ),
        ),
        (
            "connect --provider-id=ID",
            (
                "--user-id and --provider-slug are missing. "
                "`refreshd connect --help` says what there is."
            ),
        ),
        (
            "refresh",
            (
                "CONNECTION-ID and --credentials-file are missing. "
                "`refreshd refresh --help` says what there is."
            ),
        ),
        (
            "provider test",
            "SLUG is missing. `refreshd provider test --help` says what there is.",
        ),
        ("connect --user-id", 'Command "connect" parameter --user-id requires an argument.'),
        ("doctor more", "Unused Tokens: ['more']."),
    ],
)
def test_all_arguments_that_are_missing_are_named_at_once(command: str, words: str):
    assert said(command) == words


@pytest.mark.parametrize("status", sorted(CONNECTABLE))
def test_the_command_that_brings_a_connection_back_is_told_whole(status: ConnectionStatus):
    found = advice(stored(status), None, None, now=NOW)

    assert found.who is Who.USER
    is_whole(found.text)


@pytest.mark.parametrize("code", ["template_value_missing", "template_value_malformed"])
def test_so_is_the_one_that_gives_it_its_params(code: str):
    is_whole(mend_of(code, stored(ConnectionStatus.ACTIVE)))


def is_whole(text: str) -> None:
    """Fail unless the connect that a text has in backticks has all that it needs."""
    (command,) = re.findall(r"`refreshd (connect [^`]*)`", text)
    words = shlex.split(command)
    app.parse_args(words, print_error=False, exit_on_error=False)
    one = stored(ConnectionStatus.ACTIVE)
    named = dict(zip(words[1::2], words[2::2], strict=True))
    values = (one.id, one.user_id, one.provider_id, one.provider_slug, "FILE")
    assert [named[name] for name in NEEDED] == [*map(str, values)]
