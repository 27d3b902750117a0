"""What the papers of the project show as code."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
_FOLDERS = ("docs", "deploy", "clients", "bench", "tests")
PAPERS = sorted(
    str(page.relative_to(ROOT))
    for page in [
        *ROOT.glob("*.md"),
        *(one for name in _FOLDERS for one in (ROOT / name).rglob("*.md")),
    ]
)
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|file): (?P<said>[^\n]+) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$"
    r"(?:\n+```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One block of code, and what a comment right before it says."""

    language: str
    text: str
    shown: str | None
    """What a block ``text`` right behind it has."""
    not_run: str | None
    """Why nobody can run it here."""
    file: str | None
    """What a reader saves it as."""


def blocks(paper: str) -> list[Block]:
    """Return every block of a paper, in order, those that are shown behind others aside."""
    found: list[Block] = []
    for one in _BLOCK.finditer((ROOT / paper).read_text()):
        said = {one["mark"]: one["said"]}
        text = re.sub(rf"(?m)^{one['indent']}", "", one["text"])
        found.append(
            Block(one["language"], text, one["shown"], said.get("not run"), said.get("file"))
        )
    return found


def block(paper: str, language: str, start: str = "") -> str:
    """Return the first code block of a paper that is in ``language`` and begins with ``start``."""
    found = [one.text for one in blocks(paper) if one.language == language]
    return next(text for text in found if text.startswith(start))


def prose(paper: str) -> str:
    """Return a paper without its blocks."""
    return _BLOCK.sub("", (ROOT / paper).read_text())
