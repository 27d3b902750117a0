"""What ``refreshd doctor`` makes of what it is told: pure, each finding with its mend.

A *problem* loses or withholds something now; a *warning* may, or cannot be told from here.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from domain.profile import FailureClass
from domain.time_words import instant, span

_CLOCK_S_MAX = 2.0
"""By how much the clocks of daemon and server may differ; people compare their times."""
_FAR_CLOCK_S = 30.0
_LAG_MAX = 10_000
"""By how many groups a view may be behind before that is told."""
_NAMED_MAX = 5


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    state: State
    text: str
    mend: str | None = None
    """What to do; None where nothing is to be done."""


def of_status(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what a daemon's ``status`` shows. What an earlier version does not tell is passed over.

    Args:
        status: The answer to ``status``.
    """
    yield Finding(
        "daemon",
        State.OK,
        f"{status['daemon']}, version {status['version']}, up for {span(status['uptime_s'])}",
    )
    yield _versions(status)
    if "nats_version" in status:
        yield Finding("nats version", State.OK, f"nats-server {status['nats_version']}")
    yield _durable(status["sync_always"])
    yield _replicas(status["streams_with_fewer_replicas"])
    if "lacking_permissions" in status:
        yield _permissions(status["lacking_permissions"])
    if "clocks" in status:
        yield _server_clock(status["clocks"]["nats_ahead_s"])
        yield _provider_clocks(status["clocks"]["providers_ahead_s"])
    if "keys" in status:
        yield _keys(status["keys"])
    yield _disk(status)
    yield _partitions(status["cluster"]["partitions"])
    if status.get("connections_without_profile") is not None:
        yield _without_profile(status["connections_without_profile"])
    failing = status.get("failing", [])
    yield from _providers(status["paused_providers"], status["circuits"], failing)


def _versions(status: Mapping[str, Any]) -> Finding:
    members = status["cluster"]["members"]
    versions = sorted({one["version"] for one in members})
    count = f"{len(members)} member{'s' * (len(members) != 1)}"
    if len(versions) == 1:
        return Finding("members", State.OK, f"{count}, all of version {versions[0]}")
    text = f"{count} of versions {', '.join(versions)}"
    return Finding("members", State.WARNING, text, "end the rolling restart: bring all to one")


def _durable(sync_always: object) -> Finding:
    check = "sync_interval"
    if sync_always is True:
        return Finding(check, State.OK, "the server syncs each write before it acknowledges it")
    if sync_always is False:
        return Finding(
            check,
            State.PROBLEM,
            "the server does not sync each write: a power failure can lose a rotated refresh token",
            "run nats-server with jetstream { sync_interval: always }",
        )
    return Finding(
        check,
        State.WARNING,
        "it cannot be seen whether the server syncs each write",
        "set nats.monitoring_url, and jetstream { sync_interval: always } on the server",
    )


def _replicas(fewer: Mapping[str, int]) -> Finding:
    if not fewer:
        return Finding("replicas", State.OK, "each stream has as many as nats.replicas says")
    streams = some(f"{name} ({count})" for name, count in sorted(fewer.items()))
    return Finding(
        "replicas",
        State.PROBLEM,
        f"fewer than nats.replicas: {streams}",
        f"`nats stream edit {min(fewer)} --replicas N`, one stream after the other",
    )


def _permissions(lacking: list[str] | None) -> Finding:
    check = "permissions"
    if lacking is None:
        return Finding(
            check,
            State.WARNING,
            "the server does not say what the daemon's user may do",
            "let it publish to $SYS.REQ.USER.INFO (SECURITY.md has all its rights)",
        )
    if not lacking:
        return Finding(check, State.OK, "the daemon's user may do all that it needs")
    return Finding(
        check,
        State.PROBLEM,
        f"the daemon's user may not {some(lacking)}",
        "give it the rights of the user daemon in SECURITY.md, and reload the server",
    )


def _server_clock(ahead_s: float | None) -> Finding:
    check, mend = "clock of nats", "let both hosts keep time by NTP"
    if ahead_s is None:
        return Finding(check, State.WARNING, "the server does not tell its time", "ask again")
    if abs(ahead_s) <= _CLOCK_S_MAX:
        return Finding(check, State.OK, "the daemon's clock and the NATS server's agree")
    state = State.PROBLEM if abs(ahead_s) > _FAR_CLOCK_S else State.WARNING
    return Finding(check, state, f"the NATS server's clock is {_apart(ahead_s)} the daemon's", mend)


def _provider_clocks(ahead_s: Mapping[str, float]) -> Finding:
    check = "clocks of providers"
    if not ahead_s:
        return Finding(check, State.OK, "no provider's Date is known to be far from ours")
    far = some(f"{slug} is {_apart(off_s)} ours" for slug, off_s in sorted(ahead_s.items()))
    return Finding(
        check,
        State.WARNING,
        f"by the Date of its answers {far}",
        "where several differ alike ours is wrong: let the daemon's host keep time by NTP",
    )


