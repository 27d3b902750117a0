"""A daemon from its start to the signal that ends it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from runtime.config import Config
from runtime.daemon import run_daemon
from runtime.logs import log


async def serve(
    config: Config,
    data_dir: Path,
    *,
    announce: Callable[[str], None],
    stop: asyncio.Event,
    takes_over: bool = False,
) -> None:
    """Run a daemon until ``stop`` is set.

    Raises:
        DaemonError: And the others of ``run_daemon``; and those of ``Ending.check``.
    """
    async with run_daemon(config, data_dir, takes_over=takes_over) as daemon:
        announce(daemon.ready_line)
        await daemon.ending.awaited(stop)
        log.info("draining")
    daemon.ending.check()
    log.info("stopped")
