"""A daemon from its start to the signal that ends it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import anyio

from runtime.config import Config
from runtime.daemon import run_daemon
from runtime.liveness import Liveness
from runtime.logs import log
from runtime.reloading import Place, Reloading
from runtime.service_manager import service_manager_of


async def serve(
    config: Config,
    data_dir: Path,
    *,
    announce: Callable[[str], None],
    stop: asyncio.Event,
    hang_up: asyncio.Event,
    came_from: Place,
    takes_over: bool = False,
) -> None:
    """Run a daemon until ``stop`` is set.

    Args:
        config: What it begins with.
        data_dir: Its folder.
        announce: Told the ready line.
        stop: Ends it.
        hang_up: Has it read its configuration again.
        came_from: Where that is.
        takes_over: See ``run_daemon``.

    Raises:
        DaemonError: And the others of ``run_daemon``; and those of ``Ending.check``.
    """
    manager = service_manager_of(os.environ)
    with manager.kept_patient():
        async with run_daemon(config, data_dir, takes_over=takes_over) as daemon:
            manager.is_alive = Liveness(daemon.reloadable).is_live
            announce(daemon.ready_line)
            manager.ready(daemon.ready_line)
            async with anyio.create_task_group() as tasks:
                reloading = Reloading(came_from, daemon.reloadable, manager)
                tasks.start_soon(reloading.run, hang_up)
                await daemon.ending.awaited(stop)
                tasks.cancel_scope.cancel()
            manager.stopping(config.service.drain_grace_s)
            log.info("draining")
    daemon.ending.check()
    log.info("stopped")
