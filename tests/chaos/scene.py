"""Daemons, servers, a provider that rotates strictly, and callers that never give up."""

import asyncio
import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats.errors

from runtime.data_folder import KEYRING_FILE
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.chaos.history import History
from tests.fakes.daemon_process import (
    CREDENTIALS,
    Answer,
    DaemonProcess,
    PlainCaller,
    daemon_process,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, write_config

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
FIRST_SEED = int(os.environ.get("CHAOS_SEED", "1"))
SEEDS = range(FIRST_SEED, FIRST_SEED + ROUNDS)
"""``make chaos ROUNDS=20 SEED=1``: each test runs once a seed."""
LENGTH = 1 if ROUNDS == 1 else 3
"""How much happens in one test, in what `make test` takes."""
GOES_ON_S = 45.0
"""How long the slowest caller may wait: detection 6 s, an election 10 s, and a busy machine."""
PREFIX = "REFRESHD_SERVICE_PREFIX"
_PATIENCE_S = 90.0
_PASSING = {
    *("DATABASE_ERROR", "SHUTTING_DOWN", "TIMED_OUT", "OVERLOADED"),
    *("REFRESH_IN_PROGRESS", "PROVIDER_UNAVAILABLE"),
}
_EPOCH = datetime(2099, 1, 1, tzinfo=UTC)


class Scene:
    """What a fault is let loose on; make one with ``chaos_scene``."""

    def __init__(
        self,
        folder: Path,
        provider: FakeProvider,
        stack: contextlib.AsyncExitStack,
        *,
        flags: Sequence[str],
        environment: dict[str, str],
    ) -> None:
        """Have no daemon yet; ``flags`` and ``environment`` are of each, and of client verbs."""
        self.folder, self.flags, self.environment = folder, flags, environment
        self.provider = provider
        self.callers: list[PlainCaller] = []
        self.history = History(provider)
        self.daemons: list[DaemonProcess] = []
        self.pace_s = 0.1
        """How long a caller rests between two commands."""
        self._stack = stack
        self._is_over = False

    @property
    def caller(self) -> PlainCaller:
        """One of the callers."""
        return self.callers[0]

    @contextlib.asynccontextmanager
    async def daemon(self, number: int = 0) -> AsyncGenerator[DaemonProcess]:
        """Run one of the daemons, on a data folder of its own and with the keyring of all."""
        folder, first = (self.folder / f"data{one}" for one in (number, 0))
        if number:
            folder.mkdir(mode=0o700, exist_ok=True)
            shutil.copy2(first / KEYRING_FILE, folder / KEYRING_FILE)
        async with daemon_process(folder, *self.flags, environment=self.environment) as daemon:
            self.daemons.append(daemon)
            if not self.callers:
                context = daemon.context
                await self.call(context.pop("url"), **context)
            try:
                yield daemon
            finally:
                self.daemons.remove(daemon)

    async def call(self, *urls: str, **options: Any) -> None:
        """Have one more caller, of any of these servers."""
        caller = eager_caller(urls, prefix=self.environment[PREFIX], **options)
        self.callers.append(await self._stack.enter_async_context(caller))

    async def connect(self, *, connections: int, grants: int) -> None:
        """Connect so many whose callers replace their credentials, and grants to be refreshed."""
        history = self.history
        await self.is_heard()
        history.ids = [*await asyncio.gather(*(self.caller.connect() for _ in range(connections)))]
        for _ in range(grants):
            connection_id, grant = await connect(self.caller, self.provider, lives_s=3600)
            history.grants[connection_id] = grant.grant_id

    async def is_heard(self) -> None:
        """Return when a daemon answers: servers tell each other a moment later who listens where."""
        await eventually(self._is_heard, within_s=30)

    async def _is_heard(self) -> bool:
        try:
            return (await self.caller.ask("status")).code == "ok"
        except nats.errors.Error:
            return False

    @contextlib.asynccontextmanager
    async def under_load(self) -> AsyncGenerator[None]:
        """Keep every caller busy; in the end each has a definite answer."""
        self._is_over = False
        async with asyncio.TaskGroup() as calling:
            for number, connection_id in enumerate(self.history.ids):
                caller = self.callers[number % len(self.callers)]
                calling.create_task(self._replace_on(caller, connection_id))
            for number, connection_id in enumerate(self.history.grants):
                caller = self.callers[number % len(self.callers)]
                calling.create_task(self._rotate_on(caller, connection_id))
            try:
                yield
            finally:
                self._is_over = True

    async def goes_on(self, *, times: int = 2, within_s: float = GOES_ON_S) -> float:
        """Return how long it took until each caller's command was acknowledged so many times."""
        before = Counter(self.history.acknowledged)

        def all_were() -> bool:
            history = self.history
            ids = {*history.ids, *history.grants} - history.in_doubt
            return all(history.acknowledged[one] >= before[one] + times for one in ids)

        return await eventually(all_were, within_s=within_s)

    async def burst(self, times: int, *, timeout_s: float = 2.0) -> None:
        """Replace the credentials of each connection so many times, all at once."""
        first = 1 + max(self.history.acknowledged.values(), default=0)
        async with asyncio.TaskGroup() as calling:
            for number in range(first, first + times):
                for one in self.history.ids:
                    work = self.replace(self.caller, one, number, timeout_s=timeout_s)
                    calling.create_task(work)
        # Which of them was the last nobody knows.
        self.history.last.clear()

    async def replace(
        self, caller: PlainCaller, connection_id: str, number: int, *, timeout_s: float = 2.0
    ) -> None:
        """Replace credentials once, however often that has to be asked for."""
        expires_at = (_EPOCH + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        body = {"credentials": CREDENTIALS | {"expires_at": expires_at}}
        headers = {"Nats-Msg-Id": f"{connection_id} {number}"}
        began_s = time.monotonic()
        subject = f"connection.{connection_id}.refresh"
        answer = await _definite(caller, subject, body, headers, timeout_s=timeout_s)
        if answer is None:
            self.history.unanswered.append(connection_id)
        elif answer.code == "ok":
            took_s = time.monotonic() - began_s
            self.history.acknowledge(connection_id, expires_at, took_s)
        else:
            self.history.refused.append((connection_id, answer))

    async def _replace_on(self, caller: PlainCaller, connection_id: str) -> None:
        number = self.history.acknowledged[connection_id]
        while not self._is_over:
            number += 1
            await self.replace(caller, connection_id, number)
            await asyncio.sleep(self.pace_s)

    async def _rotate_on(self, caller: PlainCaller, connection_id: str) -> None:
        """Have one grant refreshed again and again, until its token is in doubt."""
        history, subject = self.history, f"connection.{connection_id}.token"
        while not self._is_over and connection_id not in history.in_doubt:
            began_s = time.monotonic()
            answer = await _definite(caller, subject, {"force": True})
            if answer is None:
                history.unanswered.append(connection_id)
            elif answer.code != "ok":
                history.refused.append((connection_id, answer))
                return
            elif answer.body["ok"]["stale"]:
                stored = await _definite(caller, f"connection.{connection_id}.get", None)
                if stored is not None and stored.body["ok"].get("doubted_at"):
                    history.in_doubt.add(connection_id)
            else:
                took_s = time.monotonic() - began_s
                history.acknowledge(connection_id, answer.body["ok"]["expires_at"], took_s)
            await asyncio.sleep(self.pace_s)


async def _definite(
    caller: PlainCaller,
    subject: str,
    body: object,
    headers: Mapping[str, str] = {},
    *,
    timeout_s: float = 2.0,
) -> Answer | None:
    """Ask until the answer is none that passes; None: there was none in time."""
    until_s, pause_s = time.monotonic() + _PATIENCE_S, 0.05
    given = {"Refreshd-Timeout-Ms": str(round(timeout_s * 750)), **headers}
    while time.monotonic() < until_s:
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            answer = await caller.ask(subject, body, headers=given, timeout_s=timeout_s)
            if answer.code not in _PASSING:
                return answer
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        pause_s = min(2 * pause_s, 1.0)
    return None


@contextlib.asynccontextmanager
async def chaos_scene(
    folder: Path,
    url: str | None,
    *,
    caller_urls: Sequence[str] = (),
    user: str | None = None,
    password: str | None = None,
    prefix: str = "refreshd.v1",
    profile: dict[str, str] | None = None,
    **settings: object,
) -> AsyncGenerator[Scene]:
    """Yield a scene; its daemons are started by the test.

    Args:
        folder: For configuration, password and data folders.
        url: Of the server that the daemons use, or of several; None: the embedded one.
        caller_urls: Of the servers that callers use; empty: the same.
        user: Who may connect; None: anybody.
        password: His.
        prefix: Of the subjects, so that scenes can share servers.
        profile: Settings of the provider's profile, as TOML.
        **settings: Further ones of the daemon, as the environment names them.
    """
    environment = {f"REFRESHD_{name.upper()}": str(value) for name, value in settings.items()}
    environment[PREFIX] = prefix
    options: dict[str, Any] = {}
    if user is not None and password is not None:
        file = folder / "password"
        file.touch(mode=0o600)
        file.write_text(password)
        environment |= {"REFRESHD_NATS_USER": user, "REFRESHD_NATS_PASSWORD_FILE": str(file)}
        options = {"user": user, "password": password}
    urls = list(caller_urls) or ([] if url is None else url.split(","))
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(running_fake_provider())
        config = write_config(folder, provider, **{"max_concurrency": "64"} | (profile or {}))
        flags = ("--config", str(config), *(() if url is None else ("--nats", url)))
        scene = Scene(folder, provider, stack, flags=flags, environment=environment)
        for _ in urls:
            await scene.call(*urls, **options)
        yield scene


@contextlib.asynccontextmanager
async def eager_caller(
    urls: Sequence[str], *, prefix: str, **options: Any
) -> AsyncGenerator[PlainCaller]:
    """Yield a caller that soon leaves a server which does not answer."""
    async with plain_caller(
        list(urls), ping_interval=1, max_outstanding_pings=2, connect_timeout=1, **options
    ) as caller:
        yield PlainCaller(caller.client, prefix=prefix)
