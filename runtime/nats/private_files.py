"""Files that only their owner may read, written durably, whole or not at all."""

import os
import secrets
from pathlib import Path


def create_private_file(path: Path, content: bytes) -> None:
    """Write a new file.

    Raises:
        FileExistsError: There is one already; it is left as it is.
        OSError: It cannot be written.
    """
    draft = _draft(path, content)
    try:
        # A link refuses an existing name, where a rename would replace a keyring in use.
        os.link(draft, path)
    finally:
        draft.unlink()
    sync_folder(path.parent)


def replace_private_file(path: Path, content: bytes) -> None:
    """Write a file in place of the one that may be there.

    Raises:
        OSError: It cannot be written; the old one is left as it is.
    """
    draft = _draft(path, content)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise
    sync_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; one that is there is left as it is.

    Raises:
        OSError: It cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _draft(path: Path, content: bytes) -> Path:
    """Write ``content`` durably beside ``path``, under a name of its own."""
    make_private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        draft.unlink()
        error.filename = str(path)  # a full disk does not say what it had no room for
        raise
    return draft


def sync_folder(path: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
