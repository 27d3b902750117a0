"""PostgreSQL and Redis from Debian's packages, each on a folder of its own, ended with us.

Fair: both are tuned as an operator would for this load, and reached over a Unix socket, which
costs them less than TCP. Durable: nothing that survives a power cut is switched off. They listen
on no port; the folder that holds sockets and data belongs to them alone.
"""

import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1
_START_TIMEOUT_S = 30.0
_INSTALL_TIMEOUT_S = 600.0
_POLICY = Path("/usr/sbin/policy-rc.d")

_INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
"""Whoever reaches the socket is trusted: its folder belongs to one account. What is not synced is
the empty cluster."""

POSTGRES_SETTINGS = {
    # What makes a commit durable; all three are the defaults.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Room: no page is read twice, and no checkpoint falls into a stretch for want of space.
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "500",
    # Costs nothing to switch off, and saves a little with each statement.
    "jit": "off",
    "update_process_title": "off",
    "listen_addresses": "",
}
REDIS_SETTINGS = {
    "port": "0",
    "appendonly": "yes",
    "save": "",
}


class CannotServeError(Exception):
    """A server is missing and cannot be installed, or does not start; the text says which."""


class Server(NamedTuple):
    """A server that has said that it is ready."""

    name: str
    socket: Path
    """The folder of PostgreSQL's socket; the socket of Redis."""
    pid: int
    version: str


class Package(StrEnum):
    """What Debian calls a server."""

    POSTGRES = "postgresql"
    REDIS = "redis-server"


def ensure_installed(package: Package) -> None:
    """Install a server where it is missing; one that is there is left alone.

    Debian starts a service as it installs it; this is forbidden meanwhile.

    Raises:
        CannotServeError: It is missing, and there is no apt-get, we are not root, or apt-get fails.
    """
    find = _postgres_folder if package is Package.POSTGRES else _redis_program
    if find() is not None:
        return
    if shutil.which("apt-get") is None:
        raise CannotServeError(f"{package} not found, and there is no apt-get to install it by")
    if os.getuid() != 0:
        raise CannotServeError(f"{package} not found, and only root may apt-get install it")
    with _no_service_starts():
        failed = _apt_get("install", package)
        if failed is not None:  # perhaps for want of a list of packages
            failed = _apt_get("update") or _apt_get("install", package)
    if failed is not None:
        raise CannotServeError(f"{package} not found, and apt-get failed: {failed}")


@contextlib.contextmanager
def running_postgres() -> Generator[Server]:
    """Yield a fresh cluster with the user and the database ``postgres``; then end and remove it.

    Raises:
        CannotServeError: Not installed, or it does not start.
    """
    programs = _postgres_folder()
    if programs is None:
        raise CannotServeError("PostgreSQL is not installed (Debian: postgresql)")
    with _own_folder("postgres") as (folder, account):
        data = folder / "data"
        made = subprocess.run(
            [programs / "initdb", "-D", data, *_INITDB],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            **_identity(account),
        )
        if made.returncode:
            raise CannotServeError(f"initdb failed: {_last_line(made.stderr)}")
        settings = POSTGRES_SETTINGS | {"unix_socket_directories": str(folder)}
        command: list[str | Path] = [programs / "postgres", "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        # SIGQUIT ends it without a checkpoint, for which nobody has a use.
        ready = [programs / "pg_isready", "-q", "-h", folder]
        with _running(command, folder, account, stop=signal.SIGQUIT, ready=ready) as pid:
            yield Server("PostgreSQL", folder, pid, _version(programs / "postgres"))


@contextlib.contextmanager
def running_redis(*, append_fsync: str = "always") -> Generator[Server]:
    """Yield an empty Redis; then end it and remove its files.

    Args:
        append_fsync: ``always`` syncs each write before it is answered: a lock that a restart
            forgets is held twice. ``everysec``, Redis' default, takes that risk, and makes the
            peer with the lock a quarter faster, twice as fast for one caller.

    Raises:
        CannotServeError: Not installed, or it does not start.
    """
    program = _redis_program()
    if program is None:
        raise CannotServeError("Redis is not installed (Debian: redis-server)")
    with _own_folder("redis") as (folder, account):
        socket = folder / "redis.sock"
        settings = REDIS_SETTINGS | {
            "appendfsync": append_fsync,
            "unixsocket": str(socket),
            "dir": str(folder),
        }
        command: list[str | Path] = [program]
        for name, value in settings.items():
            command += [f"--{name}", value]
        ready = ["sh", "-c", f"redis-cli -s {socket} ping | grep -q PONG"]
        with _running(command, folder, account, stop=signal.SIGTERM, ready=ready) as pid:
            yield Server("Redis", socket, pid, _version(program))


def _postgres_folder() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def _redis_program() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found and shutil.which("redis-cli") else None


def _version(program: Path) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", said)
    return found[0] if found else "?"


def _apt_get(*words: str) -> str | None:
    """Run apt-get; return None, or the last line of what went wrong."""
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-y", "--no-install-recommends"]
    try:
        done = subprocess.run(
            [*command, *words],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_INSTALL_TIMEOUT_S:.0f} s"
    return _last_line(done.stderr) or "no reason given" if done.returncode else None


@contextlib.contextmanager
def _no_service_starts() -> Generator[None]:
    """Have Debian's packages start nothing; a policy that is there already is the machine's."""
    try:
        with _POLICY.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()


@contextlib.contextmanager
def _own_folder(account: str) -> Generator[tuple[Path, str | None]]:
    """Yield a folder, and the account that it belongs to: PostgreSQL refuses to be root.

    It lies where temporary files do: the folder of the daemon under measurement does, too, so
    that both write to one disk.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{account}-"))
    try:
        if os.getuid() != 0:
            yield folder, None
            return
        owner = next(name for name in (account, "nobody") if _has_account(name))
        shutil.chown(folder, owner)
        yield folder, owner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _identity(account: str | None) -> dict[str, Any]:
    """Return how ``subprocess`` is told to run as that account, with none of our groups."""
    if account is None:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def _has_account(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


@contextlib.contextmanager
def _running(
    command: Sequence[str | Path],
    folder: Path,
    account: str | None,
    *,
    stop: signal.Signals,
    ready: Sequence[str | Path],
) -> Generator[int]:
    """Yield the id of a process that is ready; then end it."""
    log_path = folder / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            **_identity(account),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent(stop),  # noqa: PLW1509 -- no threads yet
        )
    try:
        until_s = time.monotonic() + _START_TIMEOUT_S
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > until_s:
                said = _last_line(log_path.read_text(errors="replace"))
                raise CannotServeError(f"{Path(command[0]).name} did not start: {said}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent(stop: signal.Signals) -> Callable[[], None]:
    """Return what the child runs first: it asks Linux to be ended when we are killed."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        if hasattr(libc, "prctl"):
            libc.prctl(_PR_SET_PDEATHSIG, stop)

    return ask


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
