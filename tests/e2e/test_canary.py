"""A secret is nowhere but in the sealed record, whatever path it took through the daemon.

The canary goes in as what it is, and as what it should never be: in every field, header and
malformed body. Then it is looked for in every reply, event, statistic, log line, process
argument, and in the raw files of the data folder, as it is and in three encodings.
"""

import base64
import json
import signal
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import nats.errors
import pytest

from domain.credentials import Sealed
from domain.record import decode_record
from runtime.ledger.sealing import open_keyring
from tests.fakes.daemon_process import (
    DaemonProcess,
    PlainCaller,
    daemon_process,
    plain_caller,
)

CANARY = "canary-3f9b1c77e2aa40d8"
OPAQUE = b"opaque-71d0a4b9c5ee"
ENCODINGS = (
    CANARY.encode(),
    base64.b64encode(CANARY.encode()).rstrip(b"=")[:-1],
    CANARY.encode().hex().encode(),
    CANARY.encode("utf-16-le"),
)


def leaks(data: bytes) -> bool:
    return any(encoded in data for encoded in ENCODINGS)


def secret(**fields: object) -> dict[str, Any]:
    return {"credential_type": "oauth2", "secret": {"access_token": CANARY} | fields}


GOOD = [secret(refresh_token=CANARY, scope=CANARY, id_token=CANARY)]
BAD: list[Any] = [
    secret(refresh_token=5),
    secret() | {"expires_at": CANARY},
    secret() | {"credential_type": CANARY},
    secret() | {"encrypted_data": base64.b64encode(CANARY.encode()).decode()},
    secret() | {"credential_type": [CANARY]},
    secret(refresh_token=CANARY * 4000),
    {"credential_type": "oauth2", "secret": CANARY},
    {"credential_type": "oauth2", "secret": [CANARY]},
    {"credential_type": "oauth2", "secret": {CANARY: CANARY}},
    {"credential_type": "oauth2", "encrypted_data": f"{CANARY}!"},
    {"credential_type": CANARY, "secret": {"access_token": CANARY}},
    CANARY,
    [CANARY],
]
BODIES: list[bytes] = [
    f'{{"credentials": "{CANARY}'.encode(),
    f'{{"credentials": {{"secret": {{"access_token": "{CANARY}"}}}}'.encode(),
    CANARY.encode(),
    f'"{CANARY}"'.encode(),
    f'{{"{CANARY}": 1}}\xff'.encode("latin-1"),
    json.dumps({"credentials": secret(), "unknown field " + CANARY: CANARY}).encode(),
    json.dumps({"credentials": secret(), "a`" + CANARY: CANARY}).encode(),
]
CONNECT_FIELDS = (
    "user_id",
    "provider_id",
    "provider_slug",
    "connection_id",
    "params",
    "pending",
)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncGenerator[DaemonProcess]:
    environment = {"REFRESHD_LOG_LEVEL": "debug", "REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
    async with daemon_process(tmp_path / "data", environment=environment) as process:
        yield process


async def take_every_path(caller: PlainCaller) -> list[bytes]:
    """Return everything that came back."""
    seen: list[bytes] = []

    async def ask(subject: str, body: object, **options: Any) -> None:
        try:
            answer = await caller.ask(subject, body, **options)
        except nats.errors.NoRespondersError:
            return
        seen.append(json.dumps(answer.body, ensure_ascii=False).encode())
        seen.append(json.dumps(answer.headers, ensure_ascii=False).encode())

    active = await caller.connect(credentials=GOOD[0])
    expired = await caller.connect(credentials=GOOD[0])
    await ask(f"connection.{expired}.expire", {"reason": "test"})
    for connection_id in (active, expired, str(uuid4())):
        for credentials in GOOD + BAD:
            await ask(f"connection.{connection_id}.refresh", {"credentials": credentials})
        for body in BODIES:
            for verb in (
                "refresh",
                "connect",
                "expire",
                "get",
                "explain",
                "history",
                "synced",
                "disconnect",
            ):
                await ask(f"connection.{connection_id}.{verb}", body)
        timeout = {"Refreshd-Timeout-Ms": CANARY}
        await ask(f"connection.{connection_id}.get", None, headers=timeout)
        await ask(f"connection.{connection_id}.refresh", None, headers={"traceparent": CANARY})
        await ask(f"connection.{connection_id}.expire", {"reason": [CANARY]})
        await ask(f"connection.{connection_id}.disconnect", {"user_id": CANARY})
    user_id = str(uuid4())
    base: dict[str, Any] = {
        "user_id": user_id,
        "provider_id": user_id,
        "provider_slug": "schwab",
        "credentials": GOOD[0],
    }
    for credentials in BAD:
        await ask("connect", base | {"credentials": credentials})
    for field in CONNECT_FIELDS:
        await ask("connect", base | {field: f"{CANARY}."})
    await ask("connect", base | {"alias": [CANARY]})
    await ask(f"connection.{active}.connect", base)
    await ask(f"connection.{CANARY}.get", None)
    await ask(f"connection.{CANARY}.refresh", {"credentials": GOOD[0]})
    for field in ("user_id", "provider_slug", "status", "cursor", "limit"):
        await ask("connections.list", {field: f"{CANARY}."})
    opaque = {"credential_type": "custom", "encrypted_data": base64.b64encode(OPAQUE).decode()}
    await caller.connect(credentials=opaque)
    await ask("connections.list", {})
    await ask("status", None)
    await ask(f"connection.{active}.get", None)
    return seen


async def test_a_secret_is_nowhere_but_in_the_sealed_record(daemon: DaemonProcess):
    async with plain_caller(**daemon.context) as caller:
        seen = await take_every_path(caller)
        events = json.dumps(await caller.stories()).encode()
        for verb in ("PING", "INFO", "STATS"):
            seen.append((await caller.client.request(f"$SRV.{verb}.refreshd", timeout=5)).data)
    async with httpx2.AsyncClient(base_url=daemon.http) as web:
        for path in ("/", "/metrics", "/livez?verbose", "/readyz?verbose", f"/{CANARY}"):
            seen.append((await web.get(path)).content)
    arguments = [
        (Path("/proc") / pid / "cmdline").read_bytes()
        for pid in (str(daemon.process.pid), *children(daemon.process.pid))
    ]
    await daemon.stop(signal.SIGTERM)
    files = {path: path.read_bytes() for path in daemon.data_dir.rglob("*") if path.is_file()}

    assert len(seen) > 200
    assert not [text for text in seen if leaks(text)]
    assert not leaks(events)
    assert not [line for line in daemon.said if leaks(line.encode())]
    assert not [path for path, data in files.items() if leaks(data)]
    assert [path for path, data in files.items() if OPAQUE in data], "the files were really read"
    assert not any(daemon.context["password"].encode() in argument for argument in arguments)
    assert len(arguments) == 2


async def test_what_is_sealed_is_really_the_secret(daemon: DaemonProcess):
    async with plain_caller(**daemon.context) as caller:
        connection_id = await caller.connect(credentials=GOOD[0])
        assert (await caller.ask("connections.list", {})).code == "ok"
        name = f"refreshd_connections_{zlib.crc32(connection_id.encode()) % 4:02d}"
        message = await caller.client.jetstream().get_last_msg(
            f"KV_{name}", f"$KV.{name}.{connection_id}"
        )
        assert message.data is not None
        connection = decode_record(message.data).connection

    assert str(connection.id) == connection_id
    assert connection.credentials is not None
    assert isinstance(connection.credentials.payload, Sealed)
    opened = open_keyring(daemon.data_dir / "keyring.json", create=False).unseal(
        connection.credentials.payload, connection_id=connection.id, generation=1
    )
    assert json.loads(opened.reveal()) == GOOD[0]["secret"]


def children(pid: int) -> list[str]:
    return (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
