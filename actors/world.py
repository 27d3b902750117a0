"""What every actor of a daemon shares: the ports and the bounds."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from actors.client_gate import ClientGates
from actors.ports import Clock, Ids, Journal, Sealer, Spill, TokenEndpoint
from domain.connection import ProviderConnection
from domain.decision import DATABASE_ERROR
from domain.profile import ProviderProfile
from domain.result import Failure, FailureCode

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]


class Limits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Every bound that the actors keep; all of them are configuration.

    All actors of a daemon share one: what a reload sets in it holds for all at once.
    """

    mailbox_commands_max: Count = 1024
    """How many commands of one connection may wait: to be decided, or to be stored."""
    token_callers_per_provider_max: Count = 25_000
    """How many callers of ``token`` may wait for one provider, at all of its hosts."""
    resident_actors_max: Count = 100_000
    """How many connections are in memory at once."""
    looks_max: Count = 256
    """How many connections are looked at at a time that nobody has asked for."""
    looks_per_provider_max: Count = 64
    """How many of one provider's."""
    older_answers_max: Count = 50_000
    """How many answers are remembered that records have no room for, of all connections."""
    idle_s: Seconds = 300.0
    """How long an actor stays in memory after its last command."""
    unclear_s: Seconds = 1.0
    """How long an append may go unanswered before its partition decides nothing new."""
    refused_events_max: Count = 10_000
    """How many events of commands refused for that are kept, a partition, to be told after."""
    restarts_max: Count = 5
    """How many crashes of one connection's actor within ``restarts_period_s`` are forgiven."""
    restarts_period_s: Seconds = 60.0
    """More crashes within it, and the actor is in quarantine."""
    quarantine_s: Seconds = 30.0
    """How long a connection whose actor crashes is refused then."""
    last_burst_s: Seconds = 4.0
    """How long an ending directory waits for what is decided to be stored."""
    last_outcome_s: Seconds = 20.0
    """How long an ending directory tries to store what a provider has answered."""
    answer_margin_s: Seconds = 0.15
    """How long before its caller's time is up a waiting command is answered."""


class Providers(NamedTuple):
    """Everything that refreshing at a provider takes."""

    profile: Callable[[str], ProviderProfile | None]
    """The profile of a slug."""
    endpoint: TokenEndpoint
    gates: ClientGates
    draw: Callable[[], float]
    """Uniform in [0, 1), for jitter."""
    owner: str
    """This daemon's id, for its intents."""

    def has(self, profile: ProviderProfile) -> bool:
        """Whether a profile is still its provider's: a reload may have replaced it."""
        return self.profile(profile.slug) == profile

    def of(self, connection: ProviderConnection) -> ProviderProfile:
        """Return the profile of a connection's provider; one that knows nothing, if need be."""
        slug = connection.provider_slug
        return self.profile(slug) or ProviderProfile(slug=slug)


class World(NamedTuple):
    """The ports, shared by all actors of a directory."""

    sealer: Sealer
    clock: Clock
    ids: Ids
    journal: Journal
    providers: Providers
    spill: Spill
    refusal: Callable[[], Failure | None] = lambda: None
    """Why nothing may be presented to a provider now, or None."""


SHUTTING_DOWN = Failure(
    code=FailureCode.SHUTTING_DOWN, message="the daemon is shutting down", retry_after_s=1.0
)
TIMED_OUT = Failure(
    code=FailureCode.TIMED_OUT,
    message="The time was up before the command was begun; it was not executed",
    needs_user_action=False,
)


def overloaded(message: str) -> Failure:
    """Return the answer to a command that there is no room for."""
    return Failure(code=FailureCode.OVERLOADED, message=message, retry_after_s=1.0)


def database_error(cause: str) -> Failure:
    """Return the answer to a caller whose connection cannot be read or stored now.

    Args:
        cause: Words of ours, never an exception's text.
    """
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message=f"{DATABASE_ERROR}: {cause}",
        needs_user_action=False,
        retry_after_s=1.0,
    )


MOVED = database_error("its partition is on its way to another daemon")
"""Of a command that was not begun: whoever owns the partition then may be asked."""
MAILBOX_FULL = overloaded("the connection's mailbox is full")
BROKEN = "internal error"
INTERNAL_ERROR = database_error(BROKEN)
