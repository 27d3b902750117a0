"""The event log goes on, whatever one commit runs into."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from actors.ports import EventLogUnavailableError
from runtime.ledger.event_log import EventLogLimits, JetStreamEventLog
from runtime.nats.link import NatsLink
from tests.fakes.connections import ids, refresh_events

STORED = b'{"stream":"S","seq":1}'


class _Answering(NatsLink):
    """A link that answers requests with what is planned; what is an error is raised."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)

    async def request(self, *_arguments: object, **_options: object) -> Msg:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Msg(None, data=answer)  # type: ignore[arg-type]

    async def publish(self, *_arguments: object, **_options: object) -> None:
        return


@contextlib.asynccontextmanager
async def running_log(*answers: bytes | Exception) -> AsyncGenerator[JetStreamEventLog]:
    limits = EventLogLimits(batch_events_min=3)
    log = JetStreamEventLog(
        _Answering(*answers), prefix="p", source="/refreshd/test", ids=ids, limits=limits
    )
    task = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        task.cancel()


@pytest.mark.parametrize("refreshes", [1, 4])
@pytest.mark.parametrize("odd", [b"\xff", b"[" * 100_000, b"{}", b'{"stream":"\xff","seq":1}'])
async def test_an_answer_that_is_none_fails_its_append_alone(odd: bytes, refreshes: int):
    retried_as_chain = [odd] if refreshes > 1 else []
    async with running_log(odd, *retried_as_chain, *[STORED] * 8) as log:
        with pytest.raises(EventLogUnavailableError):
            await log.append(refresh_events(next(ids), refreshes))

        await log.append(refresh_events(next(ids), 1))


async def test_a_commit_that_crashes_fails_its_appends_and_is_told_by_its_type_alone():
    with capture_logs() as logs:
        async with running_log(RuntimeError("s3cret"), STORED, STORED) as log:
            with pytest.raises(EventLogUnavailableError) as refused:
                await log.append(refresh_events(next(ids), 1))

            await log.append(refresh_events(next(ids), 1))

    assert [entry["event"] for entry in logs] == ["event_commit_crashed"]
    assert logs[0]["error"] == "RuntimeError"
    assert "s3cret" not in str(logs) + str(refused.value)
