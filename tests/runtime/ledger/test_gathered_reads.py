"""Reads at about the same time are one request; each has its own time and its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from runtime.ledger.gathered_reads import GatheredReads
from runtime.nats.errors import NoAnswerError
from runtime.nats.jetstream_api import StoredMessage
from tests.fakes.eventually import eventually


class Store:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: NoAnswerError | None = None

    async def get(self, subjects: Sequence[str], _timeout_s: float) -> dict[str, StoredMessage]:
        self.asked.append(list(subjects))
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return {subject: StoredMessage(subject=subject) for subject in subjects}


async def test_what_is_asked_in_one_turn_is_asked_together():
    store = Store()
    reads = GatheredReads(store.get)

    found = await asyncio.gather(*(reads.read(str(n), timeout_s=1.0) for n in range(100)))
    later = await reads.read("later", timeout_s=1.0)

    assert [len(subjects) for subjects in store.asked] == [64, 36, 1]
    assert all(str(n) in one for n, one in enumerate(found))
    assert list(later) == ["later"]


async def test_nobody_waits_for_what_was_asked_before():
    store = Store()
    reads = GatheredReads(store.get)
    store.answers.clear()
    first = asyncio.create_task(reads.read("first", timeout_s=5.0))
    await eventually(lambda: bool(store.asked))

    second = asyncio.create_task(reads.read("second", timeout_s=5.0))
    await eventually(lambda: len(store.asked) == 2)
    store.answers.set()

    assert "first" in await first
    assert "second" in await second


async def test_an_error_is_told_to_each_and_the_next_read_asks_anew():
    store = Store()
    reads = GatheredReads(store.get)
    store.error = NoAnswerError("no answer in time")

    failed = await asyncio.gather(
        *(reads.read(str(n), timeout_s=1.0) for n in range(2)), return_exceptions=True
    )
    store.error = None

    assert [type(error) for error in failed] == [NoAnswerError, NoAnswerError]
    assert "next" in await reads.read("next", timeout_s=1.0)


async def test_one_that_is_cancelled_or_out_of_time_harms_no_other():
    store = Store()
    reads = GatheredReads(store.get)
    store.answers.clear()
    gone = asyncio.create_task(reads.read("gone", timeout_s=5.0))
    late = asyncio.create_task(reads.read("late", timeout_s=0.01))
    patient = asyncio.create_task(reads.read("patient", timeout_s=5.0))
    await eventually(lambda: bool(store.asked))

    gone.cancel()
    with pytest.raises(NoAnswerError, match="no answer in time"):
        await late
    store.answers.set()

    assert "patient" in await patient
    assert store.asked == [["gone", "late", "patient"]]
