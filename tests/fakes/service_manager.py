"""systemd as the daemon meets it: a unix datagram socket, by a path or an abstract one."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from pathlib import Path


class FakeServiceManager:
    """Keeps every message that it was sent, each as its assignments."""

    def __init__(self, plug: socket.socket, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self._plug = plug

    def environment(self, *, watchdog_s: float | None = None) -> dict[str, str]:
        """Return what a service is started with."""
        environment = {"NOTIFY_SOCKET": self.address}
        if watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        return environment

    def take(self) -> None:
        """Read what has come."""
        message = self._plug.recv(65536).decode()
        self.messages.append(dict(line.split("=", 1) for line in message.split("\n")))

    def told(self, name: str) -> list[str]:
        """Return the values that a variable was given, in their order."""
        return [message[name] for message in self.messages if name in message]

    def index(self, **assignments: str) -> int:
        """Return the place of the first message that has these."""
        wanted = assignments.items()
        return next(i for i, one in enumerate(self.messages) if wanted <= one.items())


@contextlib.contextmanager
def service_manager(folder: Path, *, is_abstract: bool = False) -> Generator[FakeServiceManager]:
    """Yield one that listens; to be used within an event loop."""
    name = f"refreshd-test-{os.getpid()}-{folder.name}"
    address = f"@{name}" if is_abstract else str(folder / "notify")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as plug:
        plug.bind(f"\0{name}" if is_abstract else address)
        manager = FakeServiceManager(plug, address)
        loop.add_reader(plug, manager.take)
        try:
            yield manager
        finally:
            loop.remove_reader(plug)
