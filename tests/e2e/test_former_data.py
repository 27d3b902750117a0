"""A data folder of version 0.1.0 is taken over as it is: no connection, generation or event changes.

The folder was made by that release (``tests/fixtures/data_v0_1_0.json`` says how): every status,
grants that died, two refreshes that a SIGKILL left open.
"""

import hashlib
import json
import shutil
import zlib
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.credentials import Sealed
from domain.record import decode_record
from runtime.ledger.sealing import open_keyring
from tests.conftest import ROOT
from tests.fakes.daemon_process import DaemonProcess, PlainCaller, daemon_process, plain_caller

FIXTURE = ROOT / "tests" / "fixtures" / "data_v0_1_0"
EXPECTED: dict[str, Any] = json.loads(FIXTURE.with_suffix(".json").read_text())
CONNECTIONS: dict[str, dict[str, Any]] = {one["id"]: one for one in EXPECTED["connections"]}
SHOWN = (
    *("user_id", "provider_id", "provider_slug", "status", "generation", "alias", "params"),
    *("created_at", "updated_at", "connected_at", "last_sync_at"),
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    shutil.unpack_archive(FIXTURE.with_suffix(".tar.gz"), tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
async def daemon(data_dir: Path) -> AsyncGenerator[DaemonProcess]:
    async with daemon_process(data_dir) as daemon:
        yield daemon


async def listed(caller: PlainCaller) -> dict[str, dict[str, Any]]:
    answer = await caller.ask("connections.list", {"limit": 1000})
    assert answer.body["ok"]["cursor"] is None
    return {one["id"]: one for one in answer.body["ok"]["connections"]}


async def stored_events(caller: PlainCaller) -> list[tuple[str, str, str]]:
    """Return subject, id and digest of every event, in the order of the stream."""
    await caller.events_caught_up()
    stream = caller.client.jetstream()
    info = await stream.stream_info("REFRESHD_EVENTS", subjects_filter="refreshd.v1.event.>")
    subscription = await stream.subscribe("refreshd.v1.event.>", ordered_consumer=True)
    found: list[tuple[str, str, str]] = []
    for _ in range(sum((info.state.subjects or {}).values())):
        message = await subscription.next_msg(timeout=10)
        digest = hashlib.sha256(message.data).hexdigest()
        found.append((message.subject, json.loads(message.data)["id"], digest))
    await subscription.unsubscribe()
    return found


async def test_every_connection_and_every_event_is_what_it_was(daemon: DaemonProcess):
    async with plain_caller(**daemon.context) as caller:
        events = await stored_events(caller)
        connections = await listed(caller)
        again = await stored_events(caller)
        by_status = await caller.by_status()

    assert any(" connections=27 " in line for line in daemon.said)
    expected_events = [(e["subject"], e["id"], e["body_sha256"]) for e in EXPECTED["events"]]
    # Behind them may come what ends an intent that was open.
    assert events[: len(expected_events)] == expected_events
    assert again[: len(events)] == events
    assert set(connections) == set(CONNECTIONS)
    assert +Counter(by_status) == Counter(one["status"] for one in CONNECTIONS.values())
    for connection_id, expected in CONNECTIONS.items():
        found = connections[connection_id]
        trouble, was = found.get("trouble"), expected["trouble"]
        shown, code = [*SHOWN], was and was["code"]
        if expected["intent"] is not None and trouble is not None:
            # It was under way when the daemon was stopped, and is ended now.
            shown.remove("updated_at")
            code = "outcome_unknown"
        assert {name: found[name] for name in shown} == {name: expected[name] for name in shown}
        assert (found["credentials"] is not None) == expected["has_credentials"]
        assert (trouble and trouble["code"]) == code


async def test_every_secret_opens_as_it_was_sealed(daemon: DaemonProcess):
    keyring = open_keyring(daemon.data_dir / "keyring.json", create=False)
    opened = 0
    async with plain_caller(**daemon.context) as caller:
        stream = caller.client.jetstream()
        for connection_id, expected in CONNECTIONS.items():
            name = f"refreshd_connections_{zlib.crc32(connection_id.encode()) % 8:02d}"
            subject = f"$KV.{name}.{connection_id}"
            message = await stream.get_last_msg(f"KV_{name}", subject)
            assert message.data is not None
            connection = decode_record(message.data).connection
            credentials = connection.credentials
            if credentials is None or not isinstance(credentials.payload, Sealed):
                continue
            secret = keyring.unseal(
                credentials.payload, connection_id=connection.id, generation=connection.generation
            )
            assert secret.reveal().decode() == expected["credentials"]["secret_text"]
            opened += 1

    assert opened > 15


async def test_what_needs_no_provider_is_answered_as_before(daemon: DaemonProcess):
    async with plain_caller(**daemon.context) as caller:
        for connection_id, expected in CONNECTIONS.items():
            was = expected.get("token_answer")
            if isinstance(was, dict):
                answer = await caller.ask(f"connection.{connection_id}.token", {})
                # What is wrong in this very case is new.
                answer.body.get("error", {}).pop("detail", None)
                # How long it still lives is another number each time, and newer than that data.
                answer.body.get("ok", {}).pop("expires_in_s", None)
                assert answer.body == was, expected["name"]


async def test_it_goes_on_counting_and_a_second_start_finds_the_same(data_dir: Path):
    # An intent of another daemon is over when its full time has passed since the start.
    active = [
        connection_id
        for connection_id, one in CONNECTIONS.items()
        if one["status"] == "active" and one["intent"] is None
    ]
    async with daemon_process(data_dir) as daemon, plain_caller(**daemon.context) as caller:
        for connection_id in active:
            assert (await caller.refresh(connection_id)).code == "ok"
        first = await listed(caller)
        assert await daemon.stop() == 0
    async with daemon_process(data_dir) as daemon, plain_caller(**daemon.context) as caller:
        assert await listed(caller) == first
        events = await stored_events(caller)
        stories = await caller.stories()

    assert len(events) == 141 + 2 * len(active)
    for connection_id in active:
        assert first[connection_id]["generation"] == CONNECTIONS[connection_id]["generation"] + 1
        types = [event["type"] for event in stories[connection_id]]
        assert types[-2:] == ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]
