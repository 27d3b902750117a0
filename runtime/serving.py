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
        DaemonError: And the others of ``run_daemon``; also when NATS is gone for good.
    """
    async with run_daemon(config, data_dir, takes_over=takes_over) as daemon:
        announce(daemon.ready_line)
        watching = asyncio.create_task(daemon.watch())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            watching.cancel()
        if watching.done() and not watching.cancelled():
            daemon.is_lost = True
            watching.result()
        log.info("draining")
    log.info("stopped")
