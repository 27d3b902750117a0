"""A disk that is soon full: a small file system in memory."""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Generator[Path]:
    """Mount a file system in memory; skip where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    if _libc.mount(b"none", str(disk).encode(), b"tmpfs", 0, f"size={size}".encode()):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield disk
    finally:
        _libc.umount2(str(disk).encode(), 2)  # MNT_DETACH


def fill(disk: Path, *, free_bytes: int = 0) -> Path:
    """Write a file that leaves so many bytes free, about, and return it."""
    ballast = disk / "somebody-elses-file"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > free_bytes:
            file.write(bytes(4096))
    return ballast
