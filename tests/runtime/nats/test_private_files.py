"""A private file is there whole and for its owner alone, or it is not there."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.nats.private_files import (
    create_private_file,
    make_private_folder,
    replace_private_file,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.fixture(autouse=True)
def open_umask():
    """The least careful umask there is."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("write", [create_private_file, replace_private_file])
def test_a_new_file_and_its_folder_are_for_their_owner(tmp_path: Path, write: object):
    path = tmp_path / "a" / "file"
    assert callable(write)

    write(path, b"content")

    assert path.read_bytes() == b"content"
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert names_in(path.parent) == ["file"]


def test_creating_leaves_a_file_that_is_there(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"in use")

    with pytest.raises(FileExistsError):
        create_private_file(path, b"new")

    assert path.read_bytes() == b"in use"
    assert names_in(tmp_path) == ["file"]


def test_replacing_tightens_the_mode_of_what_was_there(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)

    replace_private_file(path, b"new")

    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o600


def test_a_draft_that_cannot_take_its_place_is_removed(tmp_path: Path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)

    with pytest.raises(OSError):
        replace_private_file(tmp_path / "folder", b"content")

    assert names_in(tmp_path) == ["folder"]


@pytest.mark.parametrize("write", [create_private_file, replace_private_file])
def test_a_disk_that_is_full_is_told_with_the_file_and_leaves_no_draft(
    tmp_path: Path, write: Callable[[Path, bytes], None], monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "file"

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as failed:
        write(path, b"content")

    assert str(path) in str(failed.value)
    assert names_in(tmp_path) == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path):
    path = tmp_path / "file"
    replace_private_file(path, b"old")

    with path.open("rb") as reading:
        replace_private_file(path, b"much newer")

        assert reading.read() == b"old"
    assert path.read_bytes() == b"much newer"


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)

    make_private_folder(folder)

    assert mode_of(folder) == 0o755
