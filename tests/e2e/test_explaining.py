"""``explain`` and ``history`` on the command line: one connection in words, and what it went through."""

import json
from pathlib import Path

import pytest

from runtime.fake_provider.server import running_fake_provider
from tests.e2e.test_command_line import Run, connected, shown, told
from tests.fakes.daemon_process import DaemonProcess, daemon_process, plain_caller
from tests.fakes.refreshd_command import Ended, refreshd
from tests.fakes.token_daemon import connect, write_config


@pytest.fixture
def run(daemon: DaemonProcess) -> Run:
    """The command line, pointed at the module's daemon."""

    async def run_there(*arguments: str, stdin: str = "") -> Ended:
        return await refreshd(*arguments, "--data-dir", str(daemon.data_dir), stdin=stdin)

    return run_there


async def test_a_connection_is_explained_with_what_happened_last_and_what_to_do(run: Run):
    connection_id = await connected(run)
    assert (await run("revoke", connection_id, "--reason", "asked")).code == 0
    await told(run, connection_id, events=3)

    found = await shown(run, "explain", connection_id)
    text = (await run("explain", connection_id)).stdout

    assert found["stands"].startswith("revoked")
    assert [event["type"] for event in found["last"]] == [
        *("ProviderConnectionAttempted", "ProviderConnectionSucceeded"),
        "ProviderConnectionStatusChanged",
    ]
    assert (found["next"]["at"], found["advice"]["who"]) == (None, "user")
    for part in (connection_id, "stands   revoked", "active -> revoked: asked", "to do    user: "):
        assert part in text


async def test_a_history_shows_the_newest_events_last(run: Run):
    connection_id = await connected(run)
    assert (await run("expire", connection_id)).code == 0
    await told(run, connection_id, events=3)

    types = [event["type"] for event in await shown(run, "history", connection_id)]
    lines = await run("history", connection_id, "--limit", "2", "-o", "jsonl")
    table = await run("history", connection_id, "--limit", "1")

    assert types[-1] == "ProviderConnectionStatusChanged"
    assert [json.loads(line)["type"] for line in lines.stdout.splitlines()] == types[-2:]
    assert [line.split()[1:] for line in table.stdout.splitlines()] == [
        ["EVENT", "OUTCOME", "TOOK", "DETAIL"],
        ["status", "changed", "active", "->", "expired"],
    ]


async def test_nothing_is_wider_than_80_columns(daemon: DaemonProcess, run: Run):
    connection_id = await connected(run)
    here = ("--data-dir", str(daemon.data_dir))

    for verb in ("explain", "history"):
        ended = await refreshd(verb, connection_id, *here, COLUMNS="80")
        assert ended.code == 0
        assert max(map(len, ended.stdout.splitlines())) <= 80


async def test_a_client_secret_that_is_wrong_is_told_to_the_operator(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider, secret="canary-of-the-secret")
        options = ("--config", str(config))
        async with (
            daemon_process(tmp_path / "data", *options) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            connection_id, _ = await connect(caller, provider)
            await caller.ask(f"connection.{connection_id}.token", {})
            ended = await refreshd("explain", connection_id, "--data-dir", str(daemon.data_dir))

    assert "The provider does not accept the client's credentials" in ended.stdout
    assert "to do    operator: correct client_id and client_secret_file" in ended.stdout
    assert "canary" not in ended.stdout + ended.stderr
