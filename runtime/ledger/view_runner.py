"""What both views have in common: they lag behind the ledger, and nobody waits for them."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import anyio

from runtime.ledger.marked_view import MarkedView, ReplacedError
from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError

_PAUSE_S_MIN = 0.1
_PAUSE_S_MAX = 2.0


class ViewRunner(ABC):
    """Advances a view until it holds what was followed, for as long as that takes."""

    def __init__(self, mark: MarkedView, *, partition: int) -> None:
        """Be complete up to where ``mark`` is."""
        self.mark = mark
        self.partition = partition
        self.followed_seq = mark.through
        """The last ledger sequence that the view knows of."""
        self.trouble = ""
        """Why the view cannot be written; empty where it can."""
        self.moved: Callable[[], None] = lambda: None
        """Called whenever the view has got further."""
        self._arrived = anyio.Event()
        self._reached = anyio.Event()
        self._is_replaced = False

    @property
    def lag(self) -> int:
        """How many groups of the ledger the view lacks."""
        return max(self.followed_seq - self.mark.through, 0)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to write."""
        return self.lag > 0

    def followed(self, seq: int) -> None:
        """Know that the ledger has got to ``seq``."""
        self.followed_seq = seq
        self._arrived.set()

    async def reached(self, seq: int, *, unless_replaced: bool = False) -> None:
        """Return when the view is complete up to ``seq``.

        Args:
            seq: Of the ledger.
            unless_replaced: Return also when a later owner writes the view.
        """
        while self.mark.through < seq and not (unless_replaced and self._is_replaced):
            await self._reached.wait()

    @abstractmethod
    async def pace(self) -> None:
        """Wait until it is worth while to advance."""

    @abstractmethod
    async def advance(self) -> None:
        """Write what the view lacks, or some of it.

        Raises:
            LinkError, JetStreamError: It cannot be written now; nothing is lost.
            ReplacedError: A later owner writes the view.
        """

    async def run(self) -> None:
        """Advance until cancelled. What cannot be written is held, reported and tried again."""
        pause_s = _PAUSE_S_MIN
        while True:
            if not self.has_work:
                self._arrived = anyio.Event()
                await self._arrived.wait()
            await self.pace()
            try:
                await self.advance()
            except (LinkError, JetStreamError, ReplacedError) as error:
                self._is_replaced = isinstance(error, ReplacedError)
                self._failed(str(error))
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
                continue
            pause_s = _PAUSE_S_MIN
            self._succeeded()

    def _failed(self, cause: str) -> None:
        if not self.trouble:
            log.error(
                "view_cannot_be_written",
                view=self.mark.view,
                partition=self.partition,
                lag=self.lag,
                cause=cause,
            )
        self.trouble = cause
        if self._is_replaced:
            self._wake_waiters()

    def _succeeded(self) -> None:
        if self.trouble:
            log.warning("view_is_written_again", view=self.mark.view, partition=self.partition)
        self.trouble = ""
        self._wake_waiters()
        self.moved()

    def _wake_waiters(self) -> None:
        reached, self._reached = self._reached, anyio.Event()
        reached.set()
