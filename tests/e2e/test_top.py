"""``refreshd top``: live on a terminal, one frame elsewhere, for any member and any who may look."""

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path

from tests.e2e.test_permissions import USERS
from tests.fakes.daemon_process import DaemonProcess, PlainCaller, clean_environment
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import guarded_server
from tests.fakes.page_users import daemon as page_daemon
from tests.fakes.papers import block
from tests.fakes.refreshd_command import refreshd
from tests.fakes.warm_program import ROOT


async def test_without_a_terminal_one_frame_is_shown(daemon: DaemonProcess, caller: PlainCaller):
    async def busy() -> None:
        while True:
            await caller.ask("connections.list")

    work = asyncio.create_task(busy())
    here = ("--data-dir", str(daemon.data_dir), "--interval-s", "0.5")
    table = await refreshd("top", *here, COLUMNS="80")
    told = await refreshd("top", *here, "-o", "json")
    work.cancel()

    assert (table.code, told.code) == (0, 0), (table, told)
    lines = table.stdout.splitlines()
    assert lines[0].startswith("connections  ")
    assert any(line.startswith("connections-list ") for line in lines)
    assert max(map(len, lines)) <= 80
    found = json.loads(told.stdout)
    [listed] = [one for one in found["rates"]["verbs"] if one["verb"] == "connections-list"]
    assert listed["per_s"] > 0
    assert found["status"]["cluster"]["members"][0]["refreshes"] == {}


async def test_on_a_terminal_it_goes_on_until_ctrl_c_and_leaves_the_screen_as_it_was(
    daemon: DaemonProcess,
):
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "runtime", "top", "--interval-s", "0.2"),
        *("--data-dir", str(daemon.data_dir)),
        cwd=ROOT,
        env=clean_environment() | {"COLUMNS": "80", "LINES": "40", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = bytearray()
    asyncio.get_running_loop().add_reader(ours, lambda: _read(ours, seen))
    try:
        await eventually(lambda: seen.count(b"MEMBER") >= 3)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            code = await process.wait()
        await eventually(lambda: b"\x1b[?1049l" in seen)
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)

    assert code == 128 + signal.SIGINT
    assert b"Traceback" not in seen


def _read(terminal: int, seen: bytearray) -> None:
    """Take what a terminal is to show; after its program there is no more."""
    try:
        seen += os.read(terminal, 65_536)
    except OSError:
        asyncio.get_running_loop().remove_reader(terminal)


async def test_a_reader_sees_all_but_the_counts_by_verb(tmp_path: Path):
    page, password = block("SECURITY.md", "", "accounts"), tmp_path / "pw"
    names = [name.upper() for name in USERS]
    async with guarded_server(tmp_path, page, names) as url, page_daemon(url, tmp_path):
        password.write_text("pw")
        password.chmod(0o600)
        login = {
            "REFRESHD_NATS_URL": url,
            "REFRESHD_NATS_USER": "reader",
            "REFRESHD_NATS_PASSWORD_FILE": str(password),
            "REFRESHD_NATS_INBOX_PREFIX": "_INBOX_reader",
        }
        reader = await refreshd("top", "--interval-s", "0.2", **login)
        admin = login | {
            "REFRESHD_NATS_USER": "admin",
            "REFRESHD_NATS_INBOX_PREFIX": "_INBOX_admin",
        }
        told = await refreshd("top", "--interval-s", "0.2", "-o", "json", **admin)

    assert reader.code == 0, reader
    assert "$SRV.STATS.refreshd" in reader.stdout
    assert reader.stderr == ""
    assert json.loads(told.stdout)["rates"]["is_told_by_verb"]


async def test_without_a_daemon_it_ends_as_any_other_verb(tmp_path: Path):
    ended = await refreshd("top", "--data-dir", str(tmp_path / "none"))

    assert ended.code == 69
    assert "no daemon" in ended.stderr
