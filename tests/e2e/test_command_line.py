"""Each verb of the command line against a daemon: results on stdout, codes that a script can use."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runtime.fake_provider.grants import Issued, RevocationCause
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import (
    CREDENTIALS,
    ROOT,
    DaemonProcess,
    daemon_process,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import nats_process
from tests.fakes.refreshd_command import Ended, refreshd, refreshd_head
from tests.fakes.token_daemon import connect, write_config

USER = str(uuid4())
WHO = ("--user-id", USER, "--provider-id", USER, "--provider-slug", "schwab")
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


async def told(run: Run, connection_id: str, *, events: int) -> list[dict[str, Any]]:
    """Return a connection's events, when the stream that lags behind has so many."""
    found: list[dict[str, Any]] = []

    async def are_told() -> bool:
        shown = await run("events", "--connection-id", connection_id, "-o", "json")
        found[:] = [json.loads(line) for line in shown.stdout.splitlines()]
        return len(found) >= events

    await eventually(are_told)
    return found


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
    ends = {"grant-expires-at": "2033-05-18T03:33:20Z"}
    again = await connected(run, **{"connection-id": connection_id, **ends})
    assert again == connection_id
    assert (await shown(run, "get", again))["grant_expires_at"] == ends["grant-expires-at"]
    assert (await shown(run, "revoke", connection_id)) is None
    assert (await shown(run, "disconnect", connection_id, "--user-id", USER)) is None
    assert (await shown(run, "get", connection_id))["credentials"] is None

    types = [event["type"] for event in await told(run, connection_id, events=10)]
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

    assert sorted(connection["connection_id"] for connection in listed) == sorted(ids)
    assert len(two) == 2
    assert none == []
    assert all(connection_id in table.stdout for connection_id in ids)
    assert USER in table.stdout


async def test_a_connection_has_one_name_in_all_that_is_json(run: Run):
    connection_id = await connected(run, **{"provider-slug": "named"})

    got = await shown(run, "get", connection_id)
    (listed,) = await shown(run, "list", "--provider-slug", "named")
    event = (await told(run, connection_id, events=1))[0]

    assert got == listed
    assert got["connection_id"] == event["data"]["connection_id"] == connection_id
    assert "id" not in got


async def test_a_pending_connection_fails_and_an_active_one_is_synced(run: Run):
    made = await shown(
        run,
        *("connect", "--user-id", USER, "--provider-id", USER, "--provider-slug", "schwab"),
        "--pending",
    )
    pending, active = made["connection_id"], await connected(run)

    assert (await shown(run, "fail", pending, "--reason", "declined")) is None
    assert (await shown(run, "synced", active)) is None

    assert (await shown(run, "get", pending))["status"] == "failed"
    assert (await shown(run, "get", active))["last_sync_at"] is not None


async def test_status_tells_where_the_daemon_is(run: Run, daemon: DaemonProcess):
    told = await shown(run, "status")

    assert told["nats"] == daemon.context["url"]
    assert told["nats_mode"] == "embedded"
    assert told["sync_always"] is True
    assert told["partitions"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("get", str(uuid4())), 3, "CONNECTION_NOT_FOUND: Connection not found"),
        (("get", "no-uuid"), 2, "INVALID_COMMAND: connection_id"),
        (("explain", str(uuid4())), 3, "CONNECTION_NOT_FOUND: Connection not found"),
        (("explain", "no-uuid"), 2, "INVALID_COMMAND: connection_id"),
        (("history", str(uuid4())), 3, "CONNECTION_NOT_FOUND: Connection not found"),
        (("history", "no-uuid"), 2, "INVALID_COMMAND: connection_id"),
        (("history", str(uuid4()), "--limit", "0"), 2, "--limit: at least 1"),
        (("get", "a.b"), 2, "no id"),
        (("get", "\udcff"), 2, "not UTF-8"),
        (("connect", *WHO, "--pending", "--granted-at", "2026"), 2, "`$.granted_at`"),
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


@pytest.mark.parametrize(
    ("arguments", "code", "word", "user_action"),
    [
        (("get", str(uuid4())), 3, "CONNECTION_NOT_FOUND", None),
        (("get", "a.b"), 2, "USAGE", None),
        (("get",), 2, "USAGE", None),
        (("bogus",), 2, "USAGE", None),
        (("refresh", str(uuid4()), "--credentials-file", "-"), 3, "CONNECTION_NOT_FOUND", False),
    ],
)
async def test_for_programs_an_error_is_an_object_on_stderr(
    run: Run, arguments: tuple[str, ...], code: int, word: str, user_action: bool | None
):
    ended = await run(*arguments, "-o", "json", stdin=json.dumps(CREDENTIALS))

    error = json.loads(ended.stderr)["error"]

    assert ended.stdout == ""
    assert (ended.code, error["code"], error["exit_code"]) == (code, word, code)
    assert error["needs_user_action"] is user_action
    assert error["retry_after_s"] is None
    assert error["message"]


async def test_a_grant_that_is_not_active_says_to_programs_that_its_user_must_act(run: Run):
    connection_id = await connected(run)
    await shown(run, "revoke", connection_id)

    ended = await run("token", connection_id, "--output=json")

    error = json.loads(ended.stderr)["error"]
    assert (error["code"], error["needs_user_action"]) == ("NOT_ACTIVE", True)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [(("events",), 0), (("events", "-o", "json"), 0), (("list",), 0), (("events", "-f"), 1)],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_a_reader_that_stops_reading_ends_it_quietly(
    run: Run, daemon: DaemonProcess, arguments: tuple[str, ...], lines: int, unbuffered: str
):
    is_over = False

    async def tell_on() -> None:
        while not is_over:
            await connected(run)

    await connected(run)
    # Who follows notices at the next event, which may come long after the reader has gone.
    telling = asyncio.create_task(tell_on())

    ended = await refreshd_head(
        *arguments,
        *("--data-dir", str(daemon.data_dir)),
        lines=lines,
        PYTHONUNBUFFERED=unbuffered,
    )

    is_over = True
    await telling
    assert ended.stderr == ""
    assert ended.code == 128 + signal.SIGPIPE


