"""What a flight is for, and how it goes."""

import math
from typing import NamedTuple

import anyio

from actors.client_gate import ClientGate
from actors.turnstile import Turn
from domain.oauth_secret import OAuthSecret
from domain.profile import ProviderProfile
from domain.result import Failure, FailureCode
from domain.trace import Trace


class Hold(NamedTuple):
    """What is waited out before anybody is asked: the connection's own back-off."""

    until_s: float
    """On the event loop's monotonic clock, so that no step of the wall clock makes it longer."""
    failure: Failure
    """What those are told who have not the time."""


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
    hold: Hold | None = None
    trace: Trace | None = None
    """Of the caller that it is begun for."""

    def turn(self) -> Turn:
        """Return a place for it in line."""
        return Turn(is_proactive=self.is_proactive, due_s=self.due_s)


class Route(NamedTuple):
    """How a connection's requests go."""

    profile: ProviderProfile
    gate: ClientGate


def opens_s(failure: Failure | None) -> float:
    """Return when the provider may be asked again after a failure that time alone mends; or inf."""
    is_mended = failure is not None and failure.code is FailureCode.PROVIDER_UNAVAILABLE
    left_s = failure.retry_after_s if failure is not None and is_mended else None
    return math.inf if left_s is None else anyio.current_time() + left_s
