"""The embedded server is found, checked, closed to strangers, and never outlives its daemon."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import anyio
import msgspec
import pytest

from runtime.nats.embedded import (
    CONTEXT_FILE,
    EmbeddedNats,
    EmbeddedNatsError,
    NatsContext,
    read_context,
)
from runtime.nats.errors import LinkError
from runtime.nats.link import LinkLimits, Login, open_link
from tests.conftest import ROOT
from tests.fakes.eventually import eventually

HURRIED = LinkLimits(connect_timeout_s=0.3)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path, server_bin=None, port=None)
    try:
        yield server
    finally:
        await server.stop()


def port_of(login: Login) -> int:
    return int(login.url.rpartition(":")[2])


def is_running(pid: int) -> bool:
    """Whether the process is there, and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def listening_addresses(pid: int) -> list[str]:
    """Return the addresses that a process listens on, in the kernel's hexadecimal."""
    targets = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {t.removeprefix("socket:[").rstrip("]") for t in targets if t.startswith("socket:")}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def visible_to_others(pid: int) -> bytes:
    """Return the arguments and the environment of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


@contextlib.contextmanager
def squatting(port: int) -> Generator[None]:
    """Listen on a port that was the server's."""
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        yield


def fake_server(folder: Path, script: str) -> Path:
    program = folder / "fake-nats-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


async def test_it_lets_in_whoever_has_the_login(server: EmbeddedNats):
    login = await server.start()

    async with open_link(login, name="test") as link:
        assert link.server_version >= (2, 12, 0)


async def test_it_lets_in_nobody_else(server: EmbeddedNats):
    login = await server.start()

    for stranger in (
        Login(url=login.url),
        Login(url=login.url, user=login.user, password="guess"),
        Login(url=login.url, user=login.user),
    ):
        with pytest.raises(LinkError, match="Authorization Violation"):
            async with open_link(stranger, name="stranger", limits=HURRIED):
                pass


async def test_it_listens_on_loopback_alone(server: EmbeddedNats):
    await server.start()
    assert server.pid is not None
    listening = listening_addresses(server.pid)

    assert len(listening) == 1
    assert listening[0].startswith("0100007F:")


async def test_the_password_is_not_in_the_process_arguments(server: EmbeddedNats):
    login = await server.start()

    assert server.pid is not None
    assert login.password is not None
    assert len(login.password) >= 32
    assert login.password.encode() not in visible_to_others(server.pid)


