"""A secret stays secret when things fail: no store, no room, no time, no NATS, bytes of no client."""

import asyncio
import base64
import json
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats.errors
import pytest

from runtime.nats.link import Login
from tests.fakes.daemon_process import (
    DaemonProcess,
    ExternalNats,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.raw_nats import hostile_publish, raw_nats
from tests.fakes.refreshd_command import refreshd

CANARY = "canary-5d81e0aa93c4b7f2"
ENCODINGS = (
    CANARY.encode(),
    *(base64.b64encode(b"." * pad + CANARY.encode())[4:-4] for pad in range(3)),
    CANARY.encode().hex().encode(),
)
CREDENTIALS: dict[str, Any] = {
    "credential_type": "oauth2",
    "expires_at": "2099-01-01T00:00:00Z",
    "secret": {"access_token": CANARY, "refresh_token": CANARY, "more": {"deep": [CANARY]}},
}
REFRESH = {"credentials": CREDENTIALS}


class Scene:
    """A daemon on somebody else's server, and everything that came back from it."""

    def __init__(self, server: ExternalNats, daemon: DaemonProcess, caller: PlainCaller) -> None:
        self.server = server
        self.daemon = daemon
        self.caller = caller
        self.codes: set[str] = set()
        self.seen: list[bytes] = []

    async def ask(self, subject: str, body: object = None, **options: Any) -> None:
        try:
            answer = await self.caller.ask(subject, body, **options)
        except nats.errors.Error:
            return
        self.codes.add(answer.code)
        self.seen.append(json.dumps([answer.headers, answer.body], ensure_ascii=False).encode())

    async def refresh_at_once(self, connection_id: str, times: int) -> None:
        subject = f"connection.{connection_id}.refresh"
        await asyncio.gather(*(self.ask(subject, REFRESH) for _ in range(times)))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    environment = {"REFRESHD_LOG_LEVEL": "debug", "REFRESHD_ACTORS_MAILBOX_COMMANDS_MAX": "4"}
    async with (
        external_nats(tmp_path) as server,
        daemon_process(
            *(tmp_path / "data", "--nats", server.url), environment=environment
        ) as daemon,
        plain_caller(server.url, pending_size=0) as caller,
    ):
        yield Scene(server, daemon, caller)


def leaking(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(b'"schwab"' in path.read_bytes() for path in files), "the events are among them"
    return [path for path in files if any(text in path.read_bytes() for text in ENCODINGS)]


async def end_and_look(scene: Scene, tmp_path: Path) -> None:
    """Assert that the secret is in no reply, event, statistic, log line or file."""
    await scene.ask("status")
    await scene.ask("connections.list")
    with_statistics = await scene.caller.client.request("$SRV.STATS.refreshd", timeout=5)
    scene.seen.append(with_statistics.data)
    scene.seen.append(json.dumps(await scene.caller.stories()).encode())
    assert await scene.daemon.stop() == 0
    await scene.server.stop(signal.SIGTERM)
    said = "\n".join(scene.daemon.said).encode()
    assert not [text for text in [*scene.seen, said] if any(e in text for e in ENCODINGS)]
    assert leaking(tmp_path) == []


async def test_no_secret_shows_when_the_store_fails(scene: Scene, tmp_path: Path):
    connection_id = await scene.caller.connect(credentials=CREDENTIALS)
    stream = scene.caller.client.jetstream()
    for partition in range(4):
        await stream.delete_stream(f"KV_refreshd_connections_{partition:02d}")

    await scene.refresh_at_once(connection_id, 3)
    user_id = str(uuid4())
    body = {"user_id": user_id, "provider_id": user_id, "provider_slug": "schwab"} | REFRESH
    await asyncio.gather(scene.refresh_at_once(str(uuid4()), 1), scene.ask("connect", body))
    await scene.ask(f"connection.{connection_id}.disconnect", {"user_id": user_id})

    assert "DATABASE_ERROR" in scene.codes
    await eventually(lambda: has_events(scene, at_least=4))
    await end_and_look(scene, tmp_path)
    assert any("store_failed" in line for line in scene.daemon.said)


async def has_events(scene: Scene, *, at_least: int) -> bool:
    info = await scene.caller.client.jetstream().stream_info("REFRESHD_EVENTS")
    return info.state.messages >= at_least


async def test_no_secret_shows_when_there_is_no_room_and_no_time(scene: Scene, tmp_path: Path):
    connection_id = await scene.caller.connect(credentials=CREDENTIALS)

    await scene.refresh_at_once(connection_id, 300)
    hurry = {"Refreshd-Timeout-Ms": "1"}
    subject = f"connection.{connection_id}.refresh"
    await asyncio.gather(*(scene.ask(subject, REFRESH, headers=hurry) for _ in range(20)))

    assert scene.codes >= {"ok", "OVERLOADED"}
    await end_and_look(scene, tmp_path)


async def test_no_secret_shows_when_nats_is_killed_under_load(scene: Scene, tmp_path: Path):
    ids = [await scene.caller.connect(credentials=CREDENTIALS) for _ in range(4)]

    for end in (signal.SIGKILL, signal.SIGTERM):
        load = [asyncio.create_task(scene.refresh_at_once(i, 4)) for i in ids]
        await eventually(lambda: len(scene.seen) > 2)
        await scene.server.stop(end)
        await scene.server.start()
        await asyncio.gather(*load)
    await eventually(lambda: answers(scene, ids[0]), within_s=20)

    await end_and_look(scene, tmp_path)


async def answers(scene: Scene, connection_id: str) -> bool:
    try:
        return (await scene.caller.refresh(connection_id, timeout_s=1)).code == "ok"
    except nats.errors.Error:
        return False


async def test_no_secret_shows_in_bytes_that_no_client_sends(scene: Scene, tmp_path: Path):
    connection_id = await scene.caller.connect(credentials=CREDENTIALS)
    text = CANARY.encode()
    subject = f"refreshd.v1.connection.{connection_id}.refresh".encode()

    async with raw_nats(Login(url=scene.server.url)) as raw:
        inbox = b"_INBOX.r"
        await raw.send(hostile_publish(b"refreshd.v1.connection.%s\xff.get" % text, reply=inbox))
        await raw.send(hostile_publish(subject, reply=b"%s\xff" % text))
        await raw.send(hostile_publish(subject, reply=b"$KV.%s" % text))
        for header in (
            b"NATS/1.0\r\nRefreshd-Timeout-Ms: %s\r\n\r\n" % text,
            b"NATS/1.0\r\n%s\xff: %s\r\n\r\n" % (text, text),
            b"NATS/1.0 503 %s\r\n\r\n" % text,
            text + b"\xff",
        ):
            await raw.send(hostile_publish(subject, reply=inbox, header=header))
    await scene.refresh_at_once(connection_id, 1)

    status = (await scene.caller.ask("status")).body["ok"]
    assert (status["bad_messages"], status["replies_refused"]) == (1, 1)
    await end_and_look(scene, tmp_path)


async def test_the_command_line_shows_no_secret_that_it_was_given(scene: Scene, tmp_path: Path):
    file = tmp_path.parent / f"{tmp_path.name}-{uuid4()}.json"
    data_dir = str(tmp_path / "data")
    place = ("--nats", scene.server.url, "--data-dir", data_dir, "-o", "json")
    connection_id = await scene.caller.connect(credentials=CREDENTIALS)
    try:
        for text in (
            json.dumps(CREDENTIALS),
            json.dumps(CREDENTIALS)[:-1],
            json.dumps(CREDENTIALS | {"credential_type": CANARY}),
            json.dumps(CREDENTIALS | {"expires_at": CANARY}),
            json.dumps(CREDENTIALS | {CANARY: 1}),
            json.dumps({"secret": CANARY}),
            CANARY,
        ):
            file.write_text(text)
            arguments = ("refresh", connection_id, "--credentials-file", str(file))
            ended = await refreshd(*arguments, *place)
            scene.seen.append(f"{ended.stdout}{ended.stderr}".encode())
            scene.codes.add(str(ended.code))
    finally:
        file.unlink()

    assert scene.codes == {"0", "2"}
    await end_and_look(scene, tmp_path)
