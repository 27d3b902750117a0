"""Several daemons of one cluster as processes, and an ear that hears what they tell each other."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

from nats.aio.msg import Msg

from actors.members import Heartbeat
from runtime.cluster.wire import decode_heartbeat
from runtime.fake_provider.provider import FakeProvider
from runtime.gateway.in_flight import OWNER_HEADER
from runtime.ledger.subjects import NO_TAG, heartbeats, owner_subject, partition_of
from tests.fakes.daemon_process import (
    Answer,
    DaemonProcess,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
    read_answer,
)
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import write_config

PARTITIONS = 4
BALANCED_S = 5.0
"""Within so long after a change the partitions are balanced (DESIGN.md section 8)."""


class Ear:
    """What the members' heartbeats tell."""

    def __init__(self) -> None:
        self.beats: dict[str, Heartbeat] = {}
        self.claims: dict[int, set[int]] = {number: set() for number in range(PARTITIONS)}
        """Where each partition's ledger has a claim."""

    async def listen(self, caller: PlainCaller) -> Self:
        async def hear(message: Msg) -> None:
            beat = decode_heartbeat(message.data)
            assert beat is not None
            self.heard(beat)

        await caller.client.subscribe(heartbeats(NO_TAG), cb=hear)
        await caller.client.flush()
        return self

    def heard(self, beat: Heartbeat) -> None:
        if beat.is_gone:
            self.beats.pop(beat.daemon, None)
            return
        self.beats[beat.daemon] = beat
        for partition, claim_seq in beat.owned.items():
            # Else it is only about to be claimed.
            if claim_seq:
                self.claims[partition].add(claim_seq)

    def owned(self, daemon: str) -> set[int]:
        beat = self.beats.get(daemon)
        owned = {} if beat is None else beat.owned
        return {partition for partition, claim_seq in owned.items() if claim_seq}

    def are_balanced(self, daemons: list[str]) -> bool:
        """Whether each partition is one's of these, and nobody has over one more than another."""
        shares = [self.owned(daemon) for daemon in daemons]
        sizes = [len(share) for share in shares]
        owned = [partition for share in shares for partition in share]
        return sorted(owned) == list(range(PARTITIONS)) and max(sizes) - min(sizes) <= 1


class Cluster:
    """Daemons with one data folder on one server, without any other set-up."""

    def __init__(self, data_dir: Path, caller: PlainCaller, *arguments: str) -> None:
        self.caller = caller
        self.ear = Ear()
        self.members: list[DaemonProcess] = []
        self.gone: list[DaemonProcess] = []
        self._data_dir = data_dir
        self._arguments = arguments
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.ear.listen(self.caller)
        return self

    async def __aexit__(self, *_: object) -> None:

        await self._stack.aclose()

    async def joined_by(self, number: int = 1, **environment: str) -> list[DaemonProcess]:
        """Start so many more at once, and return them when they are ready."""
        starting = (
            daemon_process(self._data_dir, *self._arguments, environment=environment)
            for _ in range(number)
        )
        new = await asyncio.gather(*(self._stack.enter_async_context(one) for one in starting))
        self.members += new
        return [*new]

    async def of(self, number: int) -> list[DaemonProcess]:
        """Have exactly so many members, balanced."""
        for one in self.members[number:]:
            await self.left_by(one)
        await self.joined_by(max(number - len(self.members), 0))
        await self.balanced()
        return [*self.members]

    async def left_by(self, one: DaemonProcess, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal a member, and return its exit code."""
        self.members.remove(one)
        self.gone.append(one)
        return await one.stop(number)

    async def balanced(self, *, within_s: float = BALANCED_S) -> float:
        """Return how long it took until every partition was owned, and evenly."""
        ids = [one.daemon_id for one in self.members]
        return await eventually(lambda: self.ear.are_balanced(ids), within_s=within_s)

    def owner_of(self, connection_id: str) -> DaemonProcess:
        """Return which member owns a connection."""
        partition = _partition_of(connection_id)
        (owner,) = (one for one in self.members if partition in self.ear.owned(one.daemon_id))
        return owner

    def id_of(self, owner: DaemonProcess) -> str:
        """Return an id whose connection a member would own."""
        owned = self.ear.owned(owner.daemon_id)
        assert owned
        return next(one for one in iter(_new_id, "") if _partition_of(one) in owned)

    def said(self, text: str) -> list[str]:
        """Return what any member has logged with these words."""
        return [line for one in (*self.members, *self.gone) for line in one.said if text in line]

    def spilled(self) -> list[str]:
        """Return the files of outcomes in the data folder."""
        return [file.name for file in self._data_dir.glob("outcomes*/*-*")]

    async def ask_alone(
        self,
        one: DaemonProcess,
        verb: str,
        connection_id: str,
        body: object = None,
        *,
        timeout_s: float = 5.0,
    ) -> Answer:
        """Ask one member as another one hands a command over to it."""
        subject = owner_subject(_partition_of(connection_id), verb, connection_id, NO_TAG)
        message = await self.caller.client.request(
            subject,
            b"" if body is None else json.dumps(body).encode(),
            timeout=timeout_s,
            headers={
                OWNER_HEADER: one.daemon_id,
                "Refreshd-Timeout-Ms": str(int(timeout_s * 1000)),
            },
        )
        return read_answer(message)


@contextlib.asynccontextmanager
async def cluster_of(
    folder: Path, provider: FakeProvider, **settings: str
) -> AsyncGenerator[Cluster]:
    """Yield a cluster without members that refreshes at a provider.

    Args:
        folder: For all files.
        provider: A running one.
        **settings: Further TOML values of its section, as text.
    """
    config = write_config(folder, provider, **settings)
    async with (
        external_nats(folder) as server,
        plain_caller(server.url) as caller,
        Cluster(folder / "data", caller, "--config", str(config), "--nats", server.url) as cluster,
    ):
        yield cluster


@contextlib.contextmanager
def paused(one: DaemonProcess) -> Generator[None]:
    """Stop a member's process for as long as the body runs."""
    one.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if one.process.returncode is None:
            os.kill(one.process.pid, signal.SIGCONT)


def _partition_of(connection_id: str) -> int:
    return partition_of(UUID(connection_id), PARTITIONS)


def _new_id() -> str:
    return str(uuid4())
