"""Reads a file of lines, or standard input, in memory that does not grow with either."""

import codecs
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from typing import NamedTuple

import anyio

_CHUNK_BYTES = 256 * 1024


class Line(NamedTuple):
    """One line of a file."""

    number: int
    """From 1, as editors count."""
    text: bytes | None
    """Without its end; None where it is too long to be of use."""
    end_bytes: int
    """How much of the file lies up to and with it."""


class LineReader:
    """Yields the lines of a descriptor; a last one without a line feed is one, too."""

    def __init__(self, descriptor: int, *, line_bytes_max: int) -> None:
        """Read from where ``descriptor`` stands; of a longer line no more than so much is kept."""
        self._descriptor = descriptor
        self._line_bytes_max = line_bytes_max
        self._begun: list[bytes] = []
        self._begun_bytes = self._read_bytes = self._number = 0

    async def lines(self) -> AsyncGenerator[Line]:
        """Yield each line. Waits for a pipe or a terminal without keeping others from running.

        Raises:
            OSError: It cannot be read.
        """
        is_plain = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        while True:
            if not is_plain:
                try:
                    await anyio.wait_readable(self._descriptor)
                except PermissionError:
                    # A device that is always ready, as /dev/null.
                    is_plain = True
            chunk = os.read(self._descriptor, _CHUNK_BYTES)
            for line in self._split(chunk) if chunk else self._last():
                yield line
            if not chunk:
                return

    def _split(self, chunk: bytes) -> Iterator[Line]:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._take(part)
            self._read_bytes += 1
            yield self._line()
        self._take(rest)

    def _last(self) -> Iterator[Line]:
        if self._begun_bytes:
            yield self._line()

    def _take(self, part: bytes) -> None:
        self._read_bytes += len(part)
        if not part:
            return
        self._begun_bytes += len(part)
        if self._begun_bytes <= self._line_bytes_max:
            self._begun.append(part)
        else:
            self._begun.clear()

    def _line(self) -> Line:
        """Return the line that was begun, and begin the next one."""
        is_too_long = self._begun_bytes > self._line_bytes_max
        text = b"".join(self._begun)
        self._number += 1
        if self._number == 1:
            text = text.removeprefix(codecs.BOM_UTF8)
        self._begun.clear()
        self._begun_bytes = 0
        return Line(self._number, None if is_too_long else text, self._read_bytes)
