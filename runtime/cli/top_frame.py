"""What ``refreshd top`` shows of one moment: pure text, as wide as the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from domain.screen_words import (
    LOOKS_COUNTED,
    WHO_KNOWS_MORE,
    circuit_words,
    outcome_words,
    trouble_words,
)
from domain.time_words import span
from runtime.cli.findings import connections
from runtime.cli.rates import Rates
from runtime.cli.tables import Column, cell, show_named, show_row

_ROWS_MAX = 16
"""Of each table; what is worst stands first."""
_NO_STATS = "by verb: not told; who asks needs the right to $SRV.STATS.refreshd (admin)"


def frame(status: Mapping[str, Any], rates: Rates) -> str:
    """Return all that is shown of a status and the rates since the one before."""
    return "\n\n".join(
        [
            _head(status, rates),
            _verbs(rates),
            _members(status["cluster"]["members"]),
            _partitions(status["cluster"]["partitions"]),
            _circuits(status["paused_providers"], status["circuits"], status.get("failing", [])),
        ]
    )


def _head(status: Mapping[str, Any], rates: Rates) -> str:
    due, ledger = status["due"], status["ledger"]
    by_status = status["connections_by_status"]
    stored = f"{status['connections']} stored"
    if by_status is not None:
        counts = ", ".join(f"{count} {name}" for name, count in by_status.items() if count)
        stored = f"{stored}: {counts}" if counts else stored
    refreshes = ", ".join(
        f"{per_s}/s {outcome_words(name)}" for name, per_s in rates.refreshes_per_s.items()
    )
    late = f"{span(due['latest_s'])} late" if due["latest_s"] else "nobody is late"
    soon = ", ".join(f"{_known(due[name])} in the next {name[5:]}" for name in _DUE)
    now = f"{late}, {due['waiting']} wait, {due['under_way']} under way"
    lacking = (
        f"{ledger['events_lacking']} events lacking in the stream, "
        f"{ledger['unsettled_bytes']} bytes not settled"
    )
    lacking_profile = status.get("connections_without_profile") or {}
    never = ", ".join(f"{count} of {cell(slug)}" for slug, count in lacking_profile.items())
    trouble = _trouble(status, sum(lacking_profile.values()))
    return show_named(
        [
            *([("trouble", f"{trouble}: `{WHO_KNOWS_MORE}` says what to do")] if trouble else []),
            ("connections", stored),
            *([("no profile", f"{never}: they are never refreshed")] if never else []),
            ("refreshes", refreshes or "none at providers yet"),
            ("due", f"{now}; looks: {soon} ({LOOKS_COUNTED})"),
            ("ledger", f"{rates.appends_per_s}/s groups stored, {lacking}"),
        ]
    )


def _trouble(status: Mapping[str, Any], never: int) -> str:
    failing = status.get("failing", [])
    down = (cell(one["provider_slug"]) for one in (*status["circuits"], *failing))
    connections = sum(one["connections"] for one in failing)
    return trouble_words((*status["paused_providers"], *down), connections, never)


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


_DUE = ("next_minute", "next_hour", "next_day")


def _verbs(rates: Rates) -> str:
    if not rates.is_told_by_verb:
        return _NO_STATS
    rows = [
        [
            one.verb,
            str(one.per_s),
            str(round(sum(one.failed_per_s.values()), 1)),
            cell(one.ms),
            ", ".join(f"{code} {per_s}/s" for code, per_s in one.failed_per_s.items()) or "-",
        ]
        for one in rates.verbs
    ]
    return _table(("VERB", "PER-S", "FAILED", "MS", "FAILURES"), rows)


def _members(members: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            cell(one["daemon"]),
            cell(one["version"]),
            "leaving" if one["is_leaving"] else "there",
            f"{one['heard_s']} s",
            cell(one["load"]),
            span(one["uptime_s"]),
            " ".join(one["partitions"]) or "-",
        ]
        for one in members
    ]
    return _table(("MEMBER", "VERSION", "STATE", "HEARD", "LOAD", "UP", "PARTITIONS"), rows)


def _partitions(partitions: Sequence[Mapping[str, Any]]) -> str:
    def badness(one: Mapping[str, Any]) -> tuple[bool, bool, int]:
        lag = max(one["records_lag"] or 0, one["events_lag"] or 0)
        return one["owner"] is not None, not one["troubles"], -lag

    rows = [
        [
            cell(one["partition"]),
            cell(one["owner"]),
            cell(one["ledger_seq"]),
            cell(one["records_lag"]),
            cell(one["events_lag"]),
            "; ".join(f"{name}: {cause}" for name, cause in one["troubles"].items()) or "-",
        ]
        for one in sorted(partitions, key=badness)
    ]
    return _table(("PART", "OWNER", "LEDGER", "RECORDS-LAG", "EVENTS-LAG", "TROUBLES"), rows)


def _circuits(
    paused: Sequence[str],
    circuits: Sequence[Mapping[str, Any]],
    failing: Sequence[Mapping[str, Any]],
) -> str:
    down = {one["provider_slug"] for one in circuits}
    failing = [one for one in failing if one["provider_slug"] not in down]
    if not (paused or circuits or failing):
        return "no provider is down, paused or failing, as far as is known"
    rows = [[slug, "-", "paused", "-", "it refuses our configuration"] for slug in paused]
    rows += [
        [
            cell(one["provider_slug"]),
            cell(one["host"]),
            cell(circuit_words(one["state"])),
            span(one["down_s"]),
            cell(one["reason"]),
        ]
        for one in circuits
    ]
    rows += [
        [
            cell(one["provider_slug"]),
            "-",
            "failing",
            "-",
            f"{connections(one['connections'])}: {cell(one['reason'])} ({cell(one['code'])})",
        ]
        for one in failing
    ]
    return _table(("PROVIDER", "HOST", "STATE", "DOWN", "REASON"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of the first rows, as wide as its cells, and how many more there are."""
    shown = rows[:_ROWS_MAX]
    columns = [Column(cells[0], max(map(len, cells))) for cells in zip(head, *shown, strict=True)]
    columns[-1] = Column(head[-1], 0)
    lines = [show_row(line, columns) for line in (head, *shown)]
    if not rows:
        lines.append("(none meanwhile)")
    if len(rows) > len(shown):
        lines.append(f"and {len(rows) - len(shown)} more")
    return "\n".join(lines)
