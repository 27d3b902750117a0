"""Each verb of the command line against a daemon: results on stdout, codes that a script can use."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.daemon_process import CREDENTIALS, DaemonProcess
from tests.fakes.refreshd_command import Ended, refreshd

USER = str(uuid4())
Run = Callable[..., Awaitable[Ended]]


@pytest.fixture
def run(daemon: DaemonProcess) -> Run:
    """The command line, pointed at the module's daemon."""

    async def run_there(*arguments: str, stdin: str = "") -> Ended:
        return await refreshd(*arguments, "--data-dir", str(daemon.data_dir), stdin=stdin)

    return run_there


async def connected(run: Run, **changes: str) -> str:
    options = {"user-id": USER, "provider-id": USER, "provider-slug": "schwab"} | changes
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    made = await run(
        "connect",
        *arguments,
        "--credentials-file",
        "-",
        "-o",
        "json",
        stdin=json.dumps(CREDENTIALS),
    )
    assert made.code == 0, made.stderr
    return json.loads(made.stdout)["connection_id"]


async def shown(run: Run, *arguments: str) -> Any:
    ended = await run(*arguments, "-o", "json")
    assert ended.code == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


async def test_a_connection_lives_its_life_by_the_command_line(run: Run, tmp_path: Path):
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(CREDENTIALS))
    connection_id = await connected(run, alias="mine", param="region=eu")

    assert (await shown(run, "refresh", connection_id, "--credentials-file", str(file))) is None
    got = await shown(run, "get", connection_id)
    assert (got["generation"], got["status"], got["alias"]) == (2, "active", "mine")
    assert got["params"] == {"region": "eu"}
    assert (await shown(run, "expire", connection_id, "--reason", "test")) is None
    assert (await shown(run, "get", connection_id))["status"] == "expired"
    again = await connected(run, **{"connection-id": connection_id})
    assert again == connection_id
    assert (await shown(run, "revoke", connection_id)) is None
    assert (await shown(run, "disconnect", connection_id, "--user-id", USER)) is None
    assert (await shown(run, "get", connection_id))["credentials"] is None

    lines = (await run("events", "--connection-id", connection_id, "-o", "json")).stdout
    types = [json.loads(line)["type"] for line in lines.splitlines()]
    assert types == [
        *("ProviderConnectionAttempted", "ProviderConnectionSucceeded"),
        *("ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"),
        "ProviderConnectionStatusChanged",
        *("ProviderConnectionAttempted", "ProviderConnectionSucceeded"),
        "ProviderConnectionStatusChanged",
        *("ProviderDisconnectionAttempted", "ProviderDisconnectionSucceeded"),
    ]


async def test_lists_are_filtered_and_limited(run: Run):
    ids = [await connected(run, **{"provider-slug": "listed"}) for _ in range(3)]

    listed = await shown(run, "list", "--provider-slug", "listed")
    two = await shown(run, "list", "--provider-slug", "listed", "--limit", "2")
    none = await shown(run, "list", "--provider-slug", "listed", "--status", "revoked")
    table = await run("list", "--provider-slug", "listed")

    assert sorted(connection["id"] for connection in listed) == sorted(ids)
    assert len(two) == 2
    assert none == []
    assert all(connection_id in table.stdout for connection_id in ids)


async def test_status_tells_where_the_daemon_is(run: Run, daemon: DaemonProcess):
    told = await shown(run, "status")

    assert told["nats"] == daemon.context["url"]
    assert told["nats_mode"] == "embedded"
    assert told["sync_always"] is True
    assert told["partitions"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("get", str(uuid4())), 3, "CONNECTION_NOT_FOUND: Connection not found"),
        (("get", "no-uuid"), 2, "INVALID_COMMAND: connection_id"),
        (("get", "a.b"), 2, "no id"),
        (("list", "--status", "odd"), 2, "INVALID_COMMAND: status"),
        (("list", "--limit", "0"), 2, "limit"),
        (("refresh", str(uuid4()), "--credentials-file", "/nowhere"), 2, "/nowhere: No such file"),
        (("events", "--provider-slug", "a b"), 2, "no id"),
    ],
)
async def test_what_goes_wrong_has_its_exit_code_and_one_line(
    run: Run, arguments: tuple[str, ...], code: int, said: str
):
    ended = await run(*arguments)

    assert ended.code == code
    assert said in ended.stderr
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1


async def test_a_refused_transition_is_a_conflict(run: Run):
    connection_id = await connected(run)
    await shown(run, "revoke", connection_id)

    refused = await run("expire", connection_id)
    foreign = await run("disconnect", connection_id, "--user-id", str(uuid4()))
    not_json = await run("refresh", connection_id, "--credentials-file", "-", stdin="secret!")

    assert refused.code == 4
    assert "Cannot transition to EXPIRED, must be ACTIVE" in refused.stderr
    assert foreign.code == 1
    assert "NOT_OWNED_BY_USER" in foreign.stderr
    assert not_json.code == 2
    assert "secret!" not in not_json.stderr


async def test_without_a_daemon_every_verb_says_so_with_69(tmp_path: Path):
    ended = await refreshd("status", "--data-dir", str(tmp_path))

    assert ended.code == 69
    assert "refreshd serve" in ended.stderr


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("get",), ("serve", "--port", "1")])
async def test_wrong_usage_is_2(arguments: tuple[str, ...]):
    ended = await refreshd(*arguments)

    assert ended.code == (2 if arguments else 0)
