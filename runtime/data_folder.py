"""What a daemon keeps in its data folder, and who else may use it.

With an embedded server a daemon has it alone. On a server of somebody else's several daemons of
one cluster may share it: keyring and configuration are the same, and each has a folder for
outcomes of its own (``runtime.ledger.spill``).
"""

import contextlib
import fcntl
import os
import platform
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from runtime.logs import log
from runtime.nats.private_files import make_private_folder, sync_folder
from runtime.private import ExposedError, refuse_if_changeable

KEYRING_FILE = "keyring.json"
OUTCOMES_FOLDER = "outcomes"
BALLAST = "ballast"
"""In a folder for outcomes: room on a full disk."""
DAEMONS_MAX = 32
"""How many daemons share a data folder."""
_LOCK_FILE = "lock"
_FORMER_MAX = 16
"""How many former daemons a slot's lock file names."""
_FORMER_BYTES_MAX = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DataFolderError(Exception):
    """The data folder is another daemon's, or not ours alone to change; the text names it."""


class OwnPart(NamedTuple):
    """What of a data folder is one daemon's alone."""

    outcomes: Path
    """A folder for outcomes, with what daemons that live no more have left in theirs."""
    former: frozenset[str]
    """The ids of daemons that have used the folder on this host since it was started, and live no
    more for certain."""


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
    """Hold the data folder alone; that ends with the process however it ends.

    Raises:
        DataFolderError: Another daemon uses it.
        OSError: The folder cannot be used.
    """
    with _held(data_dir / _LOCK_FILE, fcntl.LOCK_EX) as is_held:
        if not is_held:
            raise _used(data_dir)
        yield


@contextlib.contextmanager
def one_daemon_of(data_dir: Path, daemon_id: str, *, alone: bool) -> Generator[OwnPart]:
    """Use the data folder, and yield what of it is this daemon's alone.

    Args:
        data_dir: One that ``make_data_folder`` has made.
        daemon_id: Who uses it: a later one is told when this one lives no more.
        alone: Share it with nobody; else daemons of one cluster share it.

    Raises:
        DataFolderError: A daemon uses it that it is not shared with, or too many share it.
        OSError: The folder cannot be used.
    """
    with contextlib.ExitStack() as stack:
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        if not stack.enter_context(_held(data_dir / _LOCK_FILE, kind)):
            raise _used(data_dir)
        for slot in range(DAEMONS_MAX):
            if stack.enter_context(_held(data_dir / f"{_LOCK_FILE}.{slot}", fcntl.LOCK_EX)):
                break
        else:
            raise DataFolderError(f"{data_dir}: {DAEMONS_MAX} daemons use this data folder already")
        outcomes = _outcomes_of(data_dir, slot)
        make_private_folder(outcomes)
        former = _former(data_dir, slot)
        _note(data_dir, slot, [*former[1 - _FORMER_MAX :], daemon_id])
        for other in range(DAEMONS_MAX):
            if other != slot and _outcomes_of(data_dir, other).is_dir():
                former += _take_what_is_left(data_dir, other, outcomes)
        yield OwnPart(outcomes, frozenset(former))


def _former(data_dir: Path, slot: int) -> list[str]:
    """Return who has held a slot that is held by us now, and lives no more for certain.

    A lock tells that of this host alone, and of this file: a copy names daemons that may live, and
    so does a folder that another host can reach, too, where its file system locks for each host.
    """
    path = data_dir / f"{_LOCK_FILE}.{slot}"
    with path.open("rb") as file:
        text = file.read(_FORMER_BYTES_MAX).decode(errors="replace")
    here = _place(path)
    lines = (line.partition(" ") for line in text.splitlines())
    return [daemon_id for daemon_id, _, place in lines if daemon_id and place == here]


def _note(data_dir: Path, slot: int, daemon_ids: list[str]) -> None:
    """Name who has held a slot; where that cannot be written a later start waits, no more."""
    path = data_dir / f"{_LOCK_FILE}.{slot}"
    here = _place(path)
    try:
        path.write_text("".join(f"{one} {here}\n" for one in daemon_ids))
    except OSError as error:
        log.warning("daemon_not_noted", file=str(path), cause=error.strerror)


def _place(path: Path) -> str:
    """Return what tells a file of this host, since it was started, from all copies of it."""
    try:
        host = _BOOT_ID.read_text().strip()
    except OSError:
        host = platform.node()
    return f"{host}.{path.stat().st_ino}"


def _take_what_is_left(data_dir: Path, slot: int, outcomes: Path) -> list[str]:
    """Move the outcomes of a slot whose daemon lives no more, and return who has held it."""
    with _held(data_dir / f"{_LOCK_FILE}.{slot}", fcntl.LOCK_EX) as is_left:
        if is_left:
            for file in _outcomes_of(data_dir, slot).iterdir():
                if file.name != BALLAST:
                    # One of the same name holds the same.
                    file.replace(outcomes / file.name)
            sync_folder(outcomes)
            return _former(data_dir, slot)
    return []


def _outcomes_of(data_dir: Path, slot: int) -> Path:
    return data_dir / (f"{OUTCOMES_FOLDER}.{slot}" if slot else OUTCOMES_FOLDER)


def _used(data_dir: Path) -> DataFolderError:
    return DataFolderError(f"{data_dir}: another refreshd uses this data folder")


@contextlib.contextmanager
def _held(path: Path, kind: int) -> Generator[bool]:
    """Hold a lock, if nobody else holds it; the process's end ends that, too."""
    # It is written: no link may lead to another file.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
