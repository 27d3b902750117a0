"""Starts a daemon as a process of its own, for the benchmarks."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, NamedTuple

from runtime.nats.embedded import CONTEXT_FILE, NatsContext, read_context
from runtime.nats.link import Login

ROOT = Path(__file__).parent.parent
_LOG_FILE = "daemon.log"


class RunningDaemon(NamedTuple):
    """A daemon that has said that it is ready."""

    process: subprocess.Popen[bytes]
    context: NatsContext
    start_s: float
    """From the start of the process to its ready line."""


@contextlib.contextmanager
def running_daemon(
    data_dir: Path,
    *,
    server: Login | None = None,
    root: Path = ROOT,
    settings: Mapping[str, str] = MappingProxyType({}),
    takes_over: bool = False,
) -> Generator[RunningDaemon]:
    """Yield a daemon on ``data_dir``, with the embedded server or on ``server``; then end it.

    Args:
        data_dir: Its data folder.
        server: Where NATS is; None: embedded.
        root: The checkout whose daemon it is.
        settings: Environment variables of the daemon.
        takes_over: Whether another one serves there, which is to end.
    """
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "runtime", "serve", "--data-dir", str(data_dir)),
            *(("--take-over",) if takes_over else ()),
        ],
        cwd=root,
        stderr=subprocess.PIPE,
        env=os.environ | ({} if server is None else _settings(data_dir, server)) | {**settings},
    )
    drained = None
    try:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line.decode())
            if line.startswith(b"ready "):
                break
        else:
            process.stderr.close()
            raise SystemExit("the daemon did not start: " + "".join(said))
        start_s = time.perf_counter() - started_s
        drained = _drain(process.stderr, data_dir / _LOG_FILE)
        yield RunningDaemon(process, _context(data_dir, server), start_s)
    finally:
        process.terminate()
        process.wait(timeout=60)
        if drained is not None:
            drained.join()


def _drain(told: IO[bytes], file: Path) -> threading.Thread:
    """Keep what the daemon says from now on: a pipe that nobody reads would hold it up."""

    def copy() -> None:
        with told, file.open("ab", buffering=0) as kept:
            for line in told:
                kept.write(line)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _settings(data_dir: Path, server: Login) -> dict[str, str]:
    """Return the environment that names an external server."""
    password_file = data_dir / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(server.password or "")
    return {
        "REFRESHD_NATS_URL": server.url,
        "REFRESHD_NATS_USER": server.user or "",
        "REFRESHD_NATS_PASSWORD_FILE": str(password_file),
    }


def _context(data_dir: Path, server: Login | None) -> NatsContext:
    """Return how a client gets in."""
    if server is not None:
        return NatsContext(server.url, server.user or "", server.password or "")
    context = read_context(data_dir / CONTEXT_FILE)
    assert context is not None
    return context
