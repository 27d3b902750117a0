"""What a daemon keeps in its data folder, and that no other daemon uses it."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from runtime.nats.private_files import make_private_folder
from runtime.private import ExposedError, refuse_if_changeable

KEYRING_FILE = "keyring.json"
OUTCOMES_FOLDER = "outcomes"
_LOCK_FILE = "lock"


class DataFolderError(Exception):
    """The data folder is another daemon's, or not ours alone to change; the text names it."""


def make_data_folder(data_dir: Path) -> None:
    """Make the data folder, or take one that is there.

    Raises:
        DataFolderError: Others than we can change it.
        OSError: It cannot be made or looked at.
    """
    make_private_folder(data_dir)
    try:
        refuse_if_changeable(data_dir)
    except ExposedError as error:
        raise DataFolderError(str(error)) from None


@contextlib.contextmanager
def only_daemon_of(data_dir: Path) -> Generator[None]:
    """Hold the data folder's lock, which ends with the process however it ends.

    Raises:
        DataFolderError: Another daemon holds it.
        OSError: The folder cannot be used.
    """
    descriptor = os.open(data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderError(f"{data_dir}: another refreshd uses this data folder") from None
        yield
    finally:
        os.close(descriptor)
