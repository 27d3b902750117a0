"""What members tell of themselves adds up, and what nobody tells is not taken for nothing."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from actors.members import Heartbeat, Present
from domain.profile import FailureClass
from runtime.cluster.totals import Report, owners_of, told_by_owners, totals
from runtime.cluster.wire import decode_heartbeat, encode_heartbeat
from runtime.ledger.last_outcomes import Failing
from runtime.ledger.standing import Standing

_NO_STATUS = dict.fromkeys(("pending", "expired", "revoked", "failed", "disconnected"), 0)


def standing(partition: int, claim_seq: int, **fields: Any) -> Standing:
    """Return a partition that lacks nothing and has ten connections, or as the fields say."""
    usual: dict[str, Any] = {
        "ledger_seq": claim_seq,
        "records_lag": 0,
        "events_lag": 0,
        "trimmed_seq": claim_seq,
        "by_status": {"active": 10, **_NO_STATUS},
        "next_minute": 1,
        "next_hour": 2,
        "next_day": 3,
    }
    return Standing(partition=partition, claim_seq=claim_seq, **(usual | fields))


def present(daemon: str, *standings: Standing, age_s: float = 0.0, **report: Any) -> Present:
    """Return a member as it is heard, over the wire."""
    told = Report(partitions=standings, uptime_s=5.0, **report)
    owned = {one.partition: one.claim_seq for one in standings if one.claim_seq is not None}
    beat = Heartbeat(
        daemon=daemon,
        number=1,
        version="0.2.0",
        owned=owned,
        load=3,
        report=msgspec.to_builtins(told),
    )
    heard = decode_heartbeat(encode_heartbeat(beat))
    assert heard is not None
    return Present(heard, age_s)


DONE: dict[str, Any] = {"appends": 4, "refreshes": {"succeeded": 2, "user": 1}}


def test_the_sums_are_over_all_members():
    one = present("d-1", standing(0, 5), standing(1, 6), unsettled_bytes=7, due_waiting=1, **DONE)
    two = present("d-2", standing(2, 9, late_s=4.26, events_lacking=8), age_s=0.72)
    told = told_by_owners([one, two])

    said = totals([one, two], [told[number] for number in range(3)])

    assert said.connections_by_status == {"active": 30, **_NO_STATUS}
    assert said.due == {
        "next_minute": 3,
        "next_hour": 6,
        "next_day": 9,
        "latest_s": 4.3,
        "waiting": 1,
        "under_way": 0,
    }
    assert (said.ledger["unsettled_bytes"], said.ledger["events_lacking"]) == (7, 8)
    assert said.cluster["members"] == [
        {
            "daemon": "d-1",
            "version": "0.2.0",
            "uptime_s": 5.0,
            "partitions": {"0": 5, "1": 6},
            "load": 3,
            **DONE,
            "heard_s": 0.0,
            "is_leaving": False,
        },
        {
            "daemon": "d-2",
            "version": "0.2.0",
            "uptime_s": 5.0,
            "partitions": {"2": 9},
            "load": 3,
            "appends": 0,
            "refreshes": {},
            "heard_s": 0.7,
            "is_leaving": False,
        },
    ]
    partitions: Any = said.cluster["partitions"]
    assert [one["owner"] for one in partitions] == ["d-1", "d-1", "d-2"]
    assert partitions[2] == {
        "partition": 2,
        "owner": "d-2",
        "claim_seq": 9,
        "ledger_seq": 9,
        "records_lag": 0,
        "events_lag": 0,
        "trimmed_seq": 9,
        "troubles": {},
    }


def test_of_two_that_tell_of_a_partition_the_later_claim_counts():
    former = present("d-1", standing(0, 5, events_lacking=100))
    later = present("d-2", standing(0, 8))

    for members in ([former, later], [later, former]):
        assert owners_of(members)[0].daemon == "d-2"
        said = totals(members, [told_by_owners(members)[0]])
        assert said.connections_by_status == {"active": 10, **_NO_STATUS}
        assert said.ledger["events_lacking"] == 0


def test_a_partition_that_nobody_owns_leaves_open_what_only_an_owner_knows():
    one = present("d-1", standing(0, 5))
    unowned = Standing(partition=1, ledger_seq=40, records_lag=2, events_lag=3, events_lacking=3)

    said = totals([one], [told_by_owners([one])[0], unowned])

    assert said.connections_by_status is None
    assert (said.due["next_hour"], said.due["next_day"]) == (None, None)
    assert said.ledger["events_lacking"] == 3
    partitions: Any = said.ledger["partitions"]
    assert (partitions[1]["owner"], partitions[1]["claim_seq"]) == (None, None)
    assert partitions[1]["ledger_seq"] == 40


def test_one_partition_that_is_still_being_counted_leaves_the_sum_open():
    one = present("d-1", standing(0, 5), standing(1, 6, by_status=None, next_day=None))

    said = totals([one], [*told_by_owners([one]).values()])

    assert said.connections_by_status is None
    assert (said.due["next_hour"], said.due["next_day"]) == (4, None)


def test_what_a_ledger_holds_beyond_what_was_told_counts_as_lacking():
    told = standing(0, 5, ledger_seq=20, records_lag=1, events_lag=2, events_lacking=4)

    assert told.as_of(20) == told.as_of(19) == told
    later = told.as_of(23)
    assert (later.ledger_seq, later.records_lag, later.events_lag) == (23, 4, 5)
    assert later.events_lacking == 7
    assert standing(0, 5).as_of(None).events_lacking == 1
    assert told.as_of(None).events_lacking == 4


def test_a_report_of_another_form_tells_nothing_and_its_sender_still_owns_what_it_says():
    beat = Heartbeat(daemon="d-1", number=1, owned={0: 5}, report={"partitions": "?"})

    members = [Present(beat, 0.0)]
    assert told_by_owners(members) == {}
    said = totals(members, [Standing(partition=0, ledger_seq=5, events_lag=0, records_lag=0)])

    partitions: Any = said.cluster["partitions"]
    assert partitions[0]["owner"] == "d-1"
    assert said.connections_by_status is None


def failing(connections: int, reason: str, second: int) -> Failing:
    return Failing(
        provider_slug="fake",
        failure_class=FailureClass.OPERATOR,
        connections=connections,
        code="invalid_client",
        reason=reason,
        at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC),
        connection_id=UUID(int=second),
    )


def test_what_members_tell_of_providers_is_summed_with_the_last_error_of_all():
    one = present(
        "d-1",
        standing(0, 5),
        without_profile={"acme": 2, "b": 1},
        failing=[failing(1, "the last", 9)],
    )
    two = present(
        "d-2", standing(1, 6), without_profile={"acme": 3}, failing=[failing(2, "before", 3)]
    )
    told = told_by_owners([one, two])

    said = totals([one, two], [told[number] for number in range(2)])

    assert said.without_profile == {"acme": 5, "b": 1}
    [found] = said.failing
    assert found == {
        "provider_slug": "fake",
        "failure_class": "operator",
        "connections": 3,
        "code": "invalid_client",
        "reason": "the last",
        "at": "2026-01-01T00:00:09Z",
        "connection_id": str(UUID(int=9)),
    }


def test_an_owner_that_is_still_counting_leaves_open_whom_nothing_refreshes():
    one = present("d-1", standing(0, 5), without_profile={"acme": 2})
    two = present("d-2", standing(1, 6))
    told = told_by_owners([one, two])

    assert totals([one, present("d-3")], [told[0]]).without_profile == {"acme": 2}
    assert totals([one, two], [told[0], told[1]]).without_profile is None
    unowned = Standing(partition=1, ledger_seq=40)
    assert totals([one], [told[0], unowned]).without_profile is None
