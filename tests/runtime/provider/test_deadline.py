"""An answer that lies in the socket is read, however late it is that anybody can look."""

import asyncio
import time

import pytest

from runtime.provider.deadline import until


def stand_still(for_s: float) -> None:
    """Do what SIGSTOP does: nothing at all."""
    time.sleep(for_s)


async def answered(after_s: float) -> None:
    answer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(after_s, answer.set_result, None)
    await answer


async def answered_while_it_stood_still(*, is_sent: bool) -> None:
    async with until(asyncio.get_running_loop().time() + 0.01, is_sent=lambda: is_sent):
        stand_still(0.6)
        await answered(0.05)


async def test_what_came_while_the_process_stood_still_is_still_read():
    await answered_while_it_stood_still(is_sent=True)


async def test_what_was_not_sent_before_the_process_stood_still_is_not_sent_after_it():
    with pytest.raises(TimeoutError):
        await answered_while_it_stood_still(is_sent=False)


@pytest.mark.parametrize("in_s", [0.05, -60.0])
async def test_nobody_is_waited_for_who_does_not_answer_in_time(in_s: float):
    until_s = asyncio.get_running_loop().time() + in_s
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10), until(until_s, is_sent=lambda: True):
            await answered(30.0)
