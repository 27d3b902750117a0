"""What every actor of a daemon shares: the ports and the bounds."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from actors.client_gate import ClientGates
from actors.ports import (
    Clock,
    ConnectionStore,
    EventLog,
    Ids,
    Journal,
    Sealer,
    TokenEndpoint,
)
from domain.profile import ProviderProfile
from domain.result import Failure, FailureCode

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound that the actors keep; all of them are configuration."""

    mailbox_commands_max: Count = 1024
    burst_commands_max: Count = 64
    """How many commands are decided and stored by one write."""
    resident_actors_max: Count = 100_000
    idle_s: Seconds = 300.0
    """How long an actor stays in memory after its last command."""
    resting_workers_max: Count = 256
    """How many tasks rest between two actors while others are busy; none when all are idle."""
    conflict_retries_max: Count = 8
    owed_events_max: Count = 1024
    """How many unpublished events a connection may owe before it takes no more commands."""
    owed_events_total_max: Count = 100_000
    """The same for all connections of the daemon together."""
    debt_pause_s_min: Seconds = 0.05
    debt_pause_s_max: Seconds = 2.0
    restarts_max: Count = 5
    restarts_period_s: Seconds = 60.0
    quarantine_s: Seconds = 30.0
    last_burst_s: Seconds = 4.0
    """How long a stopping daemon may take to finish the commands it has begun."""
    last_outcome_s: Seconds = 20.0
    """How long a stopping daemon tries to store what a provider has answered."""
    answer_margin_s: Seconds = 0.15
    """How long before its caller's time is up a waiting ``token`` is answered."""


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


class Owed:
    """How many events the whole daemon owes."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        """Owe nothing."""
        self.events = 0


class World(NamedTuple):
    """The ports, shared by all actors of a directory."""

    store: ConnectionStore
    event_log: EventLog
    sealer: Sealer
    clock: Clock
    ids: Ids
    journal: Journal
    providers: Providers
    owed: Owed


def refused_as_overloaded(message: str) -> Failure:
    """Return the answer to a command that there is no room or no time for."""
    return Failure(code=FailureCode.OVERLOADED, message=message, retry_after_s=1.0)
