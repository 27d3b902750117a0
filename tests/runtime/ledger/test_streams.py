"""The streams are made once, checked on each start, and refused where they cannot be trusted."""

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from runtime.ledger.stream_configs import StreamSettings
from runtime.ledger.streams import Streams, StreamsError, ensure_streams
from runtime.ledger.subjects import (
    EVENT_STREAM,
    MARKER_KEY,
    NO_TAG,
    bucket_stream,
    ledger_stream,
    record_key_subject,
)
from runtime.nats.jetstream_api import create_stream, stream_info
from runtime.nats.link import NatsLink, open_link
from tests.fakes.connections import record_subject
from tests.fakes.nats_process import nats_process
from tests.fakes.stream_settings import settings_of

SETTINGS = settings_of(None)


def with_partitions(partitions: int | None) -> StreamSettings:
    return msgspec.structs.replace(SETTINGS, partitions=partitions)


async def config_of(link: NatsLink, stream: str) -> dict[str, object]:
    info = await stream_info(link, stream)
    assert info is not None
    return info.config


async def api(link: NatsLink, verb: str, stream: str, body: object = None) -> dict[str, object]:
    """Do to a stream what an operator may do."""
    answer = await link.request(
        f"$JS.API.STREAM.{verb}.{stream}", msgspec.json.encode(body) if body else b"", timeout_s=5
    )
    decoded: dict[str, object] = msgspec.json.decode(answer.data)
    assert "error" not in decoded, decoded
    return decoded


async def tamper(link: NatsLink, stream: str, **settings: object) -> None:
    """Make a stream anew with other settings, as a hand or another tool might have."""
    config = await config_of(link, stream)
    await api(link, "DELETE", stream)
    await create_stream(link, config | settings)


async def tamper_with_all_buckets(link: NatsLink, **settings: object) -> None:
    for partition in range(4):
        await tamper(link, bucket_stream(partition, NO_TAG), **settings)


async def mark(link: NatsLink, partitions: int) -> None:
    """Put a marker into each bucket, as an owner does."""
    for partition in range(partitions):
        await link.request(
            record_key_subject(partition, MARKER_KEY, NO_TAG), b"marker", timeout_s=5
        )


async def names(link: NatsLink) -> list[str]:
    answer = await link.request("$JS.API.STREAM.NAMES", b"", timeout_s=5)
    return sorted(msgspec.json.decode(answer.data)["streams"])


async def test_the_first_start_makes_four_ledgers_four_buckets_and_the_event_stream(link: NatsLink):
    streams = await ensure_streams(link, SETTINGS)

    assert streams == Streams(partitions=4, connections=0, record_bytes_max=199_488)
    buckets = [f"KV_refreshd_connections_0{partition}" for partition in range(4)]
    ledgers = [f"REFRESHD_LEDGER_0{partition}" for partition in range(4)]
    assert await names(link) == sorted([*buckets, *ledgers, "REFRESHD_EVENTS"])


async def test_a_bucket_holds_each_record_once_for_ever_on_disk(link: NatsLink):
    await ensure_streams(link, SETTINGS)

    config = await config_of(link, bucket_stream(3, NO_TAG))

    assert config["subjects"] == ["$KV.refreshd_connections_03.>"]
    assert config["storage"] == "file"
    assert config["max_msgs_per_subject"] == 1
    assert config["max_age"] == 0
    assert config["discard"] == "new"
    assert config["max_msg_size"] == 200_000
    assert config["allow_direct"] is True
    assert config["allow_atomic"] is True
    assert "persist_mode" not in config
    metadata = config["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["refreshd.partitions"] == "4"


async def test_a_ledger_loses_nothing_by_itself(link: NatsLink):
    await ensure_streams(link, SETTINGS)

    config = await config_of(link, ledger_stream(3, NO_TAG))

    assert config["subjects"] == ["refreshd_ledger.03"]
    assert config["storage"] == "file"
    assert config["discard"] == "new"
    assert (config["max_age"], config["max_msgs"], config["max_bytes"]) == (0, -1, -1)
    assert not config.get("deny_purge")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_age", 3600 * 10**9),
        ("persist_mode", "async"),
        ("storage", "memory"),
        ("discard", "old"),
        ("retention", "interest"),
        ("no_ack", True),
        ("deny_purge", True),
        ("subjects", ["mine"]),
    ],
)
async def test_a_ledger_that_cannot_be_trusted_is_refused_with_the_setting(
    link: NatsLink, setting: str, value: object
):
    await ensure_streams(link, with_partitions(2))
    needed = {"deny_delete": False} if setting == "persist_mode" else {}
    await tamper(link, ledger_stream(1, NO_TAG), **({setting: value} | needed))

    with pytest.raises(StreamsError) as error:
        await ensure_streams(link, SETTINGS)

    assert f"stream {ledger_stream(1, NO_TAG)} has {setting}={value!r}, not " in str(error.value)


