"""What daemons need of core NATS to know of each other: messages that may be lost."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol


class Heard(NamedTuple):
    """A message as it came."""

    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str] | None


Take = Callable[[Heard], None]
"""Must neither block nor raise."""


class Bus(Protocol):
    """Core NATS: at most once, in order from one sender."""

    def publish(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Send a message; False: it could not be sent now. Never raises."""
        ...

    async def subscribe(self, subject: str, take: Take) -> Callable[[], None]:
        """Hand every message on ``subject`` to ``take``; return how to end that.

        It goes on after reconnections.

        Raises:
            LinkError: The server did not take the subscription.
        """
        ...
