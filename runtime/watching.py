"""What a daemon shows of itself: its parts, read; nothing here changes any of them."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import anyio

from actors.client_gate import ClientGates
from actors.ports import CannotUnsealError
from actors.waker import Waker
from domain.connection import ConnectionStatus
from domain.credentials import Secret
from domain.profile import FailureClass
from runtime import VERSION
from runtime.by_provider import without_profile
from runtime.ending import Ending, Parts
from runtime.ledger.sealing import Keyring
from runtime.ledger.standing import Standing
from runtime.liveness import Liveness
from runtime.nats.embedded_keeper import EmbeddedKeeper
from runtime.nats.errors import NO_ANSWER_IN_TIME, LinkError
from runtime.nats.jetstream_api import JetStreamError
from runtime.nats.link import NatsLink
from runtime.tally import LIFE_LEFT_BOUNDS_S, SUCCEEDED, Tally
from runtime.web.figures import Figures, Histogram
from runtime.web.health import Check
from runtime.world import LoggingJournal

_PROBE_S = 1.0
_PROBED = UUID(int=0)
_OUTCOMES = (SUCCEEDED, *FailureClass)
_PASSING = [one for one in FailureClass if one is not FailureClass.USER]
"""After which a connection is active as before."""


class Watched(NamedTuple):
    """Implements ``runtime.web.app.Seen`` for a daemon."""

    parts: Parts
    link: NatsLink
    keeper: EmbeddedKeeper | None
    keyring: Keyring
    gates: ClientGates
    waker: Waker
    journal: LoggingJournal
    tally: Tally
    ending: Ending
    partitions: int
    started_s: float
    """On the monotonic clock."""
    liveness: Liveness

    def alive(self) -> tuple[Check, ...]:
        """See ``Seen``."""
        return (
            Check("daemon", "it cannot go on and is ending" if self.ending.is_lost else ""),
            Check(
                "storing", "" if self.liveness.is_live() else "a partition does not try to store"
            ),
        )

    async def ready(self) -> tuple[Check, ...]:
        """See ``Seen``: what stands in the way is told by the part that it is in."""
        checks = self.checks()
        if any(check.trouble for check in checks) or await self._has_jetstream():
            return checks
        return (*checks, Check("jetstream", NO_ANSWER_IN_TIME))

    def checks(self) -> tuple[Check, ...]:
        """Return what is known without asking anybody."""
        is_stopping = self.parts.service.is_draining or self.parts.site.cluster.is_leaving
        return (
            Check("commands", "it is stopping" if is_stopping else ""),
            Check("nats", "" if self.link.is_connected else "not connected", self.link.url),
            self._ledger(),
            self._views(),
            self._keys(),
            *self._disk(),
        )

    async def _has_jetstream(self) -> bool:
        """Whether a ledger's bounds can be read."""
        with anyio.move_on_after(_PROBE_S), contextlib.suppress(LinkError, JetStreamError):
            await self.parts.ledgers.streams_of(0).bounds()
            return True
        return False

    def _ledger(self) -> Check:
        """Whether what is decided is being stored."""
        for number, ledger in sorted(self.parts.ledgers.partitions.items()):
            if ledger.writer.trouble:
                return Check("ledger", f"partition {number}: {ledger.writer.trouble}")
            served = self.parts.directory.partitions.get(number)
            if served is not None and served.is_unclear:
                return Check("ledger", f"partition {number}: a write has had no answer yet")
        who_serves = self.parts.site.cluster.members.who_serves
        for number, cause in sorted(self.parts.ledgers.awaited.items()):
            if who_serves(number) is None:
                return Check("ledger", f"{cause}, which is silent")
        owned = len(self.parts.ledgers.partitions)
        return Check("ledger", note=f"{owned} of {self.partitions} partitions are owned here")

    def _views(self) -> Check:
        """Whether buckets and event stream follow the ledger."""
        if self.parts.ledgers.room.bytes >= self.parts.ledgers.room.bytes_max:
            return Check("views", "they are so far behind that commands wait")
        standings = self.parts.ledgers.standings
        for one in standings:
            for view in ("records", "events"):
                if trouble := one.troubles.get(view):
                    return Check("views", f"partition {one.partition}, {view}: {trouble}")
        lags = [max(one.records_lag or 0, one.events_lag or 0) for one in standings]
        return Check("views", note=f"{max(lags, default=0)} groups behind at most")

    def _keys(self) -> Check:
        """Whether a secret that is sealed now can be opened."""
        try:
            sealed = self.keyring.seal(Secret(b"probe"), connection_id=_PROBED, generation=0)
            self.keyring.unseal(sealed, connection_id=_PROBED, generation=0)
        except CannotUnsealError:
            return Check("keys", "what is sealed cannot be opened")
        return Check("keys", note=f"primary {self.keyring.primary}")

    def _disk(self) -> tuple[Check, ...]:
        """Whether the embedded server's disk has its reserve."""
        if self.keeper is None:
            return ()
        free = f"{self.keeper.space.bytes // 2**20} MiB free"
        return (Check("disk", f"only {free}" if self.keeper.space.is_low else "", free),)

    def figures(self) -> Figures:
        """See ``Seen``."""
        standings = self.parts.ledgers.standings
        return {
            "build_info": {(VERSION,): 1},
            **self._commands(),
            **self._refreshes(),
            **self._state(standings),
            **self._connections(),
            **self._providers(),
            "ready": {(): not any(check.trouble for check in self.checks())},
            "nats_connected": {(): self.link.is_connected},
            "nats_reconnects": {(): self.link.reconnects},
            "actors": {(): self.parts.directory.resident_actors},
            "flights": {(): self.parts.directory.flights},
            "partitions": {(): self.partitions},
            "members": {(): 1 + len(self.parts.site.cluster.members.beats)},
            "troubles": {(kind,): count for kind, count in self.journal.counts.items()},
            "disk_free_bytes": {} if self.keeper is None else {(): self.keeper.space.bytes},
        }

    def _commands(self) -> Figures:
        outcomes: Counter[tuple[str, ...]] = Counter()
        forwarded: Counter[tuple[str, ...]] = Counter()
        seconds: Counter[tuple[str, ...]] = Counter()
        for name, counted in self.parts.service.counted.items():
            verb = name.removeprefix("connection-").removeprefix("connections-")
            outcomes[verb, "ok"] += counted.succeeded
            for code, failures in counted.codes.items():
                outcomes[verb, code] += failures
            forwarded[verb,] += counted.forwarded
            seconds[verb,] += counted.processing_ns
        return {
            "commands": outcomes,
            "commands_forwarded": forwarded,
            "command_seconds": {labels: ns / 1e9 for labels, ns in seconds.items()},
            "commands_in_flight": {(): self.parts.service.commands_in_flight},
            "token_callers": {(): self.parts.service.token_callers},
            "mailbox_refusals": {(): self.parts.service.mailbox_refusals},
            "answers_dropped": {(): self.parts.responder.dropped},
        }

    def _refreshes(self) -> Figures:
        tally, names = self.tally, list(self.parts.ledgers.room.names)
        life_left = {
            (provider,): Histogram(LIFE_LEFT_BOUNDS_S, life.counts, life.sum_s)
            for provider, life in tally.life_left.items()
        }
        # From the beginning on, so that the first of its kind is an increase, too.
        refreshes = {(name, outcome): 0 for name in names for outcome in _OUTCOMES}
        return {
            "refreshes": refreshes | tally.refreshes,
            "outcome_unknown": _by_provider(names, tally.unknown),
            "needs_reauth": _by_provider(names, tally.needs_reauth),
            "refresh_life_left_seconds": life_left,
            "appends": {(): tally.appends},
            "append_entries": {(): tally.entries},
        }

    def _state(self, standings: list[Standing]) -> Figures:
        owned = self.parts.ledgers.partitions.keys()
        lags = {
            (view, str(one.partition)): lag or 0
            for one in standings
            for view, lag in (("records", one.records_lag), ("events", one.events_lag))
        }
        return {
            "due_late_seconds": {(): max((one.late_s for one in standings), default=0.0)},
            "due_waiting": {(): self.waker.waiting},
            "due_under_way": {(): self.waker.under_way},
            "view_lag_groups": lags,
            "events_lacking": {(): sum(one.events_lacking for one in standings)},
            "unsettled_bytes": {(): self.parts.ledgers.room.bytes},
            "outcomes_held": {(): self.parts.delivery.held},
            "partition_owned": {
                (str(number),): number in owned for number in range(self.partitions)
            },
        }

    def _connections(self) -> Figures:
        """Count what is owned here, once all of it is counted."""
        names = list(self.parts.ledgers.room.names)
        found: Counter[tuple[str, ...]] = Counter()
        needing, acting, without = Counter[str](), Counter[str](), Counter[str]()
        failing: Counter[tuple[str, ...]] = Counter()
        for ledger in self.parts.ledgers.partitions.values():
            kinds = ledger.statuses.by_kind
            if kinds is None:
                return {}
            for kind, connections in kinds.items():
                found[kind.provider, kind.status] += connections
                needing[kind.provider] += connections * kind.needs_user
                acting[kind.provider] += connections * kind.needs_action
                if kind.failing is not None:
                    failing[kind.provider, kind.failing] += connections
                without[kind.provider] += connections * kind.lacks_refresh_token
        none = {(name, status): 0 for name in names for status in ConnectionStatus}
        none_failing = {(name, one): 0 for name in names for one in _PASSING}
        profile = self.parts.directory.world.providers.profile
        unprofiled = without_profile(self.parts.ledgers.partitions.values(), profile) or {}
        return {
            "connections": none | found,
            "connections_failing": none_failing | failing,
            "connections_needing_action": _by_provider(names, acting),
            "connections_without_profile": _by_provider(names, unprofiled),
            "grants_needing_reauth": _by_provider(names, needing),
            "grants_without_refresh_token": _by_provider(names, without),
        }

    def _providers(self) -> Figures:
        names, paused = self.parts.ledgers.room.names, self.gates.paused
        circuits: Counter[tuple[str, ...]] = Counter()
        for (slug, state), down in self.gates.circuits_down.items():
            circuits[names.of(slug), state] += down
        return {
            "circuits": circuits,
            "clients_paused": {(name,): name in paused for name in names},
        }


def _by_provider(names: list[str], counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    """Return the counts, with a 0 for each provider that has none."""
    return {(name,): 0 for name in names} | {(name,): n for name, n in counts.items()}
