"""Answers to what is read from JetStream and not from actors: listings, histories, ``status``.

Few of them run at once, so that they leave the streams to the commands.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import anyio

from actors.world import overloaded
from domain.result import Failure, FailureCode, Success
from runtime.gateway.in_flight import InFlight
from runtime.logs import log
from runtime.nats.errors import LinkError

Read = Callable[[float], Awaitable[Success[object] | Failure]]
"""Reads what is asked for within so many seconds; never raises but to be cancelled."""
ReportStatus = Callable[[], Awaitable[dict[str, object]]]
_STOP_S = 5.0


class SlowAnswers:
    """Single-threaded; each answer is a task."""

    def __init__(self, at_once_max: int) -> None:
        """Let ``at_once_max`` read at once, and four times as many wait."""
        self._slots = anyio.CapacityLimiter(at_once_max)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def at_once_max(self) -> int:
        """How many read at once."""
        return int(self._slots.total_tokens)

    @at_once_max.setter
    def at_once_max(self, at_once_max: int) -> None:
        self._slots.total_tokens = at_once_max

    def read(self, read: Read, in_flight: InFlight, now_s: Callable[[], float]) -> None:
        """Answer with what is read in the caller's time, when it has its turn."""
        self._begin(self._answer(read, in_flight, now_s), in_flight)

    def report(self, report: ReportStatus, in_flight: InFlight) -> None:
        """Answer an operator's question at once."""
        self._begin(self._answer_status(report, in_flight), in_flight)

    async def stop(self) -> None:
        """Wait for those that are under way, for a while."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)

    def _begin(self, work: Coroutine[None, None, None], in_flight: InFlight) -> None:
        """Begin, or refuse where too many others keep JetStream busy."""
        if len(self._tasks) >= 5 * self.at_once_max:
            work.close()
            in_flight.fail(overloaded("too many listings at once"))
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, read: Read, in_flight: InFlight, now_s: Callable[[], float]) -> None:
        """Answer one listing. Never raises."""
        try:
            async with self._slots:
                result = await read(in_flight.deadline_s - now_s())
        except Exception as error:  # noqa: BLE001 -- the edge
            log.error("list_crashed", error=type(error).__name__)
            in_flight.fail(internal_error())
            return
        match result:
            case Success(value):
                in_flight.succeed(value)
            case Failure():
                in_flight.fail(result)

    async def _answer_status(self, report: ReportStatus, in_flight: InFlight) -> None:
        """Answer one status. Never raises."""
        try:
            in_flight.succeed(await report())
        except LinkError as error:
            message = f"Database error occurred: {error}"
            in_flight.fail(Failure(code=FailureCode.DATABASE_ERROR, message=message))
        except Exception as error:  # noqa: BLE001 -- the edge
            log.error("status_crashed", error=type(error).__name__)
            in_flight.fail(internal_error())


def internal_error() -> Failure:
    """Return the answer to one caller who met a bug."""
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message="Database error occurred: internal error",
        retry_after_s=1.0,
    )