async def test_the_streams_of_version_0_1_get_what_the_ledger_needs(link: NatsLink):
    await ensure_streams(link, with_partitions(2))
    for partition in range(2):
        await api(link, "DELETE", ledger_stream(partition, NO_TAG))
        await tamper(link, bucket_stream(partition, NO_TAG), allow_direct=False, allow_atomic=False)
    former = {"allow_rollup_hdrs": False, "subjects": ["refreshd.v1.event.*.*.>"]}
    await tamper(link, EVENT_STREAM, **former)

    await ensure_streams(link, SETTINGS)

    assert (await config_of(link, bucket_stream(1, NO_TAG)))["allow_direct"] is True
    assert (await config_of(link, EVENT_STREAM))["subjects"] == [
        "refreshd.v1.event.*.*.>",
        "refreshd_mark.*",
    ]
    assert ledger_stream(1, NO_TAG) in await names(link)


async def test_a_server_that_could_not_take_what_is_accepted_is_refused(tmp_path: Path):
    settings = {"jetstream": {"store_dir": str(tmp_path / "js")}, "max_payload": 300_000}
    async with (
        nats_process(tmp_path, settings) as server,
        open_link(server.login, name="test") as link,
    ):
        with pytest.raises(StreamsError, match=r"max_payload is 300000, .*credential_bytes_max"):
            await ensure_streams(link, SETTINGS)


async def test_the_event_stream_keeps_what_is_configured(link: NatsLink):
    settings = msgspec.structs.replace(
        SETTINGS, prefix="my.prefix", event_bytes_max=10_000_000, event_age_s_max=7200
    )
    await ensure_streams(link, settings)

    config = await config_of(link, "REFRESHD_EVENTS_my--prefix")

    assert config["subjects"] == ["my.prefix.event.*.*.>", "refreshd_mark.my--prefix.*"]
    assert config["storage"] == "file"
    assert config["max_bytes"] == 10_000_000
    assert config["max_age"] == 7200 * 10**9
    assert config["duplicate_window"] == 120 * 10**9
    assert config["allow_atomic"] is True


async def test_any_kv_client_can_read_a_bucket(link: NatsLink):
    await ensure_streams(link, SETTINGS)

    bucket = await link.client.jetstream().key_value("refreshd_connections_00")
    status = await bucket.status()

    assert status.history == 1
    assert not status.ttl


async def test_a_second_start_finds_what_the_first_has_made(link: NatsLink):
    first = await ensure_streams(link, with_partitions(3))
    await link.request(record_subject(UUID(int=1), 3), b"record", timeout_s=5)
    await mark(link, 3)

    for partitions in (None, 3):
        second = await ensure_streams(link, with_partitions(partitions))
        assert second == msgspec.structs.replace(first, connections=1)


async def test_another_partition_count_is_refused(link: NatsLink):
    await ensure_streams(link, SETTINGS)

    with pytest.raises(StreamsError, match=r"state\.partitions is 8, .* set up with 4"):
        await ensure_streams(link, with_partitions(8))

    assert len(await names(link)) == 9


async def test_a_first_start_that_was_cut_short_is_completed_with_its_own_count(link: NatsLink):
    await ensure_streams(link, with_partitions(5))
    for stream in (bucket_stream(4, NO_TAG), bucket_stream(2, NO_TAG), EVENT_STREAM):
        await api(link, "DELETE", stream)

    assert (await ensure_streams(link, SETTINGS)).partitions == 5

    assert len(await names(link)) == 11


async def test_a_bucket_of_somebody_else_is_refused(link: NatsLink):
    await create_stream(
        link, {"name": bucket_stream(0, NO_TAG), "subjects": ["$KV.refreshd_connections_00.>"]}
    )

    with pytest.raises(StreamsError, match="was not made by refreshd"):
        await ensure_streams(link, SETTINGS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_age", 3600 * 10**9),
        ("persist_mode", "async"),
        ("storage", "memory"),
        ("max_msgs_per_subject", 5),
        ("discard", "old"),
        ("retention", "interest"),
        ("no_ack", True),
    ],
)
async def test_a_bucket_that_cannot_be_trusted_is_refused_with_the_setting(
    link: NatsLink, setting: str, value: object
):
    await ensure_streams(link, with_partitions(2))
    needed = {"deny_delete": False, "allow_rollup_hdrs": False, "allow_atomic": False}
    needed = needed if setting == "persist_mode" else {}
    await tamper(link, bucket_stream(1, NO_TAG), **({setting: value} | needed))

    with pytest.raises(StreamsError) as error:
        await ensure_streams(link, SETTINGS)

    assert f"stream {bucket_stream(1, NO_TAG)} has {setting}={value!r}, not " in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("storage", "memory"), ("persist_mode", "async"), ("subjects", ["mine.>"])],
)
async def test_an_event_stream_that_cannot_be_trusted_is_refused_with_the_setting(
    link: NatsLink, setting: str, value: object
):
    await ensure_streams(link, SETTINGS)
    needed = {"allow_atomic": False, "allow_rollup_hdrs": False}
    needed = needed if setting == "persist_mode" else {}
    await tamper(link, EVENT_STREAM, **({setting: value} | needed))

    with pytest.raises(StreamsError, match=f"stream {EVENT_STREAM} has "):
        await ensure_streams(link, SETTINGS)


