"""What a daemon has done since its start, counted as it is stored: for metrics and the page.

Plain numbers, so that counting costs next to nothing; ``runtime.web`` puts them into words.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable

from domain.connection import ProviderConnection
from domain.events import (
    ProviderGrantNeedsReauth,
    ProviderTokenRefreshAttempted,
    ProviderTokenRefreshFailed,
    ProviderTokenRefreshSucceeded,
)
from runtime.ledger.provider_names import ProviderNames
from runtime.ledger.told_ledger import StoredGroup

SUCCEEDED = "succeeded"
LIFE_LEFT_BOUNDS_S = (0, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 86_400, 7 * 86_400)
SLOT_S = 300
_SLOTS = 24 * 3600 // SLOT_S


class LifeLeft:
    """How long access tokens had to live when a refresh began, however it ended: a histogram."""

    def __init__(self) -> None:
        """Start with nothing observed."""
        self.counts = [0] * (len(LIFE_LEFT_BOUNDS_S) + 1)
        """By the least bound that holds it; the last is what no bound does."""
        self.sum_s = 0.0

    def observe(self, left_s: float) -> None:
        """Count one; what has ended already had 0 s left."""
        left_s = max(left_s, 0.0)
        self.counts[bisect_left(LIFE_LEFT_BOUNDS_S, left_s)] += 1
        self.sum_s += left_s


class Slot:
    """What became of refreshes within ``SLOT_S`` seconds."""

    __slots__ = ("failed", "number", "succeeded")

    def __init__(self, number: int) -> None:
        """Start with none."""
        self.number = number
        """Its time, in ``SLOT_S`` since the epoch."""
        self.succeeded = self.failed = 0


class Tally:
    """Every count by provider is bounded by ``names``."""

    def __init__(self, names: ProviderNames, *, now_s: Callable[[], float]) -> None:
        """Start at zero.

        Args:
            names: By which providers are counted.
            now_s: The wall clock, since the epoch.
        """
        self._names = names
        self._now_s = now_s
        self.appends = self.entries = 0
        self.refreshes: Counter[tuple[str, str]] = Counter()
        """Refreshes at providers, by provider and ``succeeded`` or the class of the verdict."""
        self.needs_reauth: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        """Failed refreshes after which the refresh token may be spent."""
        self.life_left: dict[str, LifeLeft] = {}
        self.slots: deque[Slot] = deque(maxlen=_SLOTS)
        """The last day, oldest first; slots in which nothing happened are not there."""

    @property
    def outcomes(self) -> dict[str, int]:
        """Refreshes at providers, of all of them, by ``succeeded`` or the class of the verdict."""
        found: Counter[str] = Counter()
        for (_, outcome), refreshes in self.refreshes.items():
            found[outcome] += refreshes
        return dict(found)

    def stored(self, group: StoredGroup) -> None:
        """Count what an acknowledged group holds. Must not raise."""
        self.appends += 1
        self.entries += len(group)
        for connection, events in group:
            for event in events:
                match event:
                    case ProviderTokenRefreshAttempted():
                        if connection is not None:
                            self._attempted(event, connection)
                    case ProviderTokenRefreshSucceeded():
                        # Without an attempt a caller brought the credentials.
                        if event.attempt_id is not None:
                            self._ended(event.provider_slug, SUCCEEDED)
                    case ProviderTokenRefreshFailed():
                        # Without a class it is a command that was refused.
                        if event.failure_class is not None:
                            self._ended(event.provider_slug, event.failure_class)
                    case ProviderGrantNeedsReauth():
                        self.needs_reauth[self._names.of(event.provider_slug)] += 1
                    case _:
                        pass

    def outcome_unknown(self, provider_slug: str) -> None:
        """Count a failed refresh after which it is not known whether the token was spent."""
        self.unknown[self._names.of(provider_slug)] += 1

    def _attempted(
        self, event: ProviderTokenRefreshAttempted, connection: ProviderConnection
    ) -> None:
        """Note how long the access token has to live that is about to be replaced."""
        intent, credentials = connection.intent, connection.credentials
        if intent is None or intent.attempt_id != event.attempt_id or credentials is None:
            return
        if credentials.expires_at is not None:
            left_s = (credentials.expires_at - intent.started_at).total_seconds()
            name = self._names.of(event.provider_slug)
            self.life_left.setdefault(name, LifeLeft()).observe(left_s)

    def _ended(self, provider_slug: str, outcome: str) -> None:
        self.refreshes[self._names.of(provider_slug), outcome] += 1
        number = int(self._now_s() // SLOT_S)
        if not self.slots or self.slots[-1].number != number:
            self.slots.append(Slot(number))
        slot = self.slots[-1]
        if outcome == SUCCEEDED:
            slot.succeeded += 1
        else:
            slot.failed += 1
