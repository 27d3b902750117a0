"""The file that tells which lines of an import were not taken: of a run that ended, or none."""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from runtime.cli.asking import EXIT_USAGE, CommandError
from runtime.cli.importing import Rejected


class RejectsFile:
    """Is written beside its place, as ``<name>.part``, and takes it when the import has ended.

    So an import that never began leaves the file of the run before, and one that was killed leaves
    that and its own part. What is no plain file, as ``/dev/stderr``, is written to.
    """

    def __init__(self, path: Path, source: int) -> None:
        """Be for ``path``.

        Args:
            path: Where the file is to be.
            source: The descriptor of what is imported, which must not be written over.
        """
        self._path = path
        self._source = source
        self._draft: Path | None = None
        self._is_kept = False
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Begin the draft.

        Raises:
            CommandError: It cannot be written, or is what is imported.
        """
        path, remedy = self._path, "name another file for rejected lines by --rejects"
        try:
            found = path.stat() if path.exists() else None
            is_plain = found is None or stat.S_ISREG(found.st_mode)
            if is_plain and found and os.path.samestat(found, os.fstat(self._source)):
                raise CommandError(f"--rejects {path}: that is the file to import", EXIT_USAGE)
            if is_plain and not path.is_symlink():
                self._draft = path.with_name(f"{path.name}.part")
            self._file = (self._draft or path).open("wb")
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}: {remedy}", EXIT_USAGE) from None
        return self

    def add(self, one: Rejected) -> None:
        """Write one line that was not taken; it is there although the process is killed."""
        self._file.write(msgspec.json.encode(one._asdict()) + b"\n")
        self._file.flush()

    def keep(self) -> None:
        """Have the file be what is told of this import, once it ends."""
        self._is_kept = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, whole and on disk; or away, where nothing was kept."""
        with self._file as file:
            if self._draft is not None and self._is_kept:
                file.flush()
                os.fsync(file.fileno())
        if self._draft is None:
            return
        if self._is_kept:
            self._draft.replace(self._path)
        else:
            self._draft.unlink()
