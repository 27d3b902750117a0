"""Outcomes that a daemon could not store, on their way to whoever owns their partitions.

A daemon that has lost or given a partition while providers have its requests spills what they
answer, and so does one whose ledger takes nothing for a while. What is spilled is sent to
``refreshd_owner.<nn>.outcome.<id>``, as it lies in the file, its credentials sealed, again and
again, until the owner acknowledges it on ``refreshd_owner.<nn>.stored.<id>`` with the attempt's id.
Then the file is removed. Requests have no reply subject for that: daemons give no answer to each
other's inbox (``runtime.nats.reply_subjects``).
"""

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from uuid import UUID

import anyio

from actors.ports import CannotUnsealError, Outcome, Sealer, Spill
from domain.credentials import Sealed
from runtime.ledger.spill import DamagedError, LaterVersionError, decode_outcome, encode_outcome
from runtime.ledger.streams import Streams
from runtime.ledger.subjects import (
    heartbeat_subject,
    outcome_stored_subject,
    outcome_subject,
    outcomes,
    outcomes_stored,
    owner_subjects,
    partition_of,
)
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.hearing import hear
from runtime.nats.link import NatsLink

_REPEAT_S = 0.5
TakeIn = Callable[[Outcome, Callable[[], None]], None]
"""Stores an outcome if its intent is open, and calls back when it is; see ``Directory.take_in``."""


class Delivery:
    """Implements ``actors.ports.Spill`` around a folder; ``run`` sends what that keeps."""

    def __init__(self, spill: Spill, link: NatsLink, streams: Streams) -> None:
        """Send nothing yet."""
        self._spill = spill
        self._link = link
        self._streams = streams
        self._kept: dict[UUID, Outcome] = {}
        self._arrived = anyio.Event()
        self._gone = anyio.Event()

    @property
    def held(self) -> int:
        """How many outcomes are kept that no ledger has taken yet."""
        return len(self._kept)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Send what was spilled before, too."""
        self._kept.update({outcome.attempt_id: outcome for outcome in outcomes})
        self._arrived.set()

    async def keep(self, outcome: Outcome) -> bool:
        """See ``Spill.keep``."""
        is_kept = await self._spill.keep(outcome)
        self._kept[outcome.attempt_id] = outcome
        self._arrived.set()
        return is_kept

    async def forget(self, outcome: Outcome) -> None:
        """See ``Spill.forget``."""
        await self._spill.forget(outcome)
        self._kept.pop(outcome.attempt_id, None)
        self._gone.set()

    async def run(self) -> None:
        """Send what is kept, and what comes to it, until cancelled."""
        tag = self._streams.tag
        is_heard = False
        while True:
            is_heard = is_heard or await _is_heard(self._link, outcomes_stored(tag), self._stored)
            self._arrived = anyio.Event()
            for outcome in [*self._kept.values()]:
                subject = outcome_subject(self._partition(outcome), outcome.connection.id, tag)
                with contextlib.suppress(LinkError):
                    self._link.publish_now(subject, encode_outcome(outcome))
            with anyio.move_on_after(_REPEAT_S if self._kept else math.inf):
                await self._arrived.wait()

    async def done(self) -> None:
        """Return when everything that was kept is stored; ``run`` must be running."""
        while self._kept:
            self._gone = anyio.Event()
            await self._gone.wait()

    async def _stored(self, attempt_id: bytes) -> None:
        with contextlib.suppress(ValueError):
            outcome = self._kept.get(UUID(bytes=attempt_id))
            if outcome is not None:
                await self.forget(outcome)

    def _partition(self, outcome: Outcome) -> int:
        return partition_of(outcome.connection.id, self._streams.partitions)


async def receive_outcomes(
    link: NatsLink, streams: Streams, sealer: Sealer, take_in: TakeIn
) -> None:
    """Take in what replaced daemons deliver, from now on.

    Raises:
        LinkError: The server did not take the subscription.
    """

    def acknowledge(outcome: Outcome) -> None:
        connection_id = outcome.connection.id
        partition = partition_of(connection_id, streams.partitions)
        subject = outcome_stored_subject(partition, connection_id, streams.tag)
        # Where it is not sent the outcome comes again.
        with contextlib.suppress(LinkError):
            link.publish_now(subject, outcome.attempt_id.bytes)
        log.warning("outcome_taken_in", connection_id=str(connection_id))

    async def take(data: bytes) -> None:
        outcome = _readable(data, sealer)
        if outcome is not None:
            take_in(outcome, partial(acknowledge, outcome))

    link.replies.forbid(owner_subjects(streams.tag), heartbeat_subject("", streams.tag))
    await hear(link, outcomes(streams.tag), take)


async def _is_heard(link: NatsLink, subject: str, take: Callable[[bytes], Awaitable[None]]) -> bool:
    try:
        await hear(link, subject, take)
    except LinkError:
        return False
    return True


def _readable(data: bytes, sealer: Sealer) -> Outcome | None:
    """Return an outcome that was sealed with a key that this daemon has, or None."""
    try:
        outcome = decode_outcome(data)
        connection = outcome.connection
        credentials = connection.credentials
        if credentials is not None and isinstance(credentials.payload, Sealed):
            sealer.unseal(
                credentials.payload,
                connection_id=connection.id,
                generation=connection.generation,
            )
    except (CannotUnsealError, DamagedError, LaterVersionError) as error:
        log.error("outcome_not_taken_in", cause=str(error) or type(error).__name__)
        return None
    return outcome
