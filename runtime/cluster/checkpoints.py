"""Checkpoints of any partition, by whoever owns it.

A daemon asks on ``refreshd_owner.<nn>.checkpoint.<daemon>``, again and again until the owner has
answered on ``refreshd_owner.<nn>.checkpointed.<daemon>``; its own partitions it asks in the same
way. Questions have no reply subject: daemons give no answer to each other's inbox
(``runtime.nats.reply_subjects``).
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from actors.bus import Bus, Heard
from runtime.ledger.subjects import (
    CHECKPOINT,
    checkpoint_subject,
    checkpointed_filter,
    checkpointed_subject,
)
from runtime.logs import log

_REPEAT_S = 0.2
_WORK_S_MAX = 10.0
"""How long an owner tries to write one; whoever still wants it asks again."""
_AT_ONCE_MAX = 1_000
"""How many an owner writes at once, of all partitions."""


class Question(msgspec.Struct, frozen=True):
    """What an owner is asked."""

    number: int
    """The asking daemon's; the answer repeats it."""
    proves: bool
    """Whether it must write even where the bucket lacks nothing; see ``RecordsView.proven``."""


class Answer(msgspec.Struct, frozen=True):
    """What an owner answers."""

    number: int
    marker_seq: int


class Records(Protocol):
    """The bucket of a partition that is owned here; see ``RecordsView``."""

    async def proven(self) -> int:
        """Return the sequence of a marker that was written since."""
        ...

    async def checkpointed(self) -> None:
        """Return when everything is written that was stored before."""
        ...


class _Waiting:
    """A question that is not answered yet."""

    def __init__(self) -> None:
        self.marker_seq = 0
        self.answered = anyio.Event()


class Checkpoints:
    """Asks, and answers. ``listen`` before anything is asked; ``run`` must be running to answer."""

    def __init__(
        self, me: str, bus: Bus, *, tag: str, here: Callable[[int], Records | None]
    ) -> None:
        """Ask nothing yet.

        Args:
            me: This daemon's id.
            bus: Core NATS.
            tag: What stands for the prefix in subjects.
            here: What is owned here.
        """
        self._me = me
        self._bus = bus
        self._tag = tag
        self._here = here
        self._number = 0
        self._waiting: dict[int, _Waiting] = {}
        self._busy: set[tuple[int, str, int]] = set()
        self._tasks: TaskGroup | None = None

    async def listen(self) -> None:
        """Hear answers from now on.

        Raises:
            LinkError: The server did not take the subscription.
        """
        await self._bus.subscribe(checkpointed_filter(self._me, self._tag), self._answered)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer what is taken, until cancelled."""
        try:
            async with anyio.create_task_group() as self._tasks:
                task_status.started()
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    async def proven(self, partition: int) -> int:
        """Return the sequence of a marker of the partition's bucket.

        The bucket holds, at it, everything that anybody was answered before the call. Waits for an
        owner, however long that takes.
        """
        return await self._asked(partition, proves=True)

    async def checkpointed(self, partition: int) -> None:
        """Return when an owner's bucket holds what the owner had stored before it was asked.

        Of two that take themselves for the owner it may be the wrong one. Waits as ``proven``.
        """
        await self._asked(partition, proves=False)

    async def all_proven(self, partitions: Iterable[int], *, within_s: float) -> bool:
        """Return whether all of these partitions' owners have written one in that time."""
        with anyio.move_on_after(within_s):
            async with anyio.create_task_group() as tasks:
                for partition in partitions:
                    tasks.start_soon(self.proven, partition)
            return True
        return False

    def take(self, message: Heard) -> bool:
        """Take what is for an owner; False: it is nothing of this. Never raises."""
        _, number, verb, daemon = message.subject.rsplit(".", 3)
        if verb != CHECKPOINT:
            return False
        question = _decoded(message.data, Question)
        records = self._here(int(number))
        if question is not None and records is not None and self._tasks is not None:
            busy = (int(number), daemon, question.number)
            if busy not in self._busy and len(self._busy) < _AT_ONCE_MAX:
                self._busy.add(busy)
                self._tasks.start_soon(self._answer, busy, question, records)
        return True

    async def _asked(self, partition: int, *, proves: bool) -> int:
        self._number += 1
        data = msgspec.msgpack.encode(Question(self._number, proves))
        subject = checkpoint_subject(partition, self._me, self._tag)
        number, waiting = self._number, _Waiting()
        self._waiting[number] = waiting
        try:
            while not waiting.answered.is_set():
                self._bus.publish(subject, data)
                with anyio.move_on_after(_REPEAT_S):
                    await waiting.answered.wait()
            return waiting.marker_seq
        finally:
            del self._waiting[number]

    def _answered(self, message: Heard) -> None:
        answer = _decoded(message.data, Answer)
        waiting = None if answer is None else self._waiting.get(answer.number)
        if answer is not None and waiting is not None:
            waiting.marker_seq = answer.marker_seq
            waiting.answered.set()

    async def _answer(
        self, busy: tuple[int, str, int], question: Question, records: Records
    ) -> None:
        partition, daemon, _ = busy
        try:
            with anyio.move_on_after(_WORK_S_MAX):
                marker_seq = 0
                if question.proves:
                    marker_seq = await records.proven()
                else:
                    await records.checkpointed()
                answer = Answer(question.number, marker_seq)
                subject = checkpointed_subject(partition, daemon, self._tag)
                # Where it is not sent the question comes again.
                self._bus.publish(subject, msgspec.msgpack.encode(answer))
        finally:
            self._busy.discard(busy)


_T = TypeVar("_T", Question, Answer)


def _decoded(data: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        log.warning("checkpoint_message_unreadable")
        return None
