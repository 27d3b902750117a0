"""What ``refreshd status`` shows of a cluster can be read at 80 columns, and nothing is cut off."""

from typing import Any

import pytest

from runtime.cli.cluster_tables import show_status

STATUS: dict[str, Any] = {
    "daemon": "d-00000001",
    "partitions": 4,
    "ledger": {"unsettled_bytes": 0, "events_lacking": 3, "partitions": []},
    "cluster": {
        "members": [
            {
                "daemon": "d-00000001",
                "version": "0.2.0",
                "uptime_s": 12.0,
                "partitions": {"0": 17, "2": 1_234_567},
                "load": 120,
                "heard_s": 0.0,
                "is_leaving": False,
            },
            {
                "daemon": "d-00000002",
                "version": "0.2.0",
                "uptime_s": 3600.0,
                "partitions": {"1": 5},
                "load": 0,
                "heard_s": 0.7,
                "is_leaving": True,
            },
        ],
        "partitions": [
            {
                "partition": number,
                "owner": owner,
                "claim_seq": claim_seq,
                "ledger_seq": 12_345_678,
                "records_lag": 1,
                "events_lag": 12,
                "trimmed_seq": 12_345_666,
                "troubles": troubles,
            }
            for number, owner, claim_seq, troubles in (
                (0, "d-00000001", 17, {}),
                (1, "d-00000002", 5, {"records": "no answer in time", "events": "\x1bno"}),
                (2, "d-00000001", 1_234_567, {}),
                (3, None, None, {}),
            )
        ],
    },
}


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_members_and_partitions_are_a_table_each():
    assert show_status(STATUS).splitlines() == [
        "daemon      d-00000001",
        "partitions  4",
        'ledger      {"unsettled_bytes": 0, "events_lacking": 3}',
        "",
        "MEMBER      VERSION  STATE    HEARD  LOAD  PARTITIONS",
        "d-00000001  0.2.0    there    0.0 s  120   0 2",
        "d-00000002  0.2.0    leaving  0.7 s  0     1",
        "",
        "PART  OWNER       CLAIM    LEDGER    TRIMMED   RECORDS-LAG  EVENTS-LAG  TROUBLES",
        "0     d-00000001  17       12345678  12345666  1            12          -",
        "1     d-00000002  5        12345678  12345666  1            12          records:",
        "     no answer in time; events: ?no",
        "2     d-00000001  1234567  12345678  12345666  1            12          -",
        "3     -           -        12345678  12345666  1            12          -",
    ]


def test_many_partitions_of_a_member_go_on_below():
    member = STATUS["cluster"]["members"][0] | {"partitions": dict.fromkeys(map(str, range(64)), 1)}

    shown = show_status(STATUS | {"cluster": {"members": [member], "partitions": []}})

    assert max(map(len, shown.splitlines())) <= 80
    assert set(map(str, range(64))) <= set(shown.split())


def test_what_a_daemon_of_an_earlier_version_says_is_shown_as_it_is():
    shown = show_status({"daemon": "d-00000001", "ledger": {"partitions": []}})

    assert shown.splitlines() == ["daemon  d-00000001", 'ledger  {"partitions": []}']
