"""Keeps the embedded nats-server alive: one that died or takes no writes any more is restarted.

A nats-server whose disk was full for one write leaves that stream's writes unanswered until it is
restarted, however much room there is again (2.15: no error reaches the publisher). So appends and
batches without an answer for a while are the sign, and room on the disk is the condition.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Annotated, NamedTuple, NoReturn

from msgspec import Meta

from runtime.logs import log
from runtime.nats.embedded import EmbeddedNats, EmbeddedNatsError
from runtime.nats.free_space import FreeSpace

_LOOK_S = 0.25
_STOP_S = 2.0
_PAUSE_S_MIN = 0.5
_PAUSE_S_MAX = 10.0
_SILENT_S_MAX = 60.0

RestartsMax = Annotated[int, Meta(ge=0, le=1000)]


class KeeperLimits(NamedTuple):
    """How long the server may be silent, and how often it may die."""

    restarts_max: int
    restarts_period_s: float
    write_silent_s: float


class EmbeddedKeeper:
    """``run`` must be running while the server is to live."""

    def __init__(
        self,
        server: EmbeddedNats,
        space: FreeSpace,
        *,
        limits: KeeperLimits,
        is_silent: Callable[[], bool | None],
    ) -> None:
        """Keep a server that has been started.

        Args:
            server: The server.
            space: Of the file system that its files are on.
            limits: The bounds.
            is_silent: Whether a write has had no answer in time; None: something else is wrong
                with writes; False: they are answered.
        """
        self.restarts = 0
        self._server = server
        self.space = space
        self._limits = limits
        self._is_silent = is_silent
        self._deaths_s = deque[float](maxlen=limits.restarts_max + 1)
        self._silent_since_s: float | None = None
        self._silent_s = limits.write_silent_s

    def status(self) -> dict[str, object]:
        """Return what an operator should know of the server and its disk."""
        return {
            "nats_restarts": self.restarts,
            "disk_free_bytes": self.space.bytes,
            "disk_is_low": self.space.is_low,
        }

    async def run(self) -> NoReturn:
        """Keep the server until cancelled.

        Raises:
            EmbeddedNatsError: It died more than ``restarts_max`` times in ``restarts_period_s``.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            self.space.look()
            if not self._server.is_running:
                self._died()
                await self._restart()
            elif self._has_long_been_silent() and not self.space.is_low:
                log.error("embedded_nats_takes_no_writes", silent_s=round(self._silent_s, 1))
                # If that was not the cause, do not do it again and again.
                self._silent_s = min(2 * self._silent_s, _SILENT_S_MAX)
                self._silent_since_s = None
                await self._server.stop(within_s=_STOP_S)
                await self._restart()

    def _died(self) -> None:
        """Note a death, and give up after one too many."""
        code, limits = self._server.exit_code, self._limits
        log.error("embedded_nats_ended", code=code)
        now_s = asyncio.get_running_loop().time()
        self._deaths_s.append(now_s)
        is_full = len(self._deaths_s) > limits.restarts_max
        if is_full and self._deaths_s[-1] - self._deaths_s[0] <= limits.restarts_period_s:
            raise EmbeddedNatsError(
                f"the embedded nats-server ended with code {code}, which is more than "
                f"{limits.restarts_max} times within {limits.restarts_period_s:g} s "
                f"(nats.restarts_max); its log is {self._server.log_file}"
            )

    async def _restart(self) -> None:
        """Start the server; without room on the disk try until there is some."""
        pause_s = _PAUSE_S_MIN
        while True:
            try:
                if await self._server.restart():
                    break
                cause = "it ended before it listened"
            except OSError as error:
                cause = error.strerror or "its files cannot be written"
            log.error("embedded_nats_not_restarted", cause=cause)
            if not self.space.is_low:
                self._died()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)
            self.space.look()
        self.restarts += 1
        log.warning("embedded_nats_restarted", pid=self._server.pid)

    def _has_long_been_silent(self) -> bool:
        """Whether writes have gone unanswered for as long as they may."""
        silent = self._is_silent()
        now_s = asyncio.get_running_loop().time()
        if silent is False:
            self._silent_since_s, self._silent_s = None, self._limits.write_silent_s
        elif silent and self._silent_since_s is None:
            self._silent_since_s = now_s
        since_s = self._silent_since_s
        return since_s is not None and now_s - since_s >= self._silent_s
