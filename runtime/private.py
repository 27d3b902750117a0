"""Whether files and folders with secrets are ours alone: who owns them, and who else may what.

Root may own them as well as we: it can do everything anyway, and a secret that a container platform
mounts is root's, perhaps for our group to read (``fsGroup`` of Kubernetes). Links are followed.
"""

import os
import stat
from pathlib import Path

from runtime.logs import log

_READ, _CHANGE = 0o055, 0o022
_GROUP = 0o070


class ExposedError(Exception):
    """Others may read or change it; the text names path, what was found, and the mend."""


def refuse_unless_private(path: Path) -> None:
    """Take a file or folder that nobody else can read or change; a group may read root's.

    Raises:
        ExposedError: Somebody else can, or owns it.
        OSError: It cannot be looked at.
    """
    found = path.stat()
    _refuse_other_owner(path, found)
    group = 0o050 if _is_given(found) else 0
    if found.st_mode & 0o077 & ~group:
        raise ExposedError(_told(path, found, "read or change"))


def refuse_if_changeable(path: Path) -> None:
    """Take a file or folder that nobody else can change; a group may change a folder of root's.

    Raises:
        ExposedError: Somebody else can, or owns it.
        OSError: It cannot be looked at.
    """
    found = path.stat()
    _refuse_other_owner(path, found)
    group = _GROUP if _is_given(found) and stat.S_ISDIR(found.st_mode) else 0
    if found.st_mode & _CHANGE & ~group:
        raise ExposedError(_told(path, found, "change"))


def make_private(folder: Path) -> None:
    """Let nobody else read a folder of ours; version 0.1 and copies leave it open to readers.

    Raises:
        ExposedError: Somebody else can change it, or owns it.
        OSError: It cannot be looked at or changed.
    """
    refuse_if_changeable(folder)
    found = folder.stat()
    if found.st_mode & _READ and found.st_uid == os.geteuid():
        folder.chmod(0o700)
        log.warning("folder_made_private", path=str(folder))


def check_secret_file(path: Path) -> None:
    """Refuse a file that others can change; warn of one that they can read. A pipe is taken.

    Raises:
        ExposedError: Somebody else can change it, or owns it.
        OSError: It cannot be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return
    refuse_if_changeable(path)
    group = _GROUP if _is_given(found) else 0
    if found.st_mode & _READ & ~group:
        log.warning("secret_file_exposed", told=_told(path, found, "read"))


def _refuse_other_owner(path: Path, found: os.stat_result) -> None:
    us = os.geteuid()
    if found.st_uid not in (us, 0):
        raise ExposedError(
            f"{path}: user {found.st_uid} owns it, neither we (user {us}) nor root: "
            f"chown {us} {path}"
        )


def _is_given(found: os.stat_result) -> bool:
    """Whether it is root's and not ours: then its group is how it was given to us."""
    return found.st_uid == 0 != os.geteuid()


def _told(path: Path, found: os.stat_result, verb: str) -> str:
    mode = "0700" if stat.S_ISDIR(found.st_mode) else "0600"
    return (
        f"{path}: mode is {stat.S_IMODE(found.st_mode):04o}, but none but its owner may {verb} it: "
        f"chmod {mode} {path}"
    )
