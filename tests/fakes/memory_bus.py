"""Core NATS in memory: what is sent is heard at once by all who subscribe, or lost as planned."""

from collections.abc import Callable, Mapping
from functools import partial

from actors.bus import Heard, Take


class MemoryBus:
    """Implements ``actors.bus.Bus``."""

    def __init__(self) -> None:
        """Lose nothing."""
        self.lost_next = 0
        """So many messages are lost."""
        self.sent: list[str] = []
        """Every subject, whatever became of the message."""
        self._takers: list[tuple[str, Take]] = []

    def publish(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """See ``Bus``."""
        self.sent.append(subject)
        if self.lost_next:
            self.lost_next -= 1
            return True
        for pattern, take in [*self._takers]:
            if _matches(pattern, subject):
                take(Heard(subject, reply, data, headers))
        return True

    async def subscribe(self, subject: str, take: Take) -> Callable[[], None]:
        """See ``Bus``."""
        self._takers.append((subject, take))
        return partial(self._takers.remove, (subject, take))


def _matches(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    return len(wanted) == len(given) and all(
        one in ("*", other) for one, other in zip(wanted, given, strict=True)
    )
