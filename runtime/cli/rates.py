"""How fast a cluster works, from two looks at it: pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from runtime.nats.discoverable import ServiceCounts

_PREFIX = "connection-"


class Look(NamedTuple):
    """What was seen at once."""

    at_s: float
    """By a monotonic clock."""
    status: Mapping[str, Any]
    services: Sequence[ServiceCounts]
    """Empty: who looks may not ask for ``$SRV.STATS``."""


class VerbRate(msgspec.Struct, frozen=True, kw_only=True):
    """Of one verb, a second."""

    verb: str
    per_s: float
    ms: float | None
    """From a request's arrival to its answer, on average; None: there was none."""
    failed_per_s: Mapping[str, float]
    """By error code."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Of all members, a second."""

    verbs: Sequence[VerbRate]
    """Those with a request meanwhile, the busiest first."""
    refreshes_per_s: Mapping[str, float]
    """At providers, by outcome."""
    appends_per_s: float
    """Groups stored in ledgers."""
    is_told_by_verb: bool


def rates(before: Look, now: Look) -> Rates:
    """Return what went on between two looks.

    Only members that were there at both count: what one did before it was first seen did not
    happen meanwhile, and neither did what one lost by a restart.
    """
    passed_s = max(now.at_s - before.at_s, 1e-3)
    refreshes, appends = _by_members(before.status, now.status)
    return Rates(
        verbs=_verbs(before, now, passed_s),
        refreshes_per_s={
            outcome: round(count / passed_s, 1) for outcome, count in sorted(refreshes.items())
        },
        appends_per_s=round(appends / passed_s, 1),
        is_told_by_verb=bool(now.services),
    )


def _by_members(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Mapping[str, int], int]:
    """Return the refreshes by outcome and the appends of all members since then."""
    former = {one["daemon"]: one for one in before["cluster"]["members"]}
    refreshes: Counter[str] = Counter()
    appends = 0
    for member in now["cluster"]["members"]:
        # A heartbeat may be older than the one before it, where another member answers.
        was = former.get(member["daemon"])
        if was is None:
            continue
        appends += max(member.get("appends", 0) - was.get("appends", 0), 0)
        for outcome, count in member.get("refreshes", {}).items():
            refreshes[outcome] += max(count - was.get("refreshes", {}).get(outcome, 0), 0)
    return refreshes, appends


def _verbs(before: Look, now: Look, passed_s: float) -> list[VerbRate]:
    former = {(one.id, end.name): end for one in before.services for end in one.endpoints}
    requests: Counter[str] = Counter()
    took_ns: Counter[str] = Counter()
    errors: dict[str, Counter[str]] = {}
    for service in now.services:
        for end in service.endpoints:
            was = former.get((service.id, end.name))
            if was is None or end.num_requests <= was.num_requests:
                continue
            verb = end.name.removeprefix(_PREFIX)
            requests[verb] += end.num_requests - was.num_requests
            took_ns[verb] += max(end.processing_time - was.processing_time, 0)
            failed = errors.setdefault(verb, Counter())
            known = (was.data or {}).get("errors", {})
            for code, count in (end.data or {}).get("errors", {}).items():
                failed[code] += max(count - known.get(code, 0), 0)
    return [
        VerbRate(
            verb=verb,
            per_s=round(count / passed_s, 1),
            ms=round(took_ns[verb] / count / 1e6, 1),
            failed_per_s={
                code: round(failed / passed_s, 1)
                for code, failed in errors[verb].most_common()
                if failed
            },
        )
        for verb, count in requests.most_common()
    ]
