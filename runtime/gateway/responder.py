"""Sends answers in the order they were given, and holds them while NATS is away.

Answers go out without waiting, all together that one turn of the event loop brings forth. What
cannot be sent because the connection is lost waits for the next one, as long as its caller does,
and so do all that come after it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from runtime.logs import log
from runtime.nats.client import header_block
from runtime.nats.errors import NotSentError
from runtime.nats.link import NatsLink


class _Answer(NamedTuple):
    subject: str
    header_block: bytes
    body: bytes
    expires_s: float
    sent: Callable[[], None]


class Responder:
    """A queue of answers; ``run`` must be running. Bounded by the commands in flight."""

    def __init__(self, link: NatsLink) -> None:
        """Publish over ``link``."""
        self._link = link
        self._burst: list[_Answer] = []
        self._queue: deque[_Answer] = deque()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.dropped = 0
        """How many answers could not be sent while their callers waited."""

    def answer(
        self,
        subject: str,
        body: bytes,
        *,
        expires_s: float,
        sent: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Queue an answer; never blocks.

        Args:
            subject: The caller's reply subject; empty when nobody waits.
            body: JSON.
            expires_s: On the loop's clock; dropped if it cannot be sent until then.
            sent: Called when it was sent or dropped. Must not raise.
            headers: For failures.
        """
        if not subject:
            sent()
            return
        if not self._burst:
            self._empty.clear()
            asyncio.get_running_loop().call_soon(self._send_burst)
        block = header_block(headers) if headers else b""
        self._burst.append(_Answer(subject, block, body, expires_s, sent))

    def _send_burst(self) -> None:
        """Send what has come since the last turn of the loop, behind what still waits."""
        burst, self._burst = self._burst, []
        if self._queue or not self._are_sent(burst):
            self._queue.extend(burst)
            self._arrived.set()
            return
        for answer in burst:
            answer.sent()
        self._empty.set()

    def _are_sent(self, answers: Sequence[_Answer]) -> bool:
        """Send all of them at once, if that can be; none of them if not."""
        try:
            self._link.publish_batch([answer[:3] for answer in answers])
        except NotSentError:
            return False
        return True

    async def drained(self) -> None:
        """Return when no answer waits."""
        await self._empty.wait()

    async def run(self) -> None:
        """Send answers until cancelled."""
        loop = asyncio.get_running_loop()
        queue = self._queue
        while True:
            await self._arrived.wait()
            while queue:
                if not self._link.is_connected:
                    await self._wait_for_a_connection(queue[0].expires_s - loop.time())
                answer = queue[0]
                try:
                    self._link.publish_batch([answer[:3]])
                except NotSentError as error:
                    if not self._link.is_connected and answer.expires_s > loop.time():
                        continue
                    self.dropped += 1
                    log.warning("answer_dropped", cause=str(error))
                queue.popleft()
                answer.sent()
            self._arrived.clear()
            if not self._burst:
                self._empty.set()

    async def _wait_for_a_connection(self, timeout_s: float) -> None:
        """Wait for NATS to come back, at most until the oldest answer is no use any more."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await self._link.wait_connected()
        except TimeoutError:
            return
