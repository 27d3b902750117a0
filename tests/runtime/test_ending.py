"""A daemon that cannot go on says so at once, and ends as what it is, also where it was stopping."""

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from actors.ports import PartitionLostError
from runtime.ending import DaemonError, Ending
from runtime.nats.link import NatsLink
from runtime.stop_budget import StopBudget


class _Link:
    def __init__(self) -> None:
        self.closed = asyncio.Event()


def _ending(link: _Link) -> Ending:
    return Ending(cast("NatsLink", link), StopBudget(1.0))


async def test_the_first_reason_is_told_at_once_and_ends_the_wait():
    ending = _ending(_Link())
    waiting = asyncio.create_task(ending.awaited(asyncio.Event()))

    with capture_logs() as logs:
        ending.because(PartitionLostError("partition 3 is lost"))
        ending.because(DaemonError("and more"))
    await waiting

    assert [(one["event"], one["cause"]) for one in logs] == [
        ("cannot_go_on", "partition 3 is lost")
    ]
    with pytest.raises(PartitionLostError, match="partition 3"):
        ending.check()


async def test_a_partition_that_is_lost_amid_a_stop_is_still_told_to_who_started_us():
    ending, stop = _ending(_Link()), asyncio.Event()
    stop.set()
    await ending.awaited(stop)
    ending.check()

    ending.because(PartitionLostError("partition 3 is lost"))

    assert ending.is_lost
    with pytest.raises(PartitionLostError):
        ending.check()


async def test_a_connection_that_is_closed_for_good_is_a_reason():
    link = _Link()
    ending = _ending(link)
    link.closed.set()

    await ending.awaited(asyncio.Event())

    with pytest.raises(DaemonError, match="closed for good"):
        ending.check()
