"""No two prefixes share a name; those of the default prefix are what they have always been."""

import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from runtime.gateway.subjects import is_prefix
from runtime.ledger.subjects import (
    DEFAULT_PREFIX,
    bucket_stream,
    event_marker_subject,
    event_markers,
    event_stream,
    ledger_stream,
    ledger_subject,
    outcome_stored_subject,
    outcome_subject,
    outcomes,
    outcomes_stored,
    record_key_subject,
    tag_of,
)
from tests.fakes.commands import connection_number

ID = connection_number(1)
prefixes = st.from_regex(r"\A[ab0_-]{1,4}(\.[ab0_-]{1,4}){0,3}\Z") | st.sampled_from(
    [DEFAULT_PREFIX, "refreshd", "refreshd.v2", "00", "0", "a_00", "EVENTS", "LEDGER_00"]
)
partitions = st.integers(0, 63)


def streams(prefix: str, partition: int) -> set[str]:
    tag = tag_of(prefix)
    return {event_stream(tag), ledger_stream(partition, tag), bucket_stream(partition, tag)}


def subjects(prefix: str, partition: int) -> set[str]:
    tag = tag_of(prefix)
    return {
        ledger_subject(partition, tag),
        event_marker_subject(partition, tag),
        record_key_subject(partition, "x", tag),
        outcome_subject(partition, ID, tag),
        outcome_stored_subject(partition, ID, tag),
    }


def test_the_default_prefix_keeps_its_names():
    assert tag_of("refreshd.v1") == ""
    assert streams("refreshd.v1", 3) == {
        "REFRESHD_EVENTS",
        "REFRESHD_LEDGER_03",
        "KV_refreshd_connections_03",
    }
    assert subjects("refreshd.v1", 3) == {
        "refreshd_ledger.03",
        "refreshd_mark.03",
        "$KV.refreshd_connections_03.x",
        f"refreshd_owner.03.outcome.{ID}",
        f"refreshd_owner.03.stored.{ID}",
    }
    assert event_markers("") == "refreshd_mark.*"
    assert (outcomes(""), outcomes_stored("")) == (
        "refreshd_owner.*.outcome.*",
        "refreshd_owner.*.stored.*",
    )


def test_another_prefix_is_in_its_names():
    assert streams("acme.tokens-2", 3) == {
        "REFRESHD_EVENTS_acme--tokens-_2",
        "REFRESHD_LEDGER_acme--tokens-_2_03",
        "KV_refreshd_connections_acme--tokens-_2_03",
    }
    assert subjects("acme.tokens-2", 3) == {
        "refreshd_ledger.acme--tokens-_2.03",
        "refreshd_mark.acme--tokens-_2.03",
        "$KV.refreshd_connections_acme--tokens-_2_03.x",
        f"refreshd_owner.acme--tokens-_2.03.outcome.{ID}",
        f"refreshd_owner.acme--tokens-_2.03.stored.{ID}",
    }
    assert event_markers("acme") == "refreshd_mark.acme.*"


@given(one=prefixes, other=prefixes, a=partitions, b=partitions)
@example(one="a.b", other="a--b", a=0, b=0)
@example(one="a._b", other="a.-b", a=0, b=0)
@example(one="refreshd.v1", other="00", a=0, b=0)
def test_two_prefixes_never_share_a_stream_or_a_subject(one: str, other: str, a: int, b: int):
    assume(one != other)

    assert not streams(one, a) & streams(other, b)
    assert not subjects(one, a) & subjects(other, b)
    assert not _captured(event_markers(tag_of(one)), subjects(other, b))


@given(prefix=prefixes, partition=partitions)
@example(prefix="-" * 100, partition=0)
def test_every_name_is_one_that_a_server_and_a_file_system_take(prefix: str, partition: int):
    assert is_prefix(prefix)

    for name in streams(prefix, partition):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name)


def _captured(subject_filter: str, some: set[str]) -> set[str]:
    """Return those that a filter with ``*`` matches."""
    pattern = re.escape(subject_filter).replace(r"\*", "[^.]+")
    return {subject for subject in some if re.fullmatch(pattern, subject)}
