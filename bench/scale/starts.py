"""How long a start takes, and a take-over, on a server that runs already."""

import contextlib
import os
import signal
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from bench.daemon import running_daemon
from bench.processes import family
from runtime.data_folder import KEYRING_FILE
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login


class Starts(NamedTuple):
    """Medians, each from the start of a process until it is ready."""

    server_s: float
    """The server's, once."""
    daemon_s: float
    """A daemon's that finds nobody."""
    take_over_s: float
    """A daemon's that takes over from one that serves."""


async def starts(folder: Path, config: Path, *, times: int) -> Starts:
    """Measure so often, on a data folder that no daemon uses now."""
    server = EmbeddedNats(folder, server_bin=None, port=None)
    began_s = time.perf_counter()
    login = await server.start()
    server_s = time.perf_counter() - began_s
    try:
        both = [_started(folder, config, login) for _ in range(times)]
    finally:
        await server.stop()
    daemons, take_overs = zip(*both, strict=True)
    return Starts(server_s, statistics.median(daemons), statistics.median(take_overs))


def _started(folder: Path, config: Path, login: Login) -> tuple[float, float]:
    """Return how long a start took, and the take-over from that daemon."""
    other = folder.with_name(f"{folder.name}-other")
    other.mkdir(exist_ok=True)
    settings = {
        "REFRESHD_CONFIG": str(config),
        "REFRESHD_KEYS_FILE": str(folder / KEYRING_FILE),
    }
    with contextlib.ExitStack() as stack:
        daemons = [
            stack.enter_context(
                running_daemon(data_dir, server=login, settings=settings, takes_over=takes_over)
            )
            for data_dir, takes_over in ((folder, False), (other, True))
        ]
        return daemons[0].start_s, daemons[1].start_s


def start_after_kill_s(folder: Path, config: Path) -> float:
    """Return how long a start with the embedded server takes after a kill -9 of both."""
    settings = {"REFRESHD_CONFIG": str(config)}
    with running_daemon(folder, settings=settings) as daemon:
        for pid in reversed(family(daemon.process.pid)):
            os.kill(pid, signal.SIGKILL)
    with running_daemon(folder, settings=settings) as again:
        return again.start_s
