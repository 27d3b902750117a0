"""What is measured once, each in a process of its own: memory of an idle actor, times to start."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.memory import measured_bytes
from bench.results import IDLE_ACTOR, START_EMBEDDED, START_ON_SERVER
from bench.startup import measured_ratios


async def measured_facts() -> dict[str, float]:
    """Return them by name."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        idle_bytes = await loop.run_in_executor(pool, _idle_actor_bytes)
        on_server, embedded = await loop.run_in_executor(pool, measured_ratios)
    return {IDLE_ACTOR: idle_bytes, START_ON_SERVER: on_server, START_EMBEDDED: embedded}


def _idle_actor_bytes() -> float:
    return asyncio.run(measured_bytes())
