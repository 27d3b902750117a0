"""What the page shows of a daemon and its cluster, read without asking anybody."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import anyio

from actors.members import Heartbeat, Present
from domain.connection import ConnectionStatus
from runtime import VERSION
from runtime.by_provider import failing_here, without_profile
from runtime.cluster.totals import report_of
from runtime.ledger.last_outcomes import failing_of
from runtime.ledger.standing import NEEDS_USER, Standing
from runtime.tally import SLOT_S, SUCCEEDED, Tally
from runtime.watching import Watched
from runtime.web.view import Circuit, Failing, Grant, Member, Partition, Provider, Span, View

_SHOWN_SLOTS = 6 * 3600 // SLOT_S
_GRANTS_SHOWN_MAX = 10
_WITHOUT_SHOWN_MAX = 10


def view_of(watched: Watched) -> View:
    """Return what is to be seen now; of the others what they told last, a second ago or so."""
    parts = watched.parts
    cluster, ledgers = parts.site.cluster, parts.ledgers
    others = cluster.members.present(anyio.current_time())
    own = {one.partition: one for one in ledgers.standings}
    told = _told(others) | own
    owners = cluster.members.owner_of | dict.fromkeys(own, cluster.me)
    owned = [told[number] for number in sorted(told)]
    is_whole = len(owned) == watched.partitions
    hours = [one.due_hours for one in owned if one.due_hours is not None]
    return View(
        daemon=cluster.me,
        version=VERSION,
        at=datetime.now(UTC),
        uptime_s=time.monotonic() - watched.started_s,
        checks=watched.checks(),
        by_status=_by_status(owned) if is_whole else None,
        providers=_providers(owned, watched.tally),
        refreshes=_refreshes(watched.tally, ledgers.now_s()),
        due_hours=[sum(hour) for hour in zip(*hours, strict=True)]
        if len(hours) == len(owned)
        else None,
        late_s=max((one.late_s for one in owned), default=0.0),
        needing=_needing(watched),
        members=[_me(watched, sorted(own)), *map(_member, others)],
        partitions=[
            _partition(number, owners.get(number), told.get(number))
            for number in range(watched.partitions)
        ],
        circuits=[
            Circuit(
                one.provider_slug, one.host, one.state, one.reason, one.down_s, one.next_probe_s
            )
            for one in watched.gates.circuits
        ],
        paused=watched.gates.paused,
        failing=_failing(watched, others),
        without_profile=_without_profile(watched, others),
    )


def _told(others: Sequence[Present]) -> dict[int, Standing]:
    """Return the others' partitions, as they tell them."""
    return {
        one.partition: one
        for member in others
        for one in report_of(member.beat).partitions
        if one.partition in member.beat.owned
    }


def _by_status(owned: Sequence[Standing]) -> Mapping[str, int] | None:
    found = dict.fromkeys((status.value for status in ConnectionStatus), 0)
    for one in owned:
        if one.by_status is None:
            return None
        for status, connections in one.by_status.items():
            found[status] = found.get(status, 0) + connections
    return found


def _providers(owned: Sequence[Standing], tally: Tally) -> list[Provider]:
    counts: dict[str, Counter[str]] = {}
    for one in owned:
        for provider, statuses in one.by_provider.items():
            counts.setdefault(provider, Counter()).update(statuses)
    succeeded, failed = Counter[str](), Counter[str]()
    for (provider, outcome), refreshes in tally.refreshes.items():
        (succeeded if outcome == SUCCEEDED else failed)[provider] += refreshes
    names = counts.keys() | succeeded.keys() | failed.keys()
    found = [
        Provider(
            name,
            {status: n for status, n in counts.get(name, {}).items() if status != NEEDS_USER},
            counts.get(name, {}).get(NEEDS_USER, 0),
            succeeded[name],
            failed[name],
        )
        for name in names
    ]
    return sorted(found, key=lambda one: (-sum(one.by_status.values()), one.name))


def _refreshes(tally: Tally, now_s: float) -> list[Span]:
    slots = {slot.number: slot for slot in tally.slots}
    last = int(now_s // SLOT_S)
    found: list[Span] = []
    for number in range(last - _SHOWN_SLOTS + 1, last + 1):
        slot, begins_at = slots.get(number), datetime.fromtimestamp(number * SLOT_S, UTC)
        found.append(Span(begins_at, slot.succeeded if slot else 0, slot.failed if slot else 0))
    return found


def _needing(watched: Watched) -> list[Grant]:
    ledgers = watched.parts.ledgers.partitions.values()
    needing = [one for ledger in ledgers for one in ledger.statuses.needing]
    needing.sort(key=lambda one: one.since, reverse=True)
    return [
        Grant(str(one.connection_id), one.provider_slug, one.since, one.reason)
        for one in needing[:_GRANTS_SHOWN_MAX]
    ]


def _failing(watched: Watched, others: Sequence[Present]) -> list[Failing]:
    here = failing_here(watched.parts.ledgers.partitions.values())
    told = [one for member in others for one in report_of(member.beat).failing]
    return [
        Failing(one.provider_slug, one.connections, one.reason, one.at)
        for one in failing_of([*here, *told])
    ]


def _without_profile(watched: Watched, others: Sequence[Present]) -> dict[str, int]:
    """Return what is counted; what is not, is not told of yet."""
    profile = watched.parts.directory.world.providers.profile
    found = without_profile(watched.parts.ledgers.partitions.values(), profile) or Counter[str]()
    for member in others:
        found.update(report_of(member.beat).without_profile or {})
    return dict(found.most_common(_WITHOUT_SHOWN_MAX))


def _me(watched: Watched, partitions: Sequence[int]) -> Member:
    service = watched.parts.service
    state = "leaving" if service.is_draining else "this one"
    load = service.commands_in_flight + service.token_callers
    return Member(watched.parts.site.me, VERSION, state, 0.0, load, partitions)


def _member(present: Present) -> Member:
    beat: Heartbeat = present.beat
    state = "leaving" if beat.is_leaving else "there"
    return Member(beat.daemon, beat.version, state, present.age_s, beat.load, sorted(beat.owned))


def _partition(number: int, owner: str | None, one: Standing | None) -> Partition:
    if one is None:
        return Partition(number, owner, None, None, None, ())
    troubles = [f"{name}: {trouble}" for name, trouble in one.troubles.items()]
    return Partition(number, owner, one.ledger_seq, one.records_lag, one.events_lag, troubles)