OTHER = msgspec.structs.replace(SETTINGS, prefix="other.v1", partitions=2)


async def test_another_prefix_has_streams_of_its_own(link: NatsLink):
    await ensure_streams(link, SETTINGS)
    before = await names(link)

    streams = await ensure_streams(link, OTHER)

    assert (streams.tag, streams.partitions) == ("other--v1", 2)
    assert set(await names(link)) - set(before) == {
        "REFRESHD_EVENTS_other--v1",
        "REFRESHD_LEDGER_other--v1_00",
        "REFRESHD_LEDGER_other--v1_01",
        "KV_refreshd_connections_other--v1_00",
        "KV_refreshd_connections_other--v1_01",
    }
    assert await ensure_streams(link, OTHER) == streams
    assert (await ensure_streams(link, SETTINGS)).partitions == 4


async def test_what_version_0_1_stored_under_another_prefix_stays_in_use(link: NatsLink):
    """It had the same names whatever the prefix was."""
    await ensure_streams(link, with_partitions(2))
    former = {"subjects": ["other.v1.event.*.*.>"], "allow_rollup_hdrs": False}
    await tamper(link, EVENT_STREAM, **former)
    before = await names(link)

    streams = await ensure_streams(link, msgspec.structs.replace(OTHER, partitions=None))

    assert (streams.tag, streams.partitions) == ("", 2)
    assert await names(link) == before
    with pytest.raises(StreamsError, match=r"REFRESHD_EVENTS has subjects=\['other\.v1\.event"):
        await ensure_streams(link, SETTINGS)


async def test_a_prefix_whose_events_are_within_another_ones_is_refused(link: NatsLink):
    await ensure_streams(link, SETTINGS)
    within = msgspec.structs.replace(SETTINGS, prefix="refreshd.v1.event")

    with pytest.raises(StreamsError, match=r"REFRESHD_EVENTS_.*service\.prefix"):
        await ensure_streams(link, within)


async def test_an_operator_may_keep_events_for_longer(link: NatsLink):
    await ensure_streams(link, SETTINGS)
    config = await config_of(link, EVENT_STREAM)
    await api(link, "UPDATE", EVENT_STREAM, config | {"max_age": 0, "max_bytes": 10**9})

    await ensure_streams(link, SETTINGS)


async def test_a_bucket_without_room_for_what_is_accepted_is_refused(link: NatsLink):
    await ensure_streams(link, SETTINGS)
    more = msgspec.structs.replace(SETTINGS, record_bytes_max=200_001)

    with pytest.raises(StreamsError, match=r"max_msg_size=200000, .*credential_bytes_max.* 200001"):
        await ensure_streams(link, more)

    for enough in (200_000, 1000):
        await ensure_streams(link, msgspec.structs.replace(SETTINGS, record_bytes_max=enough))
    await tamper_with_all_buckets(link, max_msg_size=-1)
    await ensure_streams(link, more)


async def test_streams_with_other_replicas_than_configured_are_told(link: NatsLink):
    await ensure_streams(link, SETTINGS)
    structlog.reset_defaults()  # another test may have asked for errors alone

    with capture_logs() as logs:
        await ensure_streams(link, SETTINGS)
        assert logs == []
        streams = await ensure_streams(link, msgspec.structs.replace(SETTINGS, replicas=3))

    assert streams.fewer_replicas == dict.fromkeys(await names(link), 1)
    assert {entry["event"] for entry in logs} == {"replicas_differ"}
    assert sorted(entry["stream"] for entry in logs) == await names(link)
    assert logs[0]["replicas"] == 1
    assert logs[0]["configured"] == 3


async def test_the_number_of_requests_does_not_grow_with_the_records(link: NatsLink):
    async def requests() -> int:
        before = link.client.stats["out_msgs"]
        await ensure_streams(link, with_partitions(2))
        return link.client.stats["out_msgs"] - before

    await ensure_streams(link, with_partitions(2))
    empty = await requests()
    for number in range(300):
        await link.request(record_subject(UUID(int=number), 2), b"record", timeout_s=5)

    await mark(link, 2)

    assert await requests() == empty
    assert (await ensure_streams(link, SETTINGS)).connections == 300


async def test_more_replicas_than_servers_is_told_in_the_servers_words(link: NatsLink):
    settings = msgspec.structs.replace(SETTINGS, replicas=3)

    with pytest.raises(StreamsError, match="replicas > 1 not supported"):
        await ensure_streams(link, settings)


async def test_a_server_without_jetstream_is_told(tmp_path: Path):
    async with nats_process(tmp_path, {}) as server, open_link(server.login, name="test") as link:
        with pytest.raises(
            StreamsError, match=r"JetStream is not enabled at nats://.* `jetstream {}`"
        ):
            await ensure_streams(link, SETTINGS)


async def test_two_daemons_that_make_the_streams_at_once_agree_on_them(link: NatsLink):
    first, second = await asyncio.gather(
        *(ensure_streams(link, SETTINGS, keyring_id=lambda key=key: key) for key in ("a", "b"))
    )

    assert first == second
    assert first.keyring_id in {"a", "b"}
