"""How much room the embedded server's file system has, against what is kept in reserve."""

import os
from pathlib import Path

from runtime.logs import log


class FreeSpace:
    """The free space of one file system."""

    def __init__(self, folder: Path, *, bytes_min: int) -> None:
        """Watch the file system that ``folder`` is on."""
        self._folder = folder
        self._bytes_min = bytes_min
        self._was_low = False

    @property
    def bytes(self) -> int:
        """How many bytes an ordinary user may still write; 0 where that cannot be told."""
        try:
            stat = os.statvfs(self._folder)
        except OSError:
            return 0
        return stat.f_bavail * stat.f_frsize

    @property
    def is_low(self) -> bool:
        """Whether less is free than is kept in reserve."""
        return self.bytes < self._bytes_min

    def look(self) -> None:
        """Log when the reserve is touched, and when it is whole again."""
        free_bytes = self.bytes
        is_low = free_bytes < self._bytes_min
        if is_low != self._was_low:
            tell = log.error if is_low else log.warning
            tell(
                "disk_is_low" if is_low else "disk_has_room_again",
                folder=str(self._folder),
                free_bytes=free_bytes,
                free_bytes_min=self._bytes_min,
            )
        self._was_low = is_low
