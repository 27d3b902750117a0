"""Hosts with clocks and disks of their own, and processes on them that are killed and stopped.

A process (``Life``) is the tasks that were started in its context. *Stopped* (SIGSTOP) none of them
takes a step, while time goes on: whatever wakes one is kept, and is delivered when it continues. So
a process can be stopped at any await, and at no other place; that a message or a request leaves it
late is the network's business. *Killed* (SIGKILL), at an await or after a drawn number of steps, its
ports are cut at that instant, so that nothing that still runs can have an effect; then its tasks are
unwound, whatever shields them.
"""

import contextlib
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread
import trio
from trio._core import _run

from tests.simulation.world import World

_living: "ContextVar[Life | None]" = ContextVar("_living", default=None)
_reschedule = _run.Runner.reschedule


class HostClock:
    """A host's wall clock: it differs from the others', drifts, and is set."""

    def __init__(self, world: World, *, ahead_s: float, rate: float) -> None:
        """Be so far ahead, and go so fast."""
        self._epoch = world.epoch
        self.ahead_s = ahead_s
        self.rate = rate

    def now_s(self) -> float:
        """Return the time since the epoch."""
        return self.now().timestamp()

    def now(self) -> datetime:
        """See ``actors.ports.Clock``."""
        return self._epoch + timedelta(seconds=anyio.current_time() * self.rate + self.ahead_s)


class Host:
    """A machine: a clock, a data folder, and at most one process."""

    def __init__(self, world: World, name: str, folder: Path, clock: HostClock) -> None:
        """Run nothing yet."""
        self.world = world
        self.name = name
        self.folder = folder
        self.clock = clock
        self.life: Life | None = None
        self.lives = 0


class Life:
    """One process, from its start to its end."""

    def __init__(self, host: Host, main: "Callable[[Life], Awaitable[None]]") -> None:
        """Be about to run ``main``."""
        host.lives += 1
        self.host = host
        self.world = host.world
        self.name = f"{host.name}-{host.lives}"
        self.is_alive = True
        """Whether anything that it does has an effect."""
        self.is_stopped = False
        self.disturbed_s: list[float] = []
        """When it was last stopped, continued or killed."""
        self.died_s: float | None = None
        """When it was killed, or had ended."""
        self.stopped_s = 0.0
        """For how long it was stopped, all in all."""
        self.died: list[Callable[[], None]] = []
        """Called when it is killed."""
        self.ended = anyio.Event()
        self.asks_to_end = anyio.Event()
        """SIGTERM."""
        self._main = main
        self._scope = anyio.CancelScope()
        self._steps_left: int | None = None
        self._held: list[tuple[trio.lowlevel.Task, Any]] = []
        host.life = self

    async def run(self) -> None:
        """Run until it ends by itself or is killed."""
        _living.set(self)
        try:
            with self._scope:
                await self._main(self)
        except (Exception, BaseExceptionGroup) as error:
            if self.is_alive:
                self.world.breaks(f"{self.name} ended by {_flat(error)}")
        finally:
            self._cut()
            self.ended.set()

    def stop(self) -> None:
        """Take no step any more, until ``go_on``."""
        self.is_stopped = True
        self.disturbed_s.append(self.world.now_s())

    def go_on(self) -> None:
        """Continue."""
        self.stopped_s += self.world.now_s() - self.disturbed_s[-1]
        self.is_stopped = False
        self.disturbed_s.append(self.world.now_s())
        self._release()

    def kill(self, *, after_steps: int = 0) -> None:
        """End at once, or after so many more steps of any of its tasks."""
        if after_steps and not self.is_stopped:
            self._steps_left = after_steps
        elif self.is_alive:
            self._cut()
            self.world.after(0.0, self._unwind)

    def spare(self) -> None:
        """Take no step for its last one, whatever was drawn."""
        self._steps_left = None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self.asks_to_end.set()

    def holds(self, task: trio.lowlevel.Task, send: Any) -> bool:
        """Whether a task that could take a step does not, for now."""
        if self._steps_left is not None and self.is_alive:
            self._steps_left -= 1
            if self._steps_left <= 0:
                self.kill()
        if not (self.is_stopped or (not self.is_alive and not self._scope.cancel_called)):
            return False
        # Nothing else may wake it now: it is as good as scheduled.
        task._abort_func = None
        self._held.append((task, send))
        return True

    def _cut(self) -> None:
        """Let nothing that it does have an effect."""
        if self.is_alive:
            self.is_alive = False
            self.died_s = self.world.now_s()
            self.disturbed_s.append(self.world.now_s())
            for tell in self.died:
                tell()

    def _unwind(self) -> None:
        """Cancel every task, through whatever shields it."""
        trio.lowlevel.add_instrument(_Unshielding(self))
        self.is_stopped = False
        self._scope.cancel()
        for task in list(_run.GLOBAL_RUN_CONTEXT.runner.tasks):
            if task.context.get(_living) is self:
                _unshield(task)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for task, send in held:
            _reschedule(_run.GLOBAL_RUN_CONTEXT.runner, task, send)


class _Unshielding(trio.abc.Instrument):
    """Takes the shields from whatever a killed process's tasks still enter."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See ``trio.abc.Instrument``."""
        if task.context.get(_living) is self._life:
            _unshield(task)
        if self._life.ended.is_set():
            trio.lowlevel.remove_instrument(self)


def _unshield(task: trio.lowlevel.Task) -> None:
    status = task._cancel_status
    while status is not None:
        if status._scope.shield:
            status._scope.shield = False
        status = status.parent


def living() -> Life:
    """Return the process whose code runs."""
    life = _living.get()
    assert life is not None
    return life


@contextlib.contextmanager
def processes() -> Generator[None]:
    """Let processes be stopped and killed; what they do in threads they do at once."""

    def reschedule(runner: Any, task: trio.lowlevel.Task, send: Any = _run._NO_SEND) -> None:
        life = task.context.get(_living)
        if life is None or not life.holds(task, send):
            _reschedule(runner, task, send)

    async def run_sync(act: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        life = _living.get()
        if life is not None and not life.is_alive:
            await anyio.sleep_forever()
        return act(*arguments)

    with (
        patch.object(_run.Runner, "reschedule", reschedule),
        patch.object(anyio.to_thread, "run_sync", run_sync),
    ):
        yield


def _flat(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_flat(one) for one in error.exceptions)
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in reversed(frames))
    return f"{type(error).__name__} {error} at {where}"
