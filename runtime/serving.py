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
from runtime.overlooked import UNREAD, overlooked
from runtime.reloading import Place, Reloading
from runtime.service_manager import service_manager_of
from runtime.unprofiled import warn_of_unprofiled


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
    if came_from.file is None and (here := overlooked()) is not None:
        log.warning("configuration_overlooked", what=UNREAD, here=str(here))
    manager = service_manager_of(os.environ)
    with manager.kept_patient():
        async with run_daemon(config, data_dir, takes_over=takes_over) as daemon:
            manager.is_alive = Liveness(daemon.reloadable).is_live
            announce(daemon.ready_line)
            manager.ready(daemon.ready_line)
            async with anyio.create_task_group() as tasks:
                reloading = Reloading(came_from, daemon.reloadable, manager)
                tasks.start_soon(reloading.run, hang_up)
                tasks.start_soon(warn_of_unprofiled, daemon.watched)
                await daemon.ending.awaited(stop)
                tasks.cancel_scope.cancel()
            manager.stopping(config.service.drain_grace_s)
            log.info("draining")
    daemon.ending.check()
    log.info("stopped")
