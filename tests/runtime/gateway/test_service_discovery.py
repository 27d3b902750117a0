"""The daemon is a NATS service that any NATS tool can find, and a deputy that nobody can confuse."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from runtime.config import Config, KeysConfig, NatsConfig
from runtime.daemon import Daemon, run_daemon
from runtime.data_folder import KEYRING_FILE
from runtime.ledger.subjects import NO_TAG, bucket_stream
from runtime.nats.errors import NoRespondersError
from runtime.nats.link import NatsLink, open_link
from tests.fakes.eventually import eventually
from tests.fakes.raw_nats import hostile_publish, send_and_block

ID = UUID("0195e4a0-0000-7000-8000-000000000001")
COMMANDS = (
    "connect",
    "disconnect",
    "expire",
    "explain",
    "fail",
    "get",
    "history",
    "refresh",
    "revoke",
    "synced",
    "token",
)
SECRET = "at-s3cret"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncGenerator[Daemon]:
    async with run_daemon(Config(), tmp_path) as running:
        yield running


@pytest.fixture
async def client(daemon: Daemon) -> AsyncGenerator[NatsLink]:
    async with open_link(daemon.link._login, name="caller") as link:
        yield link


async def ask(client: NatsLink, subject: str, body: object = None) -> dict[str, Any]:
    payload = b"" if body is None else json.dumps(body).encode()
    return json.loads((await client.request(subject, payload, timeout_s=5.0)).data)


async def connect(client: NatsLink) -> dict[str, Any]:
    return await ask(
        client,
        f"refreshd.v1.connection.{ID}.connect",
        {
            "user_id": str(UUID(int=1)),
            "provider_id": str(UUID(int=2)),
            "provider_slug": "schwab",
            "credentials": {"credential_type": "oauth2", "secret": {"access_token": SECRET}},
        },
    )


async def test_a_ping_is_answered_by_everybody_by_name_and_by_id(client: NatsLink):
    first = await ask(client, "$SRV.PING")

    assert first["type"] == "io.nats.micro.v1.ping_response"
    assert first["name"] == "refreshd"
    assert first["version"].count(".") == 2
    for subject in ("$SRV.PING.refreshd", f"$SRV.PING.refreshd.{first['id']}"):
        assert await ask(client, subject) == first


async def test_info_names_every_endpoint_its_subject_and_the_queue_group(
    client: NatsLink, daemon: Daemon
):
    info = await ask(client, "$SRV.INFO.refreshd")

    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["metadata"] == {
        "cluster": "1",
        "daemon": daemon.daemon_id,
        "prefix": "refreshd.v1",
        "partitions": "4",
    }
    assert {endpoint["queue_group"] for endpoint in info["endpoints"]} == {"refreshd"}
    assert {e["name"]: e["subject"] for e in info["endpoints"]} == {
        "connect": "refreshd.v1.connect",
        "connections-list": "refreshd.v1.connections.list",
        "status": "refreshd.v1.status",
        **{f"connection-{verb}": f"refreshd.v1.connection.*.{verb}" for verb in COMMANDS},
    }


async def test_info_is_answered_by_everybody_by_name_and_by_id(client: NatsLink):
    info = await ask(client, "$SRV.INFO")

    assert await ask(client, f"$SRV.INFO.refreshd.{info['id']}") == info


async def test_stats_count_requests_and_failures_and_quote_nothing(
    client: NatsLink, daemon: Daemon
):
    await connect(client)
    assert "error" in await connect(client)
    malformed = f'{{"user_id": "{SECRET}"}}'.encode()
    for _ in range(3):
        await client.request(f"refreshd.v1.connection.{ID}.connect", malformed, timeout_s=5.0)

    stats = await ask(client, "$SRV.STATS.refreshd")

    assert stats["type"] == "io.nats.micro.v1.stats_response"
    assert stats["started"].endswith("Z")
    [endpoint] = [e for e in stats["endpoints"] if e["name"] == "connection-connect"]
    assert endpoint["num_requests"] == 5
    assert endpoint["num_errors"] == 4
    assert endpoint["last_error"] == "INVALID_COMMAND"
    assert endpoint["data"] == {"errors": {"INVALID_TRANSITION": 1, "INVALID_COMMAND": 3}}
    assert endpoint["processing_time"] > 0
    assert endpoint["average_processing_time"] == endpoint["processing_time"] // 5
    counted = daemon.service.counted["connection-connect"]
    assert (counted.succeeded, counted.forwarded) == (1, 0)
    assert SECRET not in json.dumps(stats)


async def test_an_average_time_is_one_of_answers(client: NatsLink, daemon: Daemon):
    await connect(client)
    counted = daemon.service.counted["connection-connect"]
    counted.requests += 1
    counted.forwarded += 1

    stats = await ask(client, "$SRV.STATS.refreshd")

    [endpoint] = [e for e in stats["endpoints"] if e["name"] == "connection-connect"]
    assert endpoint["num_requests"] == 2
    assert endpoint["average_processing_time"] == endpoint["processing_time"] > 0


async def test_stats_of_an_untouched_endpoint_are_zero(client: NatsLink):
    stats = await ask(client, "$SRV.STATS")

    assert {e["name"] for e in stats["endpoints"]} >= {"connect", "status"}
    for endpoint in stats["endpoints"]:
        assert endpoint["num_requests"] == endpoint["num_errors"] == 0
        assert endpoint["average_processing_time"] == 0
        assert endpoint["last_error"] in (None, "")


async def test_one_request_is_answered_by_one_of_two_daemons(
    client: NatsLink, daemon: Daemon, tmp_path: Path
):
    async with run_daemon(_at(daemon, tmp_path), tmp_path / "second", takes_over=True):
        seen = {(await ask(client, "refreshd.v1.status"))["ok"]["daemon"] for _ in range(40)}
        stats = 0
        inbox = client.client.new_inbox()
        subscription = await client.client.subscribe(inbox)
        client.publish_now("$SRV.STATS.refreshd", b"", reply=inbox)
        for _ in range(2):
            body = json.loads((await subscription.next_msg(timeout=5)).data)
            stats += sum(e["num_requests"] for e in body["endpoints"])

    assert len(seen) == 2
    assert stats == 40


async def test_a_daemon_that_has_stopped_is_not_found(tmp_path: Path):
    async with run_daemon(Config(), tmp_path) as first:
        config = _at(first, tmp_path)
        async with run_daemon(config, tmp_path / "second", takes_over=True):
            pass

        async with open_link(first.link._login, name="caller") as client:
            inbox = client.client.new_inbox()
            subscription = await client.client.subscribe(inbox)
            client.publish_now("$SRV.PING.refreshd", b"", reply=inbox)
            await subscription.next_msg(timeout=5)
            await client.flush()
            assert subscription.pending_msgs == 0


BUCKET_0_SUBJECT = "$KV.refreshd_connections_00.x"


async def stored_messages(daemon: Daemon) -> list[int]:
    assert await daemon._ledgers.caught_up()
    answers = [
        await daemon.link.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_s=5.0)
        for stream in [*(bucket_stream(p, NO_TAG) for p in range(4)), "REFRESHD_EVENTS"]
    ]
    return [json.loads(answer.data)["state"]["messages"] for answer in answers]


@pytest.mark.parametrize(
    "reply",
    [
        BUCKET_0_SUBJECT,
        f"refreshd.v1.event.schwab.{ID}.connection.succeeded",
        f"refreshd.v1.connection.{ID}.revoke",
        "$JS.API.STREAM.PURGE.REFRESHD_EVENTS",
    ],
)
@pytest.mark.parametrize(
    "subject",
    [
        "$SRV.PING",
        "$SRV.PING.refreshd",
        "$SRV.INFO.refreshd",
        "$SRV.STATS",
        f"refreshd.v1.connection.{ID}.get",
        "refreshd.v1.connections.list",
        "refreshd.v1.status",
    ],
)
async def test_an_answer_never_goes_where_only_the_daemon_may_publish(
    client: NatsLink, daemon: Daemon, subject: str, reply: str
):
    await connect(client)
    await eventually(lambda: _has_event(daemon))
    before = await stored_messages(daemon)
    eavesdropper = await client.client.subscribe(reply)
    await client.flush()

    client.publish_now(subject, b"", reply=reply)
    assert "ok" in await ask(client, f"refreshd.v1.connection.{ID}.get")
    await ask(client, "$SRV.STATS")
    await daemon.link.flush()
    await client.flush()

    assert eavesdropper.pending_msgs == 0
    assert await stored_messages(daemon) == before
    assert daemon.link.replies.refused >= 1


async def _has_event(daemon: Daemon) -> bool:
    return (await stored_messages(daemon))[-1] >= 2


async def test_a_command_with_a_forbidden_reply_is_carried_out_like_one_without(
    client: NatsLink, daemon: Daemon
):
    await connect(client)

    client.publish_now(f"refreshd.v1.connection.{ID}.revoke", b"", reply=BUCKET_0_SUBJECT)

    async def is_revoked() -> bool:
        view = await ask(client, f"refreshd.v1.connection.{ID}.get")
        return view["ok"]["status"] == "revoked"

    await eventually(is_revoked)
    assert daemon.service.commands_in_flight == 0


async def test_a_command_without_a_reply_subject_is_carried_out_and_hurts_nobody(
    client: NatsLink, daemon: Daemon
):
    client.publish_now(f"refreshd.v1.connection.{ID}.get", b"")
    client.publish_now("$SRV.PING", b"")
    client.publish_now("refreshd.v1.connect", b"\xff")

    assert (await ask(client, "$SRV.PING"))["name"] == "refreshd"
    await eventually(lambda: daemon.service.commands_in_flight == 0)


async def test_requests_reach_a_daemon_that_has_just_said_it_is_ready(tmp_path: Path):
    async with (
        run_daemon(Config(), tmp_path) as daemon,
        open_link(daemon.link._login, name="caller") as client,
    ):
        with anyio.fail_after(5):
            for endpoint in ("status", "connections.list", f"connection.{ID}.disconnect"):
                assert await ask(client, f"refreshd.v1.{endpoint}")


async def test_a_daemon_that_drains_answers_what_it_took(tmp_path: Path):
    async with (
        run_daemon(Config(), tmp_path) as daemon,
        open_link(daemon.link._login, name="caller") as client,
    ):
        inbox = client.client.new_inbox()
        answers = await client.client.subscribe(inbox)
        await client.flush()
        get = hostile_publish(f"refreshd.v1.connection.{ID}.get".encode(), reply=inbox.encode())
        send_and_block(daemon.link._login, get * 200)

        await daemon.drain()

        for _ in range(200):
            assert b"CONNECTION_NOT_FOUND" in (await answers.next_msg(timeout=5)).data
        with pytest.raises(NoRespondersError):
            await ask(client, f"refreshd.v1.connection.{ID}.get")


def _at(daemon: Daemon, folder: Path) -> Config:
    """Return the configuration of another daemon on the same server."""
    login = daemon.link._login
    password_file = folder / "password"
    assert login.password is not None
    password_file.write_text(login.password)
    return Config(
        nats=NatsConfig(url=login.url, user=login.user, password_file=password_file),
        keys=KeysConfig(file=folder / KEYRING_FILE),
    )
