"""Answers ``connection.<id>.explain`` and ``history``: what is known of a connection, in words."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from actors.client_gate import ClientGates
from actors.ports import TokenEndpoint
from domain.advice import HeldBack
from domain.connection import ProviderConnection
from domain.explanation import Explanation, explained
from domain.list_query import HistoryQuery
from domain.profile import ProviderProfile
from domain.result import Failure, Success

ReadHistory = Callable[[str, HistoryQuery, float], Awaitable[Success[object] | Failure]]
"""Returns a page of an id's events within so many seconds; never raises but to be cancelled."""


class Explainer:
    """Knows the profiles, and what holds requests to a provider back."""

    def __init__(
        self,
        profile: Callable[[str], ProviderProfile | None],
        endpoint: TokenEndpoint,
        gates: ClientGates,
        *,
        now: Callable[[], datetime],
        history: ReadHistory,
        taken_at: Callable[[str], datetime | None] = lambda _: None,
    ) -> None:
        """Explain by these.

        Args:
            profile: The profile of a slug.
            endpoint: Knows the hosts.
            gates: What holds requests back.
            now: Aware UTC.
            history: What has happened.
            taken_at: Since when a provider's configuration is as it is, as far as is known.
        """
        self.history = history
        self._profile = profile
        self._endpoint = endpoint
        self._gates = gates
        self._taken_at = taken_at
        self._now = now

    def explained(self, connection: ProviderConnection) -> Explanation:
        """Return a connection in words."""
        profile = self._profile(connection.provider_slug)
        held_back = None if profile is None else self._held_back(connection, profile)
        taken_at = self._taken_at(connection.provider_slug)
        return explained(connection, profile, held_back, taken_at=taken_at, now=self._now())

    def _held_back(
        self, connection: ProviderConnection, profile: ProviderProfile
    ) -> HeldBack | None:
        place = self._endpoint.place(profile, connection.params, connection.endpoint_base)
        closed = self._gates.of(profile, place).closed(connection.id)
        return None if closed is None else HeldBack(*closed)
