"""The events view: every event once in the event stream, in the order of the ledger.

Small batches cost a server far more an event than large ones, so batches are some time apart:
what the ledger stores meanwhile goes into the next one.
"""

from collections import deque
from collections.abc import Sequence

import anyio

from domain.events import Event
from runtime.ledger.cloud_events import CONTENT_TYPE, encode_event, trace_lines
from runtime.ledger.marked_view import MarkedView
from runtime.ledger.partition_streams import Outgoing
from runtime.ledger.subjects import event_subject
from runtime.ledger.view_runner import ViewRunner

_IDLE_S = 1.0
"""How long groups without any event wait for one, before the marker moves on for them alone."""


class EventsView(ViewRunner):
    """What the event stream lacks, and its way there. ``run`` must be running."""

    def __init__(
        self,
        mark: MarkedView,
        *,
        partition: int,
        prefix: str,
        gather_s: float,
        batch_events_max: int,
    ) -> None:
        """Follow from where ``mark`` is."""
        super().__init__(mark, partition=partition)
        self._prefix = prefix
        self._gather_s = gather_s
        self._batch_events_max = batch_events_max
        self._lacking: deque[tuple[int, Sequence[Event], str]] = deque()
        self._events = 0
        self._has_events = anyio.Event()
        self._is_enough = anyio.Event()
        self._is_hurried = False
        """Whether the daemon ends."""
        self._next_s = 0.0
        self._marked_s = 0.0

    @property
    def events_lacking(self) -> int:
        """How many events the stream lacks."""
        return self._events

    def follow(self, seq: int, events: Sequence[Event], daemon: str) -> None:
        """Take over what the ledger has stored at ``seq``, decided by ``daemon``."""
        self._lacking.append((seq, events, daemon))
        self._events += len(events)
        if events:
            self._has_events.set()
        if self._events >= self._batch_events_max:
            self._is_enough.set()
        self.followed(seq)

    async def hurried(self) -> None:
        """Return when the stream holds everything, or is another's; let nothing gather."""
        self._is_hurried = True
        self._has_events.set()
        self._is_enough.set()
        await self.reached(self.followed_seq, unless_replaced=True)

    async def pace(self) -> None:
        """Let events gather since the last batch, and groups without any for longer."""
        if not self._events and not self._is_hurried:
            self._has_events = anyio.Event()
            with anyio.move_on_after(_IDLE_S):
                await self._has_events.wait()
        self._is_enough = anyio.Event()
        if self._events < self._batch_events_max and not self._is_hurried:
            with anyio.move_on_after(self._next_s - anyio.current_time()):
                await self._is_enough.wait()

    async def advance(self) -> None:
        """Write one batch, of whole groups."""
        self._forget()
        messages, through = self._batch()
        self._next_s = anyio.current_time() + self._gather_s
        await self.mark.write(messages, through)
        self._marked_s = anyio.current_time()
        self._forget()

    async def renew(self, age_s: float) -> None:
        """Write the marker anew if it is older than that: the stream drops what is old.

        Raises:
            LinkError, JetStreamError, ReplacedError: It could not be written.
        """
        if anyio.current_time() - self._marked_s >= age_s:
            await self.mark.write((), self.mark.through)
            self._marked_s = anyio.current_time()

    def _batch(self) -> tuple[list[Outgoing], int]:
        """Return the oldest groups that fit into one batch, at least one, and how far it goes."""
        messages: list[Outgoing] = []
        through = self.mark.through
        for seq, events, daemon in self._lacking:
            if messages and len(messages) + len(events) > self._batch_events_max:
                break
            source = f"/refreshd/{daemon}"
            for event in events:
                event_id, connection_id, body = encode_event(event, source=source)
                lines = f"Nats-Msg-Id: {event_id}\r\ncontent-type: {CONTENT_TYPE}\r\n"
                if event.traceparent is not None:
                    lines += trace_lines(event)
                subject = event_subject(self._prefix, event, connection_id)
                messages.append(Outgoing(subject, body, lines))
            through = seq
        return messages, through

    def _forget(self) -> None:
        """Drop what the stream holds."""
        while self._lacking and self._lacking[0][0] <= self.mark.through:
            _, events, _ = self._lacking.popleft()
            self._events -= len(events)
