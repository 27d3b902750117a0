"""Runs on virtual time under a schedule that a seed decides, so that a failure comes again.

trio shuffles the tasks that are ready. With its private switch set, the shuffle depends on
the seed alone (NATS.md section 4). ``tests/actors/test_schedule.py`` notices when an update
of trio takes the switch away.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from unittest.mock import patch

import anyio
from trio._core import _run
from trio.testing import MockClock

T = TypeVar("T")


def run_seeded(scene: Callable[[], Awaitable[T]], *, seed: int) -> T:
    """Return what ``scene`` returns; an hour of waiting in it takes no time."""
    with patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", new=True):
        _run._r.seed(seed)
        return anyio.run(
            scene, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)}
        )
