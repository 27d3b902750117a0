"""The users of SECURITY.md, as they stand there: each can do its part, and is refused all else.

The server runs with the block of the page and the daemon as its user ``daemon``.
"""

import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from runtime.cli.client import CommandClient
from runtime.nats.link import Login, open_link
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import guarded_server
from tests.fakes.page_users import CREDENTIALS, NOBODYS, connect_body, daemon, told, user
from tests.fakes.papers import block

USERS = ("daemon", "app", "tokens", "reader", "events", "admin", "setup", "audit")
ID = "0195e4a0-0000-7000-8000-000000000001"
VERBS = (
    *("connect", "refresh", "token", "get", "explain", "history"),
    *("expire", "revoke", "fail", "synced", "disconnect"),
)
LOOKS = ("get", "explain", "history")
STREAMS = ("REFRESHD_EVENTS", "REFRESHD_LEDGER_03", "KV_refreshd_connections_03", "FOREIGN")
ON_STREAMS = (
    *("STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.INFO"),
    *("STREAM.MSG.GET", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE", "DIRECT.GET"),
    *("STREAM.LEADER.STEPDOWN", "CONSUMER.CREATE", "CONSUMER.NAMES", "CONSUMER.LIST"),
)
ON_CONSUMERS = (
    *("CREATE", "DURABLE.CREATE", "INFO", "DELETE", "MSG.NEXT", "PAUSE", "RESET"),
    *("LEADER.STEPDOWN", "UNPIN"),
)
API = "$JS.API."


def commands(*verbs: str) -> set[str]:
    return {f"refreshd.v1.connection.{ID}.{verb}" for verb in verbs}


def on_stream(stream: str, *requests: str) -> set[str]:
    return {f"{API}{request}.{stream}" for request in requests}


def on_consumer(consumer: str, *requests: str) -> set[str]:
    return {f"{API}CONSUMER.{request}.{consumer}" for request in requests}


CONSUMERS = [f"{stream}.{name}" for stream in STREAMS for name in ("audit", "other")]
DISCOVERY = {"$SRV.PING", "$SRV.INFO.refreshd", "$SRV.STATS.refreshd.x"}
OUTCOMES = ("outcome", "stored")
TO_PUBLISH = {
    *commands(*VERBS),
    *("refreshd.v1.connect", "refreshd.v1.connections.list", "refreshd.v1.status"),
    f"refreshd.v1.event.schwab.{ID}.connection.succeeded",
    *("refreshd_ledger.03", "refreshd_mark.03", f"$KV.refreshd_connections_03.{ID}"),
    *("$KV.refreshd_connections_03._ledger", "$KV.foreign.x", "orders.new", "refreshd.v2.x"),
    *(f"refreshd_owner.03.{verb}.{ID}" for verb in ("token", *OUTCOMES)),
    "refreshd_cluster.d-1",
    *DISCOVERY,
    *("$SRV.PING.other", "$SRV.PING.other.x", "_INBOX.x.1", "_INBOX_refreshd.x.1"),
    *(f"_INBOX_{user}.x.1" for user in USERS),
    *("$JS.ACK.REFRESHD_EVENTS.audit.1.1.1.1.0", "$JS.ACK.REFRESHD_EVENTS.other.1.1.1.1.0"),
    *(
        "$JS.ACK.KV_refreshd_connections_03.audit.1.1.1.1.0",
        "$JS.FC.x",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.USER.INFO",
    ),
    *(f"{API}INFO", f"{API}STREAM.NAMES", f"{API}STREAM.LIST", f"{API}META.LEADER.STEPDOWN"),
    *(subject for stream in STREAMS for subject in on_stream(stream, *ON_STREAMS)),
    *(subject for name in CONSUMERS for subject in on_consumer(name, *ON_CONSUMERS)),
}
READS_BY_CONSUMER = {
    subject
    for stream in ("REFRESHD_LEDGER_03", "KV_refreshd_connections_03")
    for name in ("audit", "other")
    for subject in on_consumer(f"{stream}.{name}", "MSG.NEXT", "DELETE")
}
MAY_PUBLISH = {
    "daemon": {
        f"refreshd.v1.event.schwab.{ID}.connection.succeeded",
        *("refreshd_ledger.03", "refreshd_mark.03", "_INBOX_refreshd.x.1"),
        *(f"refreshd_owner.03.{verb}.{ID}" for verb in ("token", *OUTCOMES)),
        *("refreshd_cluster.d-1", "$SYS.REQ.USER.INFO"),
        *("$KV.refreshd_connections_03._ledger", f"$KV.refreshd_connections_03.{ID}"),
        *on_stream("REFRESHD_EVENTS", "STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE"),
        *on_stream("REFRESHD_EVENTS", "DIRECT.GET"),
        *on_stream("REFRESHD_LEDGER_03", "STREAM.INFO", "STREAM.CREATE", "STREAM.PURGE"),
        *on_stream("KV_refreshd_connections_03", "STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE"),
        *on_stream("KV_refreshd_connections_03", "STREAM.PURGE"),
        *on_stream("KV_refreshd_connections_03", "DIRECT.GET", "CONSUMER.CREATE"),
        *on_stream("REFRESHD_LEDGER_03", "CONSUMER.CREATE"),
        *(s for stream in STREAMS[:3] for s in on_stream(stream, "STREAM.MSG.GET")),
        *READS_BY_CONSUMER,
    },
    "app": {"refreshd.v1.connect", *commands("connect", "refresh", "synced", *LOOKS)},
    "tokens": commands("token"),
    "reader": {"refreshd.v1.connections.list", "refreshd.v1.status", *commands(*LOOKS)},
    "events": set[str](),
    "admin": {
        *("refreshd.v1.connections.list", "refreshd.v1.status"),
        *commands(*LOOKS, "expire", "revoke", "fail", "disconnect"),
        *DISCOVERY,
    },
    "setup": {
        *on_stream("REFRESHD_EVENTS", "STREAM.INFO", "CONSUMER.CREATE"),
        *on_consumer("REFRESHD_EVENTS.audit", "CREATE", "INFO", "DELETE", "MSG.NEXT"),
        *on_consumer("REFRESHD_EVENTS.other", "CREATE", "INFO", "DELETE", "MSG.NEXT"),
    },
    "audit": {
        *on_consumer("REFRESHD_EVENTS.audit", "MSG.NEXT"),
        "$JS.ACK.REFRESHD_EVENTS.audit.1.1.1.1.0",
    },
}
OWN_INBOX = {user: {f"_INBOX_{user}.x.1"} for user in ("app", "tokens", "reader", "admin", "setup")}
ENDPOINTS = {
    *("refreshd.v1.connect", "refreshd.v1.connection.*.*", "refreshd.v1.connection.*.token"),
    *("refreshd.v1.connections.list", "refreshd.v1.status"),
}
TO_HEAR = {
    *(">", "*.>", "refreshd.>", "refreshd.v1.>", "refreshd.v1.*", "refreshd.v1.connection.>"),
    *ENDPOINTS,
    *("refreshd.v1.event.>", f"refreshd.v1.event.*.{ID}.>", "refreshd_ledger.*", "refreshd_mark.*"),
    *(f"refreshd_owner.*.{verb}.*" for verb in OUTCOMES),
    *("refreshd_owner.>", "refreshd_cluster.*", "$KV.>", "$KV.refreshd_connections_03.>"),
    *("$JS.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>", "$SYS.>", "$SRV.>", "$SRV.PING", "_R_.>"),
    *("_INBOX.>", "_INBOX.*.*", "_INBOX_refreshd.>", "orders.>"),
    *(f"_INBOX_{user}.>" for user in USERS),
}
MAY_HEAR = {
    "daemon": {
        *ENDPOINTS,
        *("$SRV.PING", "_INBOX_refreshd.>"),
        *(f"refreshd_owner.*.{verb}.*" for verb in OUTCOMES),
        *("refreshd_owner.>", "refreshd_cluster.*"),
    },
    "events": {"refreshd.v1.event.>", f"refreshd.v1.event.*.{ID}.>"},
}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncGenerator[str]:
    """A server with the users of SECURITY.md, each with the password ``pw``."""
    passwords = (user.upper() for user in USERS)
    async with guarded_server(tmp_path, block("SECURITY.md", "", "accounts"), passwords) as server:
        yield server


@pytest.mark.parametrize("name", USERS)
async def test_each_may_publish_what_its_part_needs_and_nothing_else(url: str, name: str):
    async with user(url, name) as one:
        for subject in (*TO_PUBLISH, NOBODYS):
            await one.client.publish(subject, b"")
        refused = await one.refused("publish", TO_PUBLISH)

    assert TO_PUBLISH - refused == MAY_PUBLISH[name] | OWN_INBOX.get(name, set())


@pytest.mark.parametrize("name", USERS)
async def test_each_may_hear_what_its_part_needs_and_nothing_else(url: str, name: str):
    async with user(url, name) as one:
        for subject in (*TO_HEAR, NOBODYS):
            await one.client.subscribe(subject)
        refused = await one.refused("subscription", TO_HEAR)

    own = set[str]() if name in MAY_HEAR else {f"_INBOX_{name}.>"}
    assert TO_HEAR - refused == MAY_HEAR.get(name, own)


async def test_each_does_its_part(url: str, tmp_path: Path):
    user_id = str(uuid4())
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(daemon(url, tmp_path))
        users = {name: await stack.enter_async_context(user(url, name)) for name in USERS[1:]}
        heard = await users["events"].client.subscribe("refreshd.v1.event.>")
        await users["events"].client.flush()

        made = await users["app"].ok("connect", connect_body(user_id))
        connection = f"connection.{made['connection_id']}"
        await users["app"].ok(f"{connection}.refresh", {"credentials": CREDENTIALS})
        await users["app"].ok(f"{connection}.synced")
        token = await users["tokens"].ok(f"{connection}.token")
        listed = await users["reader"].ok("connections.list")
        await users["reader"].ok("status")
        explained = await users["admin"].ok(f"{connection}.explain")
        history = (await told(users["reader"], connection, events=4))[0]["event"]
        first = json.loads((await heard.next_msg(timeout=5)).data)
        info = await users["admin"].client.request("$SRV.INFO.refreshd", b"", timeout=5)
        await users["admin"].ok(f"{connection}.revoke")
        await users["admin"].ok(f"{connection}.disconnect", {"user_id": user_id})
        refusals = [refusal for one in users.values() for refusal in one.refusals]

    assert token["access_token"] == "at"
    assert [one["id"] for one in listed["connections"]] == [made["connection_id"]]
    assert first["type"] == "ProviderConnectionAttempted"
    assert json.loads(info.data)["name"] == "refreshd"
    assert explained["stands"].startswith("active")
    assert history["type"] == "ProviderConnectionAttempted"
    assert refusals == []


async def test_two_daemons_are_a_cluster_by_these_permissions(url: str, tmp_path: Path):
    async with (
        user(url, "app") as app,
        user(url, "admin") as admin,
        daemon(url, tmp_path) as first,
        daemon(url, tmp_path) as second,
    ):
        both = (first, second)
        await eventually(lambda: [len(one.holdings.owned) for one in both] == [2, 2])
        made = [await app.ok("connect", connect_body(str(uuid4()))) for _ in range(12)]
        views = [await admin.ok(f"connection.{one['connection_id']}.get") for one in made]
        words = [await admin.ok(f"connection.{one['connection_id']}.explain") for one in made]

    assert {view["generation"] for view in views} == {1}
    assert [one["connection_id"] for one in words] == [view["id"] for view in views]
    assert all(one.site.router.forwarded for one in both)


async def test_the_daemon_starts_again_on_what_it_has_stored(url: str, tmp_path: Path):
    async with user(url, "app") as app, user(url, "reader") as reader:
        async with daemon(url, tmp_path):
            made = await app.ok("connect", connect_body(str(uuid4())))
        async with daemon(url, tmp_path):
            listed = await reader.ok("connections.list")
            await app.ok(
                f"connection.{made['connection_id']}.refresh", {"credentials": CREDENTIALS}
            )

    assert [one["id"] for one in listed["connections"]] == [made["connection_id"]]


async def made_by_setup(url: str) -> None:
    """Make the durable consumer that the page speaks of."""
    async with user(url, "setup") as setup:
        await setup.client.jetstream().add_consumer(
            "REFRESHD_EVENTS",
            ConsumerConfig(
                name="audit",
                durable_name="audit",
                ack_policy=AckPolicy.EXPLICIT,
                filter_subject="refreshd.v1.event.>",
            ),
        )


async def test_a_durable_consumer_gets_each_event_and_goes_on_where_it_stopped(
    url: str, tmp_path: Path
):
    async with daemon(url, tmp_path), user(url, "app") as app:
        await made_by_setup(url)
        types: list[str] = []
        for _ in range(2):
            await app.ok("connect", connect_body(str(uuid4())))
            async with user(url, "audit") as audit:
                stream = audit.client.jetstream()
                subscription = await stream.pull_subscribe_bind("audit", "REFRESHD_EVENTS")
                for message in await subscription.fetch(2, timeout=5):
                    types.append(json.loads(message.data)["type"])
                    await message.ack_sync()
                assert audit.refusals == []

    assert types == ["ProviderConnectionAttempted", "ProviderConnectionSucceeded"] * 2


async def test_setup_reads_the_events_by_refreshd_s_own_verb(url: str, tmp_path: Path):
    login = Login(url=url, user="setup", password="pw")
    async with daemon(url, tmp_path), user(url, "app") as app:
        await app.ok("connect", connect_body(str(uuid4())))
        async with open_link(login, name="test", inbox_prefix="_INBOX_setup") as link:
            client = CommandClient(link, prefix="refreshd.v1", timeout_s=5.0)

            async def both_are_read() -> bool:
                types = [event["type"] async for _, event in client.events()]
                return types == ["ProviderConnectionAttempted", "ProviderConnectionSucceeded"]

            await eventually(both_are_read)


async def test_what_a_consumer_aims_at_a_record_or_another_s_inbox_stays_in_its_account(
    url: str, tmp_path: Path
):
    """JetStream answers where it is told to, whatever the asker may publish."""
    async with daemon(url, tmp_path), user(url, "app") as app, user(url, "events") as events:
        await made_by_setup(url)
        made = await app.ok("connect", connect_body(str(uuid4())))
        heard = await events.client.subscribe("refreshd.v1.event.*.*.token_refresh.>")
        await events.client.flush()
        overheard: list[Msg] = []

        async def hear(message: Msg) -> None:
            overheard.append(message)

        await app.client.subscribe("_INBOX_app.>", cb=hear)
        async with user(url, "audit") as audit:
            ask = "$JS.API.CONSUMER.MSG.NEXT.REFRESHD_EVENTS.audit"
            for aim in (
                *(f"$KV.refreshd_connections_{n:02d}.{made['connection_id']}" for n in range(4)),
                *("refreshd_ledger.00", "_INBOX_app.x"),
                f"refreshd.v1.connection.{made['connection_id']}.revoke",
                f"refreshd.v1.event.schwab.{made['connection_id']}.status.changed",
            ):
                await audit.client.publish(ask, b'{"batch": 1, "no_wait": true}', reply=aim)
            await audit.client.flush()
            assert audit.refusals == []
        view = await app.ok(f"connection.{made['connection_id']}.get")
        await app.ok(f"connection.{made['connection_id']}.refresh", {"credentials": CREDENTIALS})
        types = [json.loads((await heard.next_msg(timeout=5)).data)["type"] for _ in range(2)]

    assert view["status"] == "active"
    assert types == ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]
    assert [m.data for m in overheard if m.subject == "_INBOX_app.x"] == []


async def test_nobody_sees_a_refresh_token_on_its_way(url: str, tmp_path: Path):
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(daemon(url, tmp_path))
        users = [await stack.enter_async_context(user(url, name)) for name in USERS[2:]]
        seen: list[bytes] = []

        async def see(message: Msg) -> None:
            seen.append(message.data)

        for one in users:
            for subject in TO_HEAR:
                await one.client.subscribe(subject, cb=see)
            await one.client.flush()
        app = await stack.enter_async_context(user(url, "app"))
        made = await app.ok("connect", connect_body(str(uuid4())))
        await app.ok(f"connection.{made['connection_id']}.refresh", {"credentials": CREDENTIALS})
        await eventually(lambda: any(b"TokenRefreshSucceeded" in data for data in seen))

    assert not [data for data in seen if b"rt-canary" in data]
