"""Records that are asked for at about the same time are read by one multi-get.

A burst on connections that nobody has in memory, as an import is, would else cost a request each.
What is gathered is what one turn of the event loop asks for, so nobody waits for others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from runtime.nats.errors import NO_ANSWER_IN_TIME, LinkError, NoAnswerError
from runtime.nats.jetstream_api import JetStreamError, StoredMessage

_SUBJECTS_MAX = 64

Found = dict[str, StoredMessage]
Get = Callable[[Sequence[str], float], Awaitable[Found]]
"""Returns the last message on each of the subjects, from one moment, within so many seconds."""


class GatheredReads:
    """Reads by subject."""

    def __init__(self, get: Get) -> None:
        """Have nothing to read."""
        self._get = get
        self._subjects: list[str] = []
        self._reading: asyncio.Task[Found | LinkError | JetStreamError] | None = None
        """Of the subjects above; it has not asked yet."""

    async def read(self, subject: str, *, timeout_s: float) -> Found:
        """Return what one multi-get has found for this subject, and for some others.

        Raises:
            LinkError: No answer, or not all of it.
            JetStreamError: Refused.
        """
        if self._reading is None or len(self._subjects) >= _SUBJECTS_MAX:
            self._subjects = []
            self._reading = asyncio.create_task(self._read(self._subjects, timeout_s))
        self._subjects.append(subject)
        try:
            async with asyncio.timeout(timeout_s):
                found = await asyncio.shield(self._reading)
        except TimeoutError:
            raise NoAnswerError(NO_ANSWER_IN_TIME) from None
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    async def _read(
        self, subjects: list[str], timeout_s: float
    ) -> Found | LinkError | JetStreamError:
        if subjects is self._subjects:
            self._reading = None
        try:
            return await self._get(subjects, timeout_s)
        except (LinkError, JetStreamError) as error:
            return error