async def test_it_collects_garbage_as_the_environment_says_or_else_seldom(
    server: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await server.start()
    assert await _environ_of(server) >= {"GOGC=400"}
    monkeypatch.setenv("GOGC", "77")
    other = EmbeddedNats(tmp_path / "other", server_bin=None, port=None)
    try:
        await other.start()
        assert await _environ_of(other) >= {"GOGC=77"}
    finally:
        await other.stop()


async def _environ_of(server: EmbeddedNats) -> set[str]:
    return {*(await anyio.Path(f"/proc/{server.pid}/environ").read_text()).split("\0")}


async def test_the_files_with_the_password_are_for_their_owner_alone(
    server: EmbeddedNats, tmp_path: Path
):
    await server.start()

    for path in (tmp_path / CONTEXT_FILE, tmp_path / "nats" / "nats-server.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700


async def test_the_context_is_one_that_the_nats_cli_reads(server: EmbeddedNats, tmp_path: Path):
    login = await server.start()

    context = json.loads((tmp_path / CONTEXT_FILE).read_text())

    assert context["url"] == login.url
    assert context["user"] == login.user
    assert context["password"] == login.password
    read = read_context(tmp_path / CONTEXT_FILE)
    assert read is not None
    assert read.login() == login


async def test_port_and_login_are_the_same_after_a_restart(server: EmbeddedNats, tmp_path: Path):
    login = await server.start()
    await server.stop()

    again = EmbeddedNats(tmp_path, server_bin=None, port=None)
    try:
        assert await again.start() == login
    finally:
        await again.stop()


async def test_another_port_is_taken_when_the_last_one_is_not_free(
    server: EmbeddedNats, tmp_path: Path
):
    login = await server.start()
    await server.stop()

    with squatting(port_of(login)):
        moved = await server.start()

    assert moved.url != login.url
    context = read_context(tmp_path / CONTEXT_FILE)
    assert context is not None
    assert context.login() == moved


async def test_a_login_sent_to_whoever_took_the_port_is_of_no_use_to_him(
    server: EmbeddedNats, tmp_path: Path
):
    login = await server.start()
    await server.stop()

    with squatting(port_of(login)):
        moved = await server.start()
    caught = msgspec.structs.replace(login, url=moved.url)

    with pytest.raises(LinkError, match="Authorization Violation"):
        async with open_link(caught, name="squatter", limits=HURRIED):
            pass
    async with open_link(moved, name="client"):
        await server.stop()
    again = EmbeddedNats(tmp_path, server_bin=None, port=None)
    try:
        assert await again.start() == moved
    finally:
        await again.stop()


async def test_a_configured_port_that_is_taken_is_an_error_that_names_the_log(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        server = EmbeddedNats(tmp_path, server_bin=None, port=squatter.getsockname()[1])

        with pytest.raises(
            EmbeddedNatsError, match=r"did not start; its log is .*nats-server\.log"
        ):
            await server.start()

    assert "address already in use" in (tmp_path / "nats" / "nats-server.log").read_text()


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xfe", b'{"url": "\xff"}', b"[]", b'{"url": 7}', b"{" * 5000]
)
async def test_a_context_that_cannot_be_read_is_made_anew(tmp_path: Path, damage: bytes):
    (tmp_path / CONTEXT_FILE).write_bytes(damage)

    assert read_context(tmp_path / CONTEXT_FILE) is None


def test_a_context_names_every_way_to_log_in():
    text = b'{"url":"nats://h:1","creds":"/c","nkey":"/n","token":"t","unknown":1}'

    login = msgspec.json.decode(text, type=NatsContext).login()

    assert (login.creds_file, login.nkey_seed_file, login.token) == (Path("/c"), Path("/n"), "t")
    assert (login.user, login.password) == (None, None)


async def test_every_write_is_synced_before_it_is_acknowledged(tmp_path: Path):
    server = EmbeddedNats(tmp_path, server_bin=None, port=None)
    try:
        login = await server.start()
    finally:
        await server.stop()

    settings = json.loads((tmp_path / "nats" / "nats-server.conf").read_text())

    assert settings["jetstream"]["sync_interval"] == "always"
    assert settings["host"] == "127.0.0.1"
    assert settings["authorization"] == {"user": login.user, "password": login.password}


async def test_stopping_ends_the_process(server: EmbeddedNats):
    await server.start()
    pid = server.pid
    assert pid is not None

    await server.stop()
    await server.stop()

    assert not is_running(pid)
    assert await server.exited() in (0, 1)


async def test_its_end_is_told(server: EmbeddedNats):
    await server.start()
    assert server.pid is not None

    os.kill(server.pid, signal.SIGKILL)

    with anyio.fail_after(5):
        assert await server.exited() == -signal.SIGKILL


PARENT = """
import asyncio, signal, sys
from pathlib import Path
from runtime.nats.embedded import EmbeddedNats

async def main():
    server = EmbeddedNats(Path(sys.argv[1]), server_bin=None, port=None)
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

# Who started the tests in the background may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path: Path):
    """A Python process, leader of its own group, with an embedded server."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


async def test_it_ends_when_its_parent_is_killed(parent: subprocess.Popen[str]):
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)

    parent.send_signal(signal.SIGKILL)

    await eventually(lambda: not is_running(pid))


async def test_ctrl_c_reaches_its_parent_alone(parent: subprocess.Popen[str]):
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    os.killpg(parent.pid, signal.SIGINT)

    assert parent.stdout.readline() == "interrupted\n"
    assert is_running(pid)


async def test_a_server_that_is_still_ending_does_not_share_its_files_with_the_next(
    server: EmbeddedNats, tmp_path: Path
):
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    successor = EmbeddedNats(tmp_path, server_bin=None, port=None)
    started = anyio.Event()

    async def start() -> None:
        await successor.start()
        started.set()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            with anyio.move_on_after(0.5):
                await started.wait()
            assert not started.is_set()
            os.kill(server.pid, signal.SIGKILL)
            with anyio.fail_after(5):
                await started.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        await successor.stop()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo nats-server: v2.9.10", r"is 2\.9\.10; 2\.12\.0 or newer is needed"),
        ("echo nats-server: v2.11.99", r"is 2\.11\.99; 2\.12\.0 or newer"),
        ("echo hello", "does not tell its version"),
        ("exit 1", "does not tell its version"),
        (r"printf '\377\376'", "does not tell its version"),
    ],
)
async def test_a_server_that_will_not_do_is_refused(tmp_path: Path, script: str, told: str):
    program = fake_server(tmp_path, script)

    with pytest.raises(EmbeddedNatsError, match=told) as error:
        await EmbeddedNats(tmp_path, server_bin=program, port=None).start()

    assert str(program) in str(error.value)


async def test_a_server_that_ends_at_once_is_an_error_that_names_the_log(tmp_path: Path):
    program = fake_server(tmp_path, '[ "$1" = --version ] && echo nats-server: v2.15.1 || exit 1')

    with anyio.fail_after(5), pytest.raises(EmbeddedNatsError, match=r"nats-server\.log"):
        await EmbeddedNats(tmp_path, server_bin=program, port=None).start()


async def test_a_program_that_is_missing_or_cannot_be_run_is_named(tmp_path: Path):
    missing = tmp_path / "missing"
    with pytest.raises(EmbeddedNatsError, match=f"{missing}: no such file"):
        await EmbeddedNats(tmp_path, server_bin=missing, port=None).start()

    text = tmp_path / "text"
    text.write_text("not a program")
    with pytest.raises(EmbeddedNatsError, match=f"{text} cannot be run"):
        await EmbeddedNats(tmp_path, server_bin=text, port=None).start()
