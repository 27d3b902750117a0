"""What is told of many lines in one: a text, how many lines it is about, and which came first."""

import bisect
from collections.abc import Iterator

_TEXTS_MAX = 100
_NUMBERS_MAX = 5


class LineNotes:
    """Counts lines by what is to be told of them, in memory that does not grow with the lines."""

    def __init__(self) -> None:
        """Have nothing to tell."""
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[int]] = {}
        self._left_out = 0

    def note(self, text: str, line: int) -> None:
        """Note that ``text`` is to be told of this line; lines may come in any order."""
        if text not in self._counts and len(self._counts) >= _TEXTS_MAX:
            self._left_out += 1
            return
        self._counts[text] = self._counts.get(text, 0) + 1
        first = self._first.setdefault(text, [])
        bisect.insort(first, line)
        del first[_NUMBERS_MAX:]

    def told(self) -> Iterator[str]:
        """Yield each text with its lines: ``text (line 7)``, ``text (3 lines: 1, 4, 9)``."""
        for text, count in self._counts.items():
            numbers = ", ".join(map(str, self._first[text]))
            more = ", ..." if count > _NUMBERS_MAX else ""
            yield f"{text} ({counted(count)}{':' if count > 1 else ''} {numbers}{more})"
        if self._left_out:
            yield f"more is to be told of {counted(self._left_out)}: mend these first"


def counted(lines: int) -> str:
    """Return ``7 lines``; where it is one, ``line``."""
    return "line" if lines == 1 else f"{lines} lines"
