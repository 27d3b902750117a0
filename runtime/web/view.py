"""What the page shows, as plain values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from runtime.web.health import Check


class Provider(NamedTuple):
    """A provider's connections, in the whole cluster, and its refreshes here."""

    name: str
    by_status: Mapping[str, int]
    needs_user: int
    succeeded: int
    failed: int


class Span(NamedTuple):
    """What became of refreshes in a stretch of time."""

    begins_at: datetime
    succeeded: int
    failed: int


class Failing(NamedTuple):
    """Connections of a provider whose last refresh failed."""

    provider: str
    connections: int
    reason: str
    since: datetime
    """When the last of these failures was."""


class Grant(NamedTuple):
    """A connection that somebody must act for to go on."""

    connection_id: str
    provider: str
    since: datetime
    reason: str


class Member(NamedTuple):
    """A daemon of the cluster."""

    daemon: str
    version: str
    state: str
    heard_s: float
    load: int
    partitions: Sequence[int]


class Partition(NamedTuple):
    """A partition, as its owner tells it."""

    number: int
    owner: str | None
    ledger_seq: int | None
    records_lag: int | None
    events_lag: int | None
    troubles: Sequence[str]


class Circuit(NamedTuple):
    """A token endpoint that is down."""

    provider: str
    host: str
    state: str
    reason: str
    down_s: float
    next_probe_s: float


class View(NamedTuple):
    """All of it, at one moment."""

    daemon: str
    version: str
    at: datetime
    uptime_s: float
    checks: Sequence[Check]
    by_status: Mapping[str, int] | None
    """Of the whole cluster; None while they are counted, or a partition has no owner."""
    providers: Sequence[Provider]
    refreshes: Sequence[Span]
    """Of this daemon, oldest first, without gaps."""
    due_hours: Sequence[int] | None
    """Of the partitions that are owned; None while they are counted."""
    late_s: float
    needing: Sequence[Grant]
    """Of the partitions owned here, the last ones first; a bounded number of them."""
    members: Sequence[Member]
    partitions: Sequence[Partition]
    circuits: Sequence[Circuit]
    paused: Sequence[str]
    failing: Sequence[Failing]
    without_profile: Mapping[str, int]
    """How many connections could be refreshed but for a profile, by provider; a bounded number."""
