"""What is told to systemd, or to whoever plays it: the notify protocol, one datagram a message.

Source:
    sd_notify(3), systemd.service(5).
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Generator, MutableMapping

from runtime.logs import log

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_START_LOOK_S = 5.0
_START_EXTENSION_S = 30.0
_STOP_MARGIN_S = 2.0


class ServiceManager:
    """Who has started the daemon, if it wants to be told how it is."""

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        """Tell whoever listens at ``address``; None: nobody.

        Args:
            address: Of a unix datagram socket; ``@`` at its beginning: an abstract one.
            watchdog_s: How long it may hear nothing; None: for ever.
        """
        self._address = address
        self._watchdog_s = watchdog_s
        self._is_ready = False
        self.is_alive: Callable[[], bool] = lambda: True
        """Whether what must go on does; while it does not, the watchdog is not told anything."""

    def ready(self, status: str) -> None:
        """Tell that requests are served."""
        self._is_ready = True
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that the configuration is read; ``ready`` is to follow."""
        self._tell(
            "RELOADING=1",
            f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
            "STATUS=reads its configuration",
        )

    def stopping(self, within_s: float) -> None:
        """Tell that it ends, and how long that may take."""
        extension = f"EXTEND_TIMEOUT_USEC={round((within_s + _STOP_MARGIN_S) * 1e6)}"
        self._tell("STOPPING=1", extension, "STATUS=drains")

    @contextlib.contextmanager
    def kept_patient(self) -> Generator[None]:
        """Have a start take its time, and the watchdog know that we live, meanwhile."""
        tasks = [] if self._address is None else [asyncio.create_task(self._extend())]
        if self._address is not None and self._watchdog_s is not None:
            tasks.append(asyncio.create_task(self._feed(self._watchdog_s / 2)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _extend(self) -> None:
        """Tell again and again that it still starts."""
        while not self._is_ready:
            extension = f"EXTEND_TIMEOUT_USEC={round(_START_EXTENSION_S * 1e6)}"
            self._tell(extension, "STATUS=starts")
            await asyncio.sleep(_START_LOOK_S)

    async def _feed(self, pause_s: float) -> None:
        """Tell the watchdog that we live."""
        while True:
            if self.is_alive():
                self._tell("WATCHDOG=1")
            await asyncio.sleep(pause_s)

    def _tell(self, *assignments: str) -> None:
        """Send one message, never waiting; one that cannot be sent is a line of the log."""
        if self._address is None:
            return
        # An abstract address begins with a zero byte.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as plug:
                plug.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            log.warning("service_manager_not_told", cause=error.strerror)


def service_manager_of(environment: MutableMapping[str, str]) -> ServiceManager:
    """Return who has started this process, and take that out of what its children inherit."""
    address, watchdog_us, pid = (environment.pop(name, "") for name in _VARIABLES)
    is_ours = pid in ("", str(os.getpid()))
    watchdog_s = int(watchdog_us) / 1e6 if is_ours and watchdog_us.isdecimal() else None
    if address[:1] not in ("/", "@"):
        return ServiceManager(None)
    return ServiceManager(address, watchdog_s=watchdog_s or None)
