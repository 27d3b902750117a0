"""A TOML file's settings, or the line and column at which it is none.

No line is quoted: a user and a password may stand in it.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

_PLACED = re.compile(r"(?P<what>.*) \(at (line (?P<line>\d+), column (?P<column>\d+)|end of .*)\)")
_KEY = re.compile(r"\s*(\[*[\w.-]+)\s*(=|]|$)")
_WORDS = (
    (r"Invalid value", 'this is no value: a text is in quotes, as in key = "text"'),
    (r"Illegal character '\\n'", "the text's closing quote is missing in this line"),
    (r"Unterminated .*|Unclosed .*", "a quote or bracket is opened and never closed"),
    (r"Cannot overwrite .*|Cannot mutate .*|Cannot declare .* twice", "this is there twice"),
)


class NotTomlError(Exception):
    """A file is no TOML."""

    def __init__(self, place: str, message: str) -> None:
        """Keep where, as ``LINE:COLUMN``, and what is wrong there."""
        super().__init__(f"{place}: {message}")
        self.place, self.message = place, message


def settings_of(file: Path) -> dict[str, Any]:
    """Return what a file holds.

    Raises:
        NotTomlError: It is no TOML.
        OSError: It cannot be read.
    """
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        raise NotTomlError(_end(before), "no TOML: this is not UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _told(str(error), text) from None


def _told(said: str, text: str) -> NotTomlError:
    found = _PLACED.fullmatch(said)
    what = found["what"] if found else said
    place = f"{found['line']}:{found['column']}" if found and found["line"] else _end(text)
    key = _KEY.match(text.split("\n")[int(place.split(":")[0]) - 1])
    name = f"{key[1]}: " if key else ""
    words = next((words for kind, words in _WORDS if re.fullmatch(kind, what)), what)
    return NotTomlError(place, f"no TOML: {name}{words}")


def _end(text: str) -> str:
    lines = text.split("\n")
    return f"{len(lines)}:{len(lines[-1]) + 1}"
