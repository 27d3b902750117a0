"""The daemon, and a nats-server of somebody else's, as processes; and a caller that knows only NATS."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.fakes.warm_program import ROOT, WarmProcess, run_warm

NATS_SERVER = Path(sys.executable).parent / "nats-server"
CREDENTIALS: dict[str, Any] = {
    "credential_type": "oauth2",
    "expires_at": "2099-01-01T00:00:00Z",
    "secret": {"access_token": "at", "refresh_token": "rt"},
}
_START_TIMEOUT_S = 20.0


class DaemonProcess:
    """A daemon that has said that it is ready, and all that it says on stderr."""

    def __init__(self, process: asyncio.subprocess.Process | WarmProcess, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.said: list[str] = []
        self._reading: asyncio.Task[None] | None = None

    @property
    def ready_line(self) -> dict[str, str]:
        """What its ready line tells."""
        (ready,) = (line for line in self.said if line.startswith("ready "))
        return dict(word.split("=", 1) for word in ready.split()[1:])

    @property
    def daemon_id(self) -> str:
        """Its id."""
        return self.ready_line["daemon"]

    @property
    def http(self) -> str:
        """Where it is asked over HTTP."""
        return f"http://{self.ready_line['http']}"

    @property
    def context(self) -> dict[str, str]:
        return json.loads((self.data_dir / "context.json").read_text())

    async def ready(self) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not (self.said and self.said[-1].startswith("ready ")):
                line = await self.process.stderr.readline()
                assert line, f"the daemon did not start: {self.said}"
                self.said.append(line.decode().rstrip())
        self._reading = asyncio.create_task(self._read_on())

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Return the exit code after a signal."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.stop_by_itself()

    async def stop_by_itself(self) -> int:
        """Return the exit code of a daemon that ends without being told to."""
        async with asyncio.timeout(30):
            code = await self.process.wait()
        if self._reading is not None:
            await self._reading
        if self.process.stdout is not None:
            await self.process.stdout.read()
        return code

    async def _read_on(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said.append(line.decode().rstrip())


@contextlib.asynccontextmanager
async def daemon_process(
    data_dir: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    is_warm: bool = True,
) -> AsyncGenerator[DaemonProcess]:
    """Yield a ready daemon; it is killed afterwards if it still runs.

    Args:
        data_dir: Its folder.
        *arguments: Further ones.
        environment: What it has besides that of the tests.
        is_warm: Whether it is a fork of a process that has its imports, or begins with nothing.
    """
    arguments = ("serve", "--data-dir", str(data_dir), *arguments)
    start = run_warm if is_warm else _run_cold
    process = await start(arguments, clean_environment() | (environment or {}))
    daemon = DaemonProcess(process, data_dir)
    try:
        await daemon.ready()
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        await daemon.stop(signal.SIGKILL)


async def _run_cold(
    arguments: tuple[str, ...], environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "runtime", *arguments),
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REFRESHD_")}


class ExternalNats:
    """A nats-server on a port of its own that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = folder / "external.conf"
        self._config.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f'jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}\n'
        )
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            NATS_SERVER, "-c", self._config, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    return

    async def stop(self, number: signal.Signals) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()


@contextlib.asynccontextmanager
async def external_nats(folder: Path) -> AsyncGenerator[ExternalNats]:
    """Yield a running server; it is killed afterwards."""
    server = ExternalNats(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(signal.SIGKILL)


class Answer(NamedTuple):
    """What came back: the headers, and the JSON."""

    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The error's code, or ok."""
        return "ok" if "ok" in self.body else self.body["error"]["code"]


def read_answer(message: Msg) -> Answer:
    """Return what a reply says."""
    return Answer(dict(message.headers or {}), json.loads(message.data))


class PlainCaller:
    """A caller with nats-py and DESIGN.md, and nothing of ours."""

    def __init__(self, client: Client, *, prefix: str = "refreshd.v1") -> None:
        self.client = client
        self.prefix = prefix

    @property
    def event_stream(self) -> str:
        """The name of the stream of events."""
        tag = "" if self.prefix == "refreshd.v1" else f"_{self.prefix.replace('.', '--')}"
        return f"REFRESHD_EVENTS{tag}"

    async def ask(
        self,
        subject: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = 6.0,
    ) -> Answer:
        """Return the answer to JSON, or to bytes as they are."""
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        message: Msg = await self.client.request(
            f"{self.prefix}.{subject}", data, timeout=timeout_s, headers=headers
        )
        return read_answer(message)

    async def connect(self, **fields: object) -> str:
        """Return the id of a new ACTIVE connection, or of one with other fields."""
        user_id = str(uuid4())
        body: dict[str, Any] = {
            "user_id": user_id,
            "provider_id": user_id,
            "provider_slug": "schwab",
            "credentials": CREDENTIALS,
        }
        answer = await self.ask("connect", body | fields)
        assert answer.code == "ok", answer
        return answer.body["ok"]["connection_id"]

    async def refresh(self, connection_id: str, **options: Any) -> Answer:
        body = {"credentials": CREDENTIALS}
        return await self.ask(f"connection.{connection_id}.refresh", body, **options)

    async def get(self, connection_id: str) -> dict[str, Any]:
        return (await self.ask(f"connection.{connection_id}.get")).body["ok"]

    async def by_status(self) -> dict[str, int]:
        """Return how many connections have each status, when that is known."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.ask("status")
                if answer.code == "ok" and answer.body["ok"]["connections_by_status"] is not None:
                    return answer.body["ok"]["connections_by_status"]

    async def events_caught_up(self) -> None:
        """Return when the event stream holds every event of what was acknowledged, by anybody."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.ask("status")
                if answer.code == "ok" and not answer.body["ok"]["ledger"]["events_lacking"]:
                    return

    async def stories(self) -> dict[str, list[dict[str, Any]]]:
        """Return every CloudEvent so far by connection, in the order of the stream."""
        await self.events_caught_up()
        found: dict[str, list[dict[str, Any]]] = {}
        for event in await self.told():
            found.setdefault(event["subject"], []).append(event)
        return found

    async def told(self, connection_id: str = "*") -> list[dict[str, Any]]:
        """Return the CloudEvents that the stream holds now, of one connection or of all."""
        stream, name = self.client.jetstream(), self.event_stream
        subjects = f"{self.prefix}.event.*.{connection_id}.>"
        info = await stream.stream_info(name, subjects_filter=subjects)
        subscription = await stream.subscribe(subjects, stream=name, ordered_consumer=True)
        found: list[dict[str, Any]] = []
        for _ in range(sum((info.state.subjects or {}).values())):
            message = await subscription.next_msg(timeout=10)
            event = json.loads(message.data)
            event["_subject"] = message.subject
            event["_headers"] = dict(message.headers or {})
            found.append(event)
        await subscription.unsubscribe()
        return found


@contextlib.asynccontextmanager
async def plain_caller(url: str | list[str], **options: Any) -> AsyncGenerator[PlainCaller]:
    """Yield a caller; ``**daemon.context`` lets one in at the embedded server."""
    options.pop("description", None)

    async def swallow(_error: Exception) -> None:
        return

    client = await nats.connect(
        url,
        error_cb=swallow,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        **options,
    )
    try:
        yield PlainCaller(client)
    finally:
        # Where the server was killed, nats-py's close may end with its own tasks' cancellation.
        await asyncio.wait({asyncio.ensure_future(client.close())}, timeout=10)
        writer = getattr(client._transport, "_io_writer", None)
        if writer is not None and not writer.transport.is_closing():
            writer.transport.abort()
