"""What the members of a cluster tell of themselves, put together: pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from actors.members import Heartbeat, Present
from runtime.ledger.last_outcomes import Failing, failing_of
from runtime.ledger.standing import Standing


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member tells of itself with each heartbeat."""

    uptime_s: float = 0.0
    unsettled_bytes: int = 0
    due_waiting: int = 0
    due_under_way: int = 0
    appends: int = 0
    refreshes: Mapping[str, int] = {}
    """At providers, by ``succeeded`` or the class of the verdict."""
    partitions: Sequence[Standing] = ()
    without_profile: Mapping[str, int] | None = None
    """How many of its connections could be refreshed but for a profile, by provider; null: they are
    being counted."""
    failing: Sequence[Failing] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What ``status`` shows of the whole cluster."""

    connections_by_status: Mapping[str, int] | None
    without_profile: Mapping[str, int] | None
    failing: Sequence[Mapping[str, object]]
    due: Mapping[str, object]
    ledger: Mapping[str, object]
    cluster: Mapping[str, object]


def owners_of(members: Iterable[Present]) -> dict[int, Heartbeat]:
    """Return who owns each partition that anybody owns: where two say so, whose claim is later."""
    owners: dict[int, Heartbeat] = {}
    for member in members:
        for partition, claim_seq in member.beat.owned.items():
            before = owners.get(partition)
            if before is None or claim_seq > before.owned[partition]:
                owners[partition] = member.beat
    return owners


def told_by_owners(members: Sequence[Present]) -> dict[int, Standing]:
    """Return each partition that is owned, as its owner tells it."""
    owners = owners_of(members)
    return {
        one.partition: one
        for member in members
        for one in report_of(member.beat).partitions
        if one.ledger_seq is not None
        and one.partition in owners
        and owners[one.partition] is member.beat
        and one.claim_seq == member.beat.owned[one.partition]
    }


def report_of(beat: Heartbeat) -> Report:
    """Return a member's report; an empty one where it is of another version's form."""
    try:
        return msgspec.convert(beat.report, Report)
    except msgspec.ValidationError:
        return Report()


def totals(members: Sequence[Present], standings: Sequence[Standing]) -> Totals:
    """Return what the members tell of themselves, and how all partitions stand, in one.

    Args:
        members: All, with this daemon.
        standings: Of all partitions, by their numbers.
    """
    owners = owners_of(members)
    reports = [report_of(one.beat) for one in members]
    owned = [standing for standing in standings if standing.partition in owners]
    is_whole = len(owned) == len(standings)
    partitions = [
        {
            "partition": one.partition,
            "owner": owners[one.partition].daemon if one.partition in owners else None,
            "claim_seq": one.claim_seq,
            "ledger_seq": one.ledger_seq,
            "records_lag": one.records_lag,
            "events_lag": one.events_lag,
            "trimmed_seq": one.trimmed_seq,
            "troubles": dict(one.troubles),
        }
        for one in standings
    ]
    return Totals(
        connections_by_status=_by_status(owned) if is_whole else None,
        without_profile=_without_profile(reports) if is_whole else None,
        failing=msgspec.to_builtins(
            failing_of(one for report in reports for one in report.failing)
        ),
        due={
            "next_minute": sum(one.next_minute for one in owned),
            "next_hour": _sum(one.next_hour for one in owned) if is_whole else None,
            "next_day": _sum(one.next_day for one in owned) if is_whole else None,
            "latest_s": round(max((one.late_s for one in owned), default=0.0), 1),
            "waiting": sum(one.due_waiting for one in reports),
            "under_way": sum(one.due_under_way for one in reports),
        },
        ledger={
            "unsettled_bytes": sum(one.unsettled_bytes for one in reports),
            "events_lacking": sum(one.events_lacking for one in standings),
            "partitions": partitions,
        },
        cluster={
            "members": [_member(one, report) for one, report in zip(members, reports, strict=True)],
            "partitions": partitions,
        },
    )


def _member(member: Present, report: Report) -> dict[str, object]:
    beat = member.beat
    return {
        "daemon": beat.daemon,
        "version": beat.version,
        "uptime_s": report.uptime_s,
        "partitions": {str(number): beat.owned[number] for number in sorted(beat.owned)},
        "load": beat.load,
        "appends": report.appends,
        "refreshes": dict(report.refreshes),
        "heard_s": round(member.age_s, 1),
        "is_leaving": beat.is_leaving,
    }


def _by_status(standings: Iterable[Standing]) -> dict[str, int] | None:
    total: Counter[str] = Counter()
    for one in standings:
        if one.by_status is None:
            return None
        total.update(one.by_status)
    return dict(total)


def _without_profile(reports: Iterable[Report]) -> dict[str, int] | None:
    """Return the sums; None where a member that owns anything does not know."""
    total: Counter[str] = Counter()
    for one in reports:
        if one.without_profile is not None:
            total.update(one.without_profile)
        elif one.partitions:
            return None
    return dict(total.most_common())


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum; None where one is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