def _apart(ahead_s: float) -> str:
    return f"{span(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'}"


def _keys(keys: Mapping[str, Any]) -> Finding:
    missing = sorted(set(keys["sealed_with"]) - set(keys["held"]))
    if missing:
        return Finding(
            "keys",
            State.PROBLEM,
            f"{some(missing)} may have sealed connections and is not in the keyring",
            "put the key back into the keyring and restart",
        )
    older = sorted(set(keys["held"]) - {keys["primary"]})
    text = f"{keys['primary']} seals" + (f"; older ones: {some(older)}" if older else "")
    return Finding("keys", State.OK, text)


def _disk(status: Mapping[str, Any]) -> Finding:
    free_bytes = status.get("disk_free_bytes")
    if free_bytes is None:
        return Finding("disk", State.OK, "an external server's disk is its operator's to watch")
    free = f"{free_bytes / 2**30:.1f} GiB are free"
    if status["disk_is_low"]:
        return Finding(
            "disk",
            State.PROBLEM,
            f"{free}, less than nats.free_bytes_min: no refresh token is presented",
            "make room on the data folder's file system",
        )
    return Finding("disk", State.OK, free)


def _partitions(partitions: list[Mapping[str, Any]]) -> Finding:
    troubles = [f"{one['partition']} has no owner" for one in partitions if one["owner"] is None]
    troubles += [
        f"{one['partition']}: {what}: {why}"
        for one in partitions
        for what, why in one["troubles"].items()
    ]
    if troubles:
        return Finding(
            "partitions",
            State.PROBLEM,
            some(troubles),
            "after a kill wait cluster.member_timeout_s; else `/readyz` or a log say why",
        )
    lags = [max(one["records_lag"] or 0, one["events_lag"] or 0) for one in partitions]
    if max(lags, default=0) > _LAG_MAX:
        text = f"a view is {max(lags)} groups behind its ledger"
        return Finding("partitions", State.WARNING, text, "see whether the server keeps up: disk?")
    return Finding("partitions", State.OK, f"all {len(partitions)} have an owner and are written")


def _without_profile(connections: Mapping[str, int]) -> Finding:
    check = "connections"
    if not connections:
        return Finding(check, State.OK, "each that can be refreshed has its provider's profile")
    slugs = sorted(connections, key=lambda slug: -connections[slug])
    counts = some(f"{connections[slug]} of {slug}" for slug in slugs)
    return Finding(
        check,
        State.PROBLEM,
        f"never refreshed, for the daemon's configuration has no profile for them: {counts}",
        f"add [providers.{slugs[0]}] to it, and reload (SIGHUP)",
    )


def _providers(
    paused: list[str], circuits: list[Mapping[str, Any]], failing: list[Mapping[str, Any]]
) -> Iterator[Finding]:
    """Yield what stands in the way at providers; one finding where nothing does."""
    check = "providers"
    if paused:
        yield Finding(
            check,
            State.PROBLEM,
            f"{some(paused)} refuses our configuration: its connections wait",
            f"`refreshd provider test {paused[0]}` shows what is wrong in [providers.{paused[0]}]",
        )
    if circuits:
        down = some(
            f"{one['provider_slug']} at {one['host']} for {span(one['down_s'])}" for one in circuits
        )
        text = f"no answer, as far as this member knows: {down}"
        yield Finding(check, State.WARNING, text, "wait, and see the provider's status page")
    down = {one["provider_slug"] for one in circuits}
    alone = [one for one in failing if one["provider_slug"] not in down]
    yield from map(_failing, alone[:_NAMED_MAX])
    if len(alone) > _NAMED_MAX:
        more = f"{len(alone) - _NAMED_MAX} more ways in which refreshes fail"
        yield Finding(check, State.WARNING, more, "`refreshd status -o json` has them in `failing`")
    if not (paused or circuits or alone):
        yield Finding(check, State.OK, "none is paused, down or failing")


def _failing(one: Mapping[str, Any]) -> Finding:
    """Return a finding of refreshes that failed, too few of them to pause what others share."""
    is_ours = one["failure_class"] == FailureClass.OPERATOR
    slug, at = one["provider_slug"], instant(datetime.fromisoformat(one["at"]))
    last = " at" if one["connections"] == 1 else ", the last one at"
    then = "says what to correct" if is_ours else "says when it is tried again"
    return Finding(
        "providers",
        State.PROBLEM if is_ours else State.WARNING,
        f"{slug}: the last refresh of {connections(one['connections'])} failed{last} "
        f"{at}: {one['reason']} ({one['code']})",
        f"`refreshd explain {one['connection_id']}` {then}; `refreshd provider test {slug}` tries "
        "the provider",
    )


def connections(count: int) -> str:
    """Return how many connections, in words."""
    return f"{count} connection{'s' * (count != 1)}"


def some(names: Any) -> str:  # noqa: ANN401 -- any iterable of texts
    """Return a few names and how many more there are."""
    told = list(names)
    more = len(told) - _NAMED_MAX
    return ", ".join(told[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
