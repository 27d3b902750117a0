"""What a flight is for, and how it goes."""

from typing import NamedTuple

from actors.client_gate import ClientGate
from domain.oauth_secret import OAuthSecret
from domain.profile import ProviderProfile


class Wish(NamedTuple):
    """To present the token of a generation."""

    secret: OAuthSecret
    generation: int
    was_rejected: bool
    """Whether a caller said that the present access token was rejected."""


class Route(NamedTuple):
    """How a connection's requests go."""

    profile: ProviderProfile
    gate: ClientGate
