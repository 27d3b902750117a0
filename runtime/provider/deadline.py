"""Until when an answer is waited for, by a process that may itself stand still meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

_STOOD_STILL_S = 0.5
"""A timer that is late by more than this tells that the process, or its host, stood still."""
_READING_S = 2.0


@contextlib.asynccontextmanager
async def until(deadline_s: float, *, is_sent: Callable[[], bool]) -> AsyncGenerator[None]:
    """End the body when the event loop's clock is at ``deadline_s``.

    Where the process stood still then, two seconds after it goes on: what was answered in time
    lies in the socket, and a refresh token that was spent for it is worth reading it.

    Args:
        deadline_s: On the loop's clock.
        is_sent: Whether there may be an answer. What is not sent by then never is: somebody else
            may have begun another attempt.

    Raises:
        TimeoutError: The time is up.
    """
    loop = asyncio.get_running_loop()
    due_s = max(deadline_s, loop.time())
    async with asyncio.timeout(None) as limit:

        def over() -> None:
            stood_still = loop.time() - due_s > _STOOD_STILL_S
            reads_on = stood_still and is_sent()
            limit.reschedule(loop.time() + _READING_S if reads_on else loop.time())

        timer = loop.call_at(due_s, over)
        try:
            yield
        finally:
            timer.cancel()