async def test_without_a_daemon_every_verb_says_so_with_69(tmp_path: Path):
    ended = await refreshd("status", "--data-dir", str(tmp_path))

    assert ended.code == 69
    assert "refreshd serve" in ended.stderr


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("get",), ("serve", "--port", "1")])
async def test_wrong_usage_is_2(arguments: tuple[str, ...]):
    ended = await refreshd(*arguments)

    assert ended.code == (2 if arguments else 0)


@pytest.mark.parametrize("timeout_s", ["0", "-1", "61", "nan", "soon"])
async def test_a_time_limit_that_no_daemon_takes_is_wrong_usage(timeout_s: str):
    ended = await refreshd("status", "--timeout-s", timeout_s)

    assert ended.code == 2
    assert "timeout-s" in ended.stderr


async def test_where_no_daemon_listens_it_is_said_at_once_and_how_to_start_one(tmp_path: Path):
    async with daemon_process(tmp_path) as daemon:
        url = daemon.context["url"]
        await daemon.stop()

    began_s = time.monotonic()
    ended = await refreshd("status", "--data-dir", str(tmp_path), "--timeout-s", "30")

    assert time.monotonic() - began_s < 15
    assert ended.code == 69
    assert f"cannot connect to {url}: Connection refused: no daemon listens there" in ended.stderr
    assert f"`refreshd serve --data-dir {tmp_path}`" in ended.stderr


async def test_a_verb_without_permission_says_who_may_not_publish_what(tmp_path: Path):
    permissions = {"publish": ["refreshd.v1.status"], "subscribe": ["_INBOX.>"]}
    user = {"user": "reader", "password": "pw", "permissions": permissions}
    (tmp_path / "password").write_text("pw")
    config = tmp_path / "refreshd.toml"
    config.write_text(f'[nats]\nuser = "reader"\npassword_file = "{tmp_path / "password"}"\n')
    async with nats_process(tmp_path, {"authorization": {"users": [user]}}) as server:
        where = ("--config", str(config), "--nats", server.login.url)
        refused = await refreshd("list", *where, "--timeout-s", "30")
        unanswered = await refreshd("status", *where)

    assert refused.code == 1
    assert "user 'reader' may not publish to refreshd.v1.connections.list" in refused.stderr
    assert unanswered.code == 69
    assert "no daemon answers on refreshd.v1.>" in unanswered.stderr


async def test_exit_codes_are_in_the_help_and_in_the_papers():
    helped = await refreshd("--help")
    page = (ROOT / "docs" / "command-line.md").read_text()

    for code in (*range(6), 69, 75, 141):
        assert f"{code} " in " ".join(helped.stdout.split("Exit codes:")[1].split())
        assert f"\n| {code} |" in page


async def test_a_token_comes_by_the_command_line_alone_or_as_a_header(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider)
        arguments = ("--data-dir", str(tmp_path / "data"), "--config", str(config))
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            connection_id, grant = await connect(caller, provider)
            bare = await refreshd("token", connection_id, *arguments)
            header = await refreshd("token", connection_id, "--header", *arguments)
            as_json = await refreshd("token", connection_id, "-o", "json", *arguments)
            secret = {"access_token": "a"}
            credentials = {"credential_type": "oauth2", "secret": secret}
            poor, _ = await connect(caller, provider, credentials=credentials)
            stale = await refreshd("token", poor, "--force", *arguments)
            _revoke(provider, grant)
            dead = await refreshd("token", connection_id, "--force", *arguments)
            again = await refreshd("token", connection_id, "--force", *arguments)
            told = json.loads((await refreshd("status", "-o", "json", *arguments)).stdout)
            lines = [line for line in daemon.said if "grant_needs_user" in line]

    assert again.code == 5
    assert told["verdicts"] == {"fake": {"user": 1}}
    assert [connection_id in line for line in lines] == [True]
    assert (bare.code, header.code, as_json.code) == (0, 0, 0)
    assert header.stdout.strip() == f"Authorization: Bearer {bare.stdout.strip()}"
    assert json.loads(as_json.stdout)["generation"] == 2
    assert (stale.code, stale.stdout) == (0, "a\n")
    assert "The provider was not asked: there is no refresh token" in stale.stderr
    assert dead.code == 5
    assert "REAUTH_REQUIRED" in dead.stderr


def _revoke(provider: FakeProvider, issued: Issued) -> None:
    grant = provider.book.get(issued.grant_id)
    assert grant is not None
    provider.book.revoke(grant, RevocationCause.ADMIN)


INTERRUPTED = """
import os, runpy, signal, sys

class Impatient:
    def find_spec(self, name, path, target=None):
        if name == "runtime.cli.asking":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Impatient())
sys.argv = ["refreshd", "list"]
runpy.run_module("runtime", run_name="__main__", alter_sys=True)
"""


async def test_ctrl_c_while_the_program_is_still_imported_ends_it_without_a_word():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INTERRUPTED),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    assert await process.communicate() == (b"", b"")
    assert process.returncode == 130
