"""What a backup says inside its seal: one JSON object a line, a head, the connections, an end.

A connection may be in it twice, where it was written while the backup was made: the later line
counts.
"""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import msgspec

from domain.record import Record, RecordError, checked

FORMAT = 1
_LINE_BYTES_MAX = 64 * 1024 * 1024


class ArchiveError(Exception):
    """It is no backup of refreshd's, or not a whole one; the text quotes nothing of it."""


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="refreshd_backup", tag_field="is"):
    """The first line."""

    format: int = FORMAT
    id: UUID
    """Tells one backup from another."""
    made_at: datetime
    made_by: str
    """The version of refreshd."""
    prefix: str


class Kept(msgspec.Struct, frozen=True, kw_only=True, tag="connection", tag_field="is"):
    """One connection."""

    record: Record
    """Its credentials' payload is as it was stored, and to be ignored where ``secret`` is given."""
    secret: bytes | None = None
    """The JSON text of the secret, in the clear."""

    def __repr__(self) -> str:
        """Show the connection's id alone."""
        return f"Kept({self.record.connection.id})"


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="is"):
    """The last line."""

    connections: int
    """How many lines are between head and end."""


Line = Head | Kept | End
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """Return a line, with its end."""
    return _encoder.encode(line) + b"\n"


class ArchiveReader:
    """Reads a backup piece by piece, and knows whether it was whole."""

    def __init__(self) -> None:
        """Have read nothing."""
        self.head: Head | None = None
        self._rest = b""
        self._connections = 0
        self._is_whole = False

    def feed(self, data: bytes) -> Iterator[Kept]:
        """Yield the connections that end in the next piece.

        Raises:
            ArchiveError: It is no backup, or of a later version.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_BYTES_MAX:
            raise ArchiveError("it is no backup of refreshd's")
        for text in lines:
            match self._read(text):
                case Head() as head if self.head is None:
                    self.head = head
                    if head.format > FORMAT:
                        raise ArchiveError(
                            f"it has format {head.format}, this version reads {FORMAT}"
                        )
                case Kept() as kept if self.head is not None and not self._is_whole:
                    self._connections += 1
                    yield kept
                case End(connections=self._connections) if not self._is_whole:
                    self._is_whole = True
                case _:
                    raise ArchiveError("its lines are not in order")

    def end(self) -> Head:
        """Return the head of a backup that was read to its end.

        Raises:
            ArchiveError: It is not whole.
        """
        if self.head is None or not self._is_whole or self._rest:
            raise ArchiveError("it is not a whole backup of refreshd's")
        return self.head

    def _read(self, text: bytes) -> Line:
        try:
            line = _decoder.decode(text)
            if isinstance(line, Kept):
                checked(line.record)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            number = self._connections + 1
            raise ArchiveError(f"it is no backup of refreshd's: connection {number}") from None
        except RecordError as error:
            raise ArchiveError(f"connection {self._connections + 1}: {error}") from None
        return line
