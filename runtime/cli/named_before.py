"""Which connections the lines before have named: two lines never share one unnoticed."""

import sqlite3
from uuid import UUID


class NamedBefore:
    """Remembers lines by id and digest, in a file of SQLite's that nobody sees; no secrets."""

    def __init__(self) -> None:
        """Remember none. The file has no name, and is gone with this."""
        self._lines = sqlite3.connect("", isolation_level=None)
        self._lines.execute("PRAGMA journal_mode = OFF")
        self._lines.execute(
            "CREATE TABLE named (id BLOB PRIMARY KEY, digest BLOB, line INTEGER) WITHOUT ROWID"
        )
        self._lines.execute("BEGIN")

    def first(self, connection_id: UUID, digest: bytes, line: int) -> tuple[int, bool] | None:
        """Note a line; return the first that named this connection, and whether it says the same.

        None: this is the first.
        """
        noted = self._lines.execute(
            "INSERT OR IGNORE INTO named VALUES (?, ?, ?)", (connection_id.bytes, digest, line)
        )
        if noted.rowcount:
            return None
        found = self._lines.execute(
            "SELECT line, digest FROM named WHERE id = ?", (connection_id.bytes,)
        )
        first_line, first_digest = found.fetchone()
        return first_line, first_digest == digest
