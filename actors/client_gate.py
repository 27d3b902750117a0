"""What all connections of one client at one provider share: slots, cool-downs, pauses.

A rate limit cools the client: nobody asks before it is over. A failure that is our own
configuration's pauses it: nobody asks for ``probe_interval_s``, and then one flight alone
tries; only its success lets the others follow. Kept in memory: a restart, which is how a
configuration is mended, begins anew.
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple

import anyio

from domain.exchange import Verdict
from domain.profile import FailureClass, ProviderProfile

_PROBE_AGAIN_S = 1.0


class Closed(NamedTuple):
    """Why nobody may ask now."""

    failure_class: FailureClass
    reason: str
    left_s: float


class ClientGate:
    """One client's gate; single-threaded, so what it says holds until the next await."""

    def __init__(self, profile: ProviderProfile) -> None:
        """Open a gate with the profile's ``max_concurrency`` slots."""
        self._slots = anyio.CapacityLimiter(profile.max_concurrency)
        self._probe_interval_s = profile.probe_interval_s
        self._cooled_until_s = 0.0
        self._cooled_for = ""
        self._paused_until_s: float | None = None
        self._paused_for = ""
        self._is_probing = False
        self.secret_index = 0
        """Which of the client's secrets worked last."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._slots.borrowed_tokens

    @property
    def is_paused(self) -> bool:
        """Whether a configuration failure has not been mended yet."""
        return self._paused_until_s is not None

    def closed(self) -> Closed | None:
        """Return why nobody may ask now, or None."""
        now_s = anyio.current_time()
        if self._paused_until_s is not None:
            left_s = self._paused_until_s - now_s
            if left_s > 0 or self._is_probing:
                left_s = max(left_s, _PROBE_AGAIN_S)
                return Closed(FailureClass.OPERATOR, self._paused_for, left_s)
        if self._cooled_until_s > now_s:
            left_s = self._cooled_until_s - now_s
            return Closed(FailureClass.TRANSIENT, self._cooled_for, left_s)
        return None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncGenerator[Closed | None]:
        """Wait for a slot, and yield why it must not be used after all, or None."""
        async with self._slots:
            closed = self.closed()
            probes = closed is None and self._paused_until_s is not None
            self._is_probing = self._is_probing or probes
            try:
                yield closed
            finally:
                if probes:
                    self._is_probing = False

    def succeeded(self) -> None:
        """Note that the provider took our configuration."""
        self._paused_until_s = None

    def failed(self, verdict: Verdict) -> bool:
        """Note a failure; return whether it paused a client that was not paused before."""
        now_s = anyio.current_time()
        if verdict.cools_client:
            self._cooled_until_s = max(
                self._cooled_until_s, now_s + (verdict.retry_after_s or _PROBE_AGAIN_S)
            )
            self._cooled_for = verdict.reason
        if verdict.failure_class is FailureClass.OPERATOR and verdict.pauses_client:
            is_news = self._paused_until_s is None
            self._paused_until_s = now_s + self._probe_interval_s
            self._paused_for = verdict.reason
            return is_news
        if verdict.failure_class is FailureClass.USER:
            # The provider spoke of the grant, so it knew the client.
            self._paused_until_s = None
        return False


class ClientGates:
    """The gates of all clients, by provider and client id."""

    def __init__(self) -> None:
        """Start with none."""
        self._gates: dict[tuple[str, str], ClientGate] = {}

    def of(self, profile: ProviderProfile) -> ClientGate:
        """Return the gate of a profile's client. There are as many as configured profiles."""
        key = (profile.slug, profile.client_id)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = ClientGate(profile)
        return gate

    @property
    def paused(self) -> list[str]:
        """The providers whose client is paused."""
        return sorted(slug for (slug, _), gate in self._gates.items() if gate.is_paused)
