"""What a flight is for, and how it goes."""

import math
from typing import NamedTuple

from actors.client_gate import ClientGate
from actors.turnstile import Turn
from domain.commands import GetToken
from domain.connection import ProviderConnection
from domain.oauth_secret import OAuthSecret
from domain.profile import ProviderProfile


class Wish(NamedTuple):
    """To present the token of a generation."""

    secret: OAuthSecret
    generation: int
    was_rejected: bool
    """Whether a caller said that the present access token was rejected."""
    is_proactive: bool = False
    """Whether no caller waits for it; once one does, it is a caller's."""
    due_s: float = math.inf
    """How urgent it is, on the event loop's monotonic clock: when its caller must be answered; of
    a proactive one, when what it renews ends."""

    def turn(self) -> Turn:
        """Return a place for it in line."""
        return Turn(is_proactive=self.is_proactive, due_s=self.due_s)


def wish_of(
    ask: GetToken, secret: OAuthSecret, connection: ProviderConnection, *, due_s: float
) -> Wish:
    """Return what a caller's flight is for."""
    generation = connection.generation
    return Wish(secret, generation, was_rejected=ask.if_generation == generation, due_s=due_s)


class Route(NamedTuple):
    """How a connection's requests go."""

    profile: ProviderProfile
    gate: ClientGate
