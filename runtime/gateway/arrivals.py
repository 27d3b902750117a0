"""Since when what is read now may have lain in the socket: a caller's time began to run then.

Usually since now. A process that stood still (SIGSTOP, a host that was paused, a blocked event
loop) finds commands whose callers have long given up, and perhaps sent them again elsewhere: they
are told from those that are new by a mark that the server sends back behind all that it holds.
"""

import asyncio
import contextlib

from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.link import NatsLink

_TICK_S = 0.25
_STOOD_STILL_S = 1.0
"""A tick that comes so late tells that the process stood still."""


class Arrivals:
    """The process's pulse. ``run`` must be running."""

    def __init__(self, link: NatsLink) -> None:
        """Know of no standstill."""
        self._link = link
        self._now_s = asyncio.get_running_loop().time
        self._ticked_s = self._now_s()
        self._since_s: float | None = None

    def earliest_s(self) -> float:
        """Return when what is read now may have come, at the earliest, on the loop's clock."""
        now_s = self._now_s()
        if self._since_s is not None:
            return self._since_s
        # What was waiting may be read before the tick is.
        return now_s if now_s - self._ticked_s < _STOOD_STILL_S else self._ticked_s

    async def run(self) -> None:
        """Notice standstills until cancelled."""
        self._ticked_s = self._now_s()
        while True:
            await asyncio.sleep(_TICK_S)
            before_s, self._ticked_s = self._ticked_s, self._now_s()
            if self._ticked_s - before_s >= _STOOD_STILL_S:
                self._since_s = before_s
                log.warning("stood_still", for_s=round(self._ticked_s - before_s, 1))
                with contextlib.suppress(LinkError):
                    await self._link.flush()
                self._since_s = None
                self._ticked_s = self._now_s()
