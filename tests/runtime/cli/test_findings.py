"""Each thing that can be wrong is found in ``status``, and has its mend."""

from typing import Any

import pytest

from runtime.cli.doctor import show_findings
from runtime.cli.findings import Finding, State, of_status

PARTITION: dict[str, Any] = {
    "partition": 0,
    "owner": "d-1",
    "records_lag": 3,
    "events_lag": 1,
    "troubles": {},
}
MEMBER = {"daemon": "d-1", "version": "0.2.0"}
SOUND: dict[str, Any] = {
    "daemon": "d-1",
    "version": "0.2.0",
    "uptime_s": 7200.0,
    "sync_always": True,
    "streams_with_fewer_replicas": {},
    "paused_providers": [],
    "circuits": [],
    "failing": [],
    "connections_without_profile": {},
    "disk_free_bytes": 2**33,
    "disk_is_low": False,
    "cluster": {"members": [MEMBER], "partitions": [PARTITION]},
    "nats_version": "2.15.1",
    "lacking_permissions": [],
    "keys": {"primary": "k-2", "held": ["k-1", "k-2"], "sealed_with": ["k-1", "k-2"]},
    "clocks": {"nats_ahead_s": 0.3, "providers_ahead_s": {}},
}
CHECKS = [
    *("daemon", "members", "nats version", "sync_interval", "replicas", "permissions"),
    *(
        "clock of nats",
        "clocks of providers",
        "keys",
        "disk",
        "partitions",
        "connections",
        "providers",
    ),
]


def with_partition(**changes: Any) -> dict[str, Any]:
    return {"cluster": {"members": [MEMBER], "partitions": [PARTITION | changes]}}


def test_a_sound_daemon_is_sound_in_every_point():
    found = list(of_status(SOUND))

    assert [one.check for one in found] == CHECKS
    assert {(one.state, one.mend) for one in found} == {(State.OK, None)}
    assert found[0].text == "d-1, version 0.2.0, up for 2 h"


OLDER = {"daemon": "d-2", "version": "0.1.9"}
CIRCUIT = {"provider_slug": "fake", "host": "fake.example", "down_s": 300.0}
FAILING: dict[str, Any] = {
    "provider_slug": "fake",
    "failure_class": "operator",
    "connections": 1,
    "code": "invalid_client",
    "reason": "It does not know us",
    "at": "2026-11-27T10:00:00.25Z",
    "connection_id": "c-1",
}
CASES = [
    ("members", "warning", {"cluster": SOUND["cluster"] | {"members": [MEMBER, OLDER]}}, "0.1.9"),
    ("sync_interval", "problem", {"sync_always": False}, "a power failure can lose"),
    ("sync_interval", "warning", {"sync_always": "unknown"}, "cannot be seen"),
    ("replicas", "problem", {"streams_with_fewer_replicas": {"LEDGER": 1}}, "LEDGER (1)"),
    ("permissions", "problem", {"lacking_permissions": ["publish a.b"]}, "may not publish a.b"),
    ("permissions", "warning", {"lacking_permissions": None}, "does not say"),
    ("clock of nats", "warning", {"clocks": {"nats_ahead_s": -5.0}}, "5 s behind the daemon's"),
    ("clock of nats", "problem", {"clocks": {"nats_ahead_s": 90.0}}, "90 s ahead of the"),
    ("clock of nats", "warning", {"clocks": {"nats_ahead_s": None}}, "does not tell"),
    (
        "clocks of providers",
        "warning",
        {"clocks": {"providers_ahead_s": {"fake": 61.0}}},
        "fake is 61 s ahead of ours",
    ),
    ("keys", "problem", {"keys": SOUND["keys"] | {"held": ["k-2"]}}, "k-1 may have sealed"),
    ("disk", "problem", {"disk_is_low": True}, "no refresh token is presented"),
    ("partitions", "problem", with_partition(owner=None), "0 has no owner"),
    ("partitions", "problem", with_partition(troubles={"events": "full"}), "0: events: full"),
    ("partitions", "warning", with_partition(events_lag=20_000), "20000 groups behind"),
    ("providers", "problem", {"paused_providers": ["fake"]}, "fake refuses our configuration"),
    ("providers", "warning", {"circuits": [CIRCUIT]}, "fake at fake.example for 5 min"),
    (
        "providers",
        "problem",
        {"failing": [FAILING]},
        "of 1 connection failed at 2026-11-27T10:00:00Z: It does not know us (invalid_client)",
    ),
    (
        "providers",
        "warning",
        {"failing": [FAILING | {"failure_class": "transient", "connections": 2}]},
        "fake: the last refresh of 2 connections failed, the last one at",
    ),
    (
        "providers",
        "warning",
        {"failing": [FAILING], "circuits": [CIRCUIT]},
        "no answer, as far as this member knows: fake",
    ),
    (
        "connections",
        "problem",
        {"connections_without_profile": {"a": 1, "b": 20}},
        "20 of b, 1 of a",
    ),
]


@pytest.mark.parametrize(("check", "state", "change", "text"), CASES)
def test_what_is_wrong_is_found_with_its_mend_and_nothing_else_is(
    check: str, state: str, change: dict[str, Any], text: str
):
    if "clocks" in change:
        change = {"clocks": SOUND["clocks"] | change["clocks"]}

    wrong = [one for one in of_status(SOUND | change) if one.state is not State.OK]

    assert [(one.check, one.state) for one in wrong] == [(check, state)]
    assert text in wrong[0].text
    assert wrong[0].mend


def test_an_external_servers_disk_is_not_the_daemons():
    external = {name: SOUND[name] for name in SOUND if not name.startswith("disk")}

    [disk] = [one for one in of_status(external) if one.check == "disk"]

    assert disk == Finding("disk", State.OK, "an external server's disk is its operator's to watch")


def test_a_daemon_of_an_earlier_version_is_looked_at_as_far_as_it_tells():
    new = ("nats_version", "lacking_permissions", "keys", "clocks")
    new = (*new, "failing", "connections_without_profile")
    earlier = {name: SOUND[name] for name in SOUND if name not in new}

    assert all(one.state is State.OK for one in of_status(earlier))


def test_of_many_ways_in_which_refreshes_fail_a_few_are_told():
    failing = [FAILING | {"provider_slug": f"p-{number}"} for number in range(20)]

    found = [one for one in of_status(SOUND | {"failing": failing}) if one.mend]

    assert len(found) == 6
    assert found[-1].text == "15 more ways in which refreshes fail"


def test_connections_that_are_being_counted_are_passed_over():
    checks = [one.check for one in of_status(SOUND | {"connections_without_profile": None})]

    assert checks == [check for check in CHECKS if check != "connections"]


def test_much_that_is_wrong_is_told_in_short():
    lacking = [f"publish a.{number}" for number in range(40)]

    [found] = [one for one in of_status(SOUND | {"lacking_permissions": lacking}) if one.mend]

    assert found.text.endswith("publish a.4 and 35 more")


def test_findings_fit_80_columns_and_stand_under_each_other():
    problem = Finding("replicas", State.PROBLEM, "word " * 30, "mend " * 30)

    lines = show_findings([*of_status(SOUND), problem]).splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[0] == "ok       daemon               d-1, version 0.2.0, up for 2 h"
    assert lines[-1].startswith(" " * 30 + "mend")
