"""Rates are of all members, between two looks; what nobody saw begin is not counted."""

from typing import Any

from runtime.cli.rates import Look, VerbRate, rates
from runtime.cli.top_frame import frame
from runtime.nats.discoverable import EndpointCounts, ServiceCounts


def member(daemon: str, *, appends: int = 0, **refreshes: int) -> dict[str, Any]:
    return {
        "daemon": daemon,
        "version": "0.2.0",
        "uptime_s": 7200.0,
        "partitions": {"0": 1},
        "load": 3,
        "heard_s": 0.1,
        "is_leaving": False,
        "appends": appends,
        "refreshes": refreshes,
    }


def partition(number: int, **changes: Any) -> dict[str, Any]:
    sound = {"owner": "d-1", "ledger_seq": 9, "records_lag": 0, "events_lag": 0, "troubles": {}}
    return {"partition": number, **sound, **changes}


def status(*members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "connections": 12,
        "connections_by_status": {"active": 11, "expired": 1, "failed": 0},
        "due": {
            "next_minute": 1,
            "next_hour": 2,
            "next_day": None,
            "latest_s": 0.0,
            "waiting": 0,
            "under_way": 4,
        },
        "ledger": {"events_lacking": 5, "unsettled_bytes": 100},
        "paused_providers": [],
        "circuits": [],
        "cluster": {"members": [*members], "partitions": [partition(0)]},
    } | changes


def service(daemon: str, requests: int, took_ms: float, **errors: int) -> ServiceCounts:
    end = EndpointCounts(
        name="connection-token",
        num_requests=requests,
        processing_time=int(took_ms * 1e6),
        data={"errors": errors},
    )
    return ServiceCounts(id=daemon, endpoints=[end])


def test_what_all_members_did_between_two_looks_is_told_a_second():
    before = Look(
        10.0,
        status(member("d-1", appends=10, succeeded=5), member("d-2", succeeded=100)),
        [service("a", 100, 1000), service("b", 50, 0, REAUTH_REQUIRED=4)],
    )
    now = Look(
        14.0,
        status(member("d-1", appends=18, succeeded=9), member("d-2", succeeded=108, user=2)),
        [service("a", 160, 1240), service("b", 70, 80, REAUTH_REQUIRED=12)],
    )

    found = rates(before, now)

    assert found.refreshes_per_s == {"succeeded": 3.0, "user": 0.5}
    assert found.appends_per_s == 2.0
    [token] = found.verbs
    assert token == VerbRate(
        verb="token", per_s=20.0, ms=4.0, failed_per_s={"REAUTH_REQUIRED": 2.0}
    )


def test_who_has_come_or_begun_anew_does_not_count_as_a_burst():
    before = Look(0.0, status(member("d-1", succeeded=500)), [service("a", 500, 0)])
    now = Look(
        1.0,
        status(member("d-1", succeeded=3), member("d-2", succeeded=700)),
        [service("a", 7, 0), service("b", 700, 0)],
    )

    found = rates(before, now)

    assert (found.verbs, found.refreshes_per_s) == ([], {"succeeded": 0.0})


def test_members_of_an_earlier_version_tell_no_refreshes():
    old = {name: one for name, one in member("d-1").items() if name not in ("appends", "refreshes")}

    found = rates(Look(0.0, status(old), []), Look(1.0, status(old), []))

    assert (found.refreshes_per_s, found.appends_per_s) == ({}, 0.0)


def shown(**changes: Any) -> str:
    now = status(member("d-1", succeeded=4), **changes)
    services = [service("a", 9, 9.0, OVERLOADED=3)]
    before = Look(0.0, status(member("d-1")), [service("a", 1, 1.0)])
    return frame(now, rates(before, Look(2.0, now, services)))


def test_a_frame_has_rates_what_is_late_members_partitions_and_circuits():
    lines = shown(due={**status()["due"], "latest_s": 300.0}).splitlines()

    assert lines[0] == "connections  12 stored: 11 active, 1 expired"
    assert lines[1] == "refreshes    2.0/s succeeded"
    assert lines[2].startswith("due          5 min late, 0 wait, 4 under way; looks: 1 in the")
    assert "token  4.0    1.5     1.0  OVERLOADED 1.5/s" in lines
    assert "d-1     0.2.0    there  0.1 s  3     2 h  0" in lines
    assert "0     d-1    9       0            0           -" in lines
    assert lines[-1] == ("no provider is down, paused or failing, as far as is known")


def test_a_frame_counts_looks_and_says_what_became_of_refreshes_in_words():
    now = status(member("d-1", succeeded=4, user=2, operator=6, transient=8, ambiguous=2))

    text = " ".join(
        frame(now, rates(Look(0.0, status(member("d-1")), []), Look(2.0, now, []))).split()
    )

    assert (
        "1.0/s unclear answer, 3.0/s our configuration refused, 2.0/s succeeded, "
        "4.0/s passing trouble, 1.0/s grant refused"
    ) in text
    assert (
        "looks: 1 in the next minute, 2 in the next hour, ? in the next day "
        "(one that is no longer needed counts until its time)"
    ) in text


def test_what_is_closed_is_shown_with_why():
    circuit = {
        "provider_slug": "fake",
        "host": "fake.example",
        "state": "open",
        "down_s": 90.0,
        "reason": "The provider's token endpoint failed",
    }

    of_it = {"provider_slug": "fake", "connections": 9, "code": "c", "reason": "It failed"}
    lines = shown(paused_providers=["other"], circuits=[circuit], failing=[of_it]).splitlines()

    assert " ".join(" ".join(lines[:2]).split()) == (
        "trouble 2 providers in trouble, 9 connections failing: `refreshd doctor` says what to do"
    )
    assert lines[-2].split() == [
        *("other", "-", "paused", "-", "it", "refuses", "our", "configuration")
    ]
    assert lines[-1].startswith("fake      fake.example  down    90 s  The provider's token")


def test_one_connection_that_is_refused_and_those_that_nothing_refreshes_are_shown():
    failing = {
        "provider_slug": "fake",
        "failure_class": "operator",
        "connections": 1,
        "code": "invalid_client",
        "reason": "The provider does not accept the client's credentials",
        "at": "2026-11-27T10:00:00Z",
        "connection_id": "c-1",
    }

    lines = shown(failing=[failing], connections_without_profile={"acme": 2}).splitlines()

    assert "no profile   2 of acme: they are never refreshed" in lines
    assert lines[0].startswith("trouble      1 provider in trouble, 1 connection failing, 2 conn")
    assert lines[-2].startswith("fake      -     failing  -     1 connection: The provider does")
    assert lines[-1].strip() == "client's credentials (invalid_client)"


def test_a_frame_is_bounded_and_has_the_worst_partitions_first():
    many = [partition(number, events_lag=number) for number in range(64)]
    many[7] = partition(7, owner=None, ledger_seq=None, records_lag=None, events_lag=None)

    cluster = {"members": [member(f"d-{number}") for number in range(40)], "partitions": many}
    lines = shown(cluster=cluster).splitlines()

    at = next(place for place, line in enumerate(lines) if line.startswith("PART "))
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["7", "63", "62"]
    assert lines.count("and 48 more") == 1
    assert lines.count("and 24 more") == 1
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80


def test_who_may_not_ask_for_counts_is_told_which_right_that_takes():
    alone = status(member("d-1"))

    text = frame(alone, rates(Look(0.0, alone, []), Look(1.0, alone, [])))

    assert "$SRV.STATS.refreshd" in text
