"""Access tokens, kept for a moment: nothing is served that may not live as long as was asked.

How long a token lives is the daemon's word (``expires_in_s``), counted from before it was asked
for, by a clock that nobody sets and that goes on while the machine sleeps. So neither a wrong
clock here nor a slow way makes it live longer. It is kept for ``keep_s`` at most, since a
connection that is revoked takes its tokens with it; what is stale, rejected by an API or older
than what is known is not kept at all.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from refreshd_client.errors import NoAnswerError, NotConnectedError, TryAgainError
from refreshd_client.values import AccessToken

VAIN_S = 60.0
"""For so long no other token is asked for when an API has rejected one that was just made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is asked of a token."""

    min_ttl_s: float = 60.0
    if_generation: int | None = None
    force: bool = False


Ask = Callable[[str, Wish, float], Coroutine[Any, Any, AccessToken]]
"""Asks the daemon for a connection's token, within so many seconds."""


def _steady_clock() -> Callable[[], float]:
    """Return a clock in seconds that goes on in sleep: Linux' BOOTTIME, macOS' MONOTONIC.

    Where there is neither (Windows) Python's monotonic one does.
    """
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        if (number := getattr(time, name, None)) is not None:
            return lambda: time.clock_gettime(number)
    return time.monotonic


class _Entry:
    """What is known of one connection's token."""

    __slots__ = ("ends_s", "flights", "kept_until_s", "rejected", "token", "vain")

    def __init__(self, rejected: int = -1) -> None:
        self.token: AccessToken | None = None
        self.ends_s = self.kept_until_s = 0.0
        self.rejected = rejected
        """The newest generation that an API has rejected."""
        self.vain: tuple[int, float] = (-1, 0.0)
        """A generation that was rejected as soon as it was there, and until when that counts."""
        self.flights: dict[Wish, asyncio.Task[AccessToken]] = {}


@dataclass(kw_only=True)
class Tokens:
    """The tokens of one client. At most ``tokens_max`` are kept, those last asked for."""

    ask: Ask = field(repr=False)
    keep_s: float
    tokens_max: int
    now_s: Callable[[], float] = field(default_factory=_steady_clock, repr=False)

    def __post_init__(self) -> None:
        """Keep nothing yet."""
        self._entries = OrderedDict[str, _Entry]()
        self._tasks = set[asyncio.Task[AccessToken]]()

    async def get(self, connection_id: str, wish: Wish, *, timeout_s: float) -> AccessToken:
        """Return a kept token that fulfils the wish, or ask; callers with one wish ask once.

        Raises:
            RefreshdError: As the daemon, or the way to it, has it.
        """
        ends_s = self.now_s() + timeout_s
        while True:
            entry = self._entry(connection_id, wish)
            if (kept := self._kept(entry, wish)) is not None:
                return kept
            flight = None if wish.force else entry.flights.get(wish)
            is_ours = flight is None
            if flight is None:
                flight = self._begin(connection_id, wish, entry, ends_s - self.now_s())
            # Others wait for it, too: it goes on when this caller is cancelled or out of time.
            await asyncio.wait({flight}, timeout=max(ends_s - self.now_s(), 0.0))
            if not flight.done():
                raise NoAnswerError("no answer in time")
            if flight.cancelled():
                raise NotConnectedError("the client was closed")
            error = flight.exception()
            if error is None:
                return flight.result()
            # Who began it may have had less time.
            if is_ours or not isinstance(error, TryAgainError) or self.now_s() >= ends_s:
                raise copy(error)

    def forget(self, connection_id: str) -> None:
        """Serve nothing that is kept, nor what was asked for before this."""
        entry = self._entries.get(connection_id)
        if entry is not None:
            self._entries[connection_id] = _Entry(entry.rejected)

    def was_in_vain(self, connection_id: str, generation: int) -> None:
        """Note that an API has rejected a token that was just made because of a rejection."""
        if (entry := self._entries.get(connection_id)) is not None:
            entry.vain = (generation, self.now_s() + VAIN_S)

    def is_in_vain(self, connection_id: str, generation: int) -> bool:
        """Whether another token would be rejected like this one, as far as is known."""
        entry = self._entries.get(connection_id)
        vain, until_s = (-1, 0.0) if entry is None else entry.vain
        return generation == vain and self.now_s() < until_s

    def close(self) -> None:
        """Keep nothing any more, and end what is under way."""
        self._entries.clear()
        for task in self._tasks:
            task.cancel()

    def _entry(self, connection_id: str, wish: Wish) -> _Entry:
        """Return the connection's entry, as the one last asked for, and heed a rejection."""
        entry = self._entries.setdefault(connection_id, _Entry())
        self._entries.move_to_end(connection_id)
        if len(self._entries) > self.tokens_max:
            self._entries.popitem(last=False)
        if wish.if_generation is not None:
            entry.rejected = max(entry.rejected, wish.if_generation)
        if entry.token is not None and entry.token.generation <= entry.rejected:
            entry.token = None
        return entry

    def _kept(self, entry: _Entry, wish: Wish) -> AccessToken | None:
        now_s, token = self.now_s(), entry.token
        if token is None or wish.force or now_s >= entry.kept_until_s:
            return None
        left_s = entry.ends_s - now_s
        if left_s <= wish.min_ttl_s:
            return None
        return token if left_s == math.inf else replace(token, expires_in_s=int(left_s))

    def _begin(
        self, connection_id: str, wish: Wish, entry: _Entry, left_s: float
    ) -> asyncio.Task[AccessToken]:
        """Ask in a task of its own, and keep what comes of it."""
        began_s = self.now_s()
        flight = asyncio.create_task(self.ask(connection_id, wish, left_s))
        self._tasks.add(flight)
        if not wish.force:
            entry.flights[wish] = flight

        def end(_flight: object) -> None:
            self._tasks.discard(flight)
            if entry.flights.get(wish) is flight:
                del entry.flights[wish]
            if not flight.cancelled() and flight.exception() is None:
                self._keep(entry, flight.result(), began_s)

        flight.add_done_callback(end)
        return flight

    def _keep(self, entry: _Entry, token: AccessToken, began_s: float) -> None:
        """Keep a token, unless it may not be served again."""
        ends_s = math.inf if token.expires_at is None else began_s + (token.expires_in_s or 0)
        is_older = entry.token is not None and token.generation < entry.token.generation
        if not token.stale and not is_older:
            entry.token, entry.ends_s = token, ends_s
            entry.kept_until_s = self.now_s() + self.keep_s
