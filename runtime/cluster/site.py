"""Where commands are decided: a daemon's place in the cluster, as its gateway sees it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Annotated
from uuid import UUID

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Meta

from actors.bus import Bus, Heard
from actors.client_gate import ClientGates
from actors.cluster import Cluster, Hooks, Keeper
from actors.directory import Directory
from actors.members import Heartbeat
from actors.router import Router
from actors.world import Count
from runtime.cluster.checkpoints import Checkpoints, Records
from runtime.cluster.wire import decode_heartbeat, encode_heartbeat
from runtime.ledger.subjects import (
    heartbeat_subject,
    heartbeats,
    owner_filter,
    owner_subject,
    partition_of,
)

JOIN_S = 0.6
"""How long a daemon listens for others before it takes what it should own: three of them that are
started together hear each other in that time."""


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for other daemons, and how much is kept for them."""

    member_timeout_s: Annotated[float, Meta(ge=2, le=300)] = 5.0
    """For how long a daemon that is not heard still counts as there. One that has neither had an
    append acknowledged nor heard itself for so long answers nothing from memory. Heartbeats come
    each second: one of them may be late or lost."""
    held_max: Count = 10_000
    """How many commands wait here for somebody to own their partition; beyond it
    ``OVERLOADED``."""


class Site:
    """Implements ``runtime.gateway.sited.Sited`` over a bus."""

    def __init__(
        self,
        me: str,
        bus: Bus,
        directory: Directory,
        *,
        partitions: int,
        tag: str,
        config: ClusterConfig,
        records: Callable[[int], Records | None],
    ) -> None:
        """Know of nobody; ``attach`` and ``among_others`` before anything is routed.

        Args:
            me: This daemon's id.
            bus: Core NATS.
            directory: The actors that are here.
            partitions: How many there are.
            tag: What stands for the prefix in subjects.
            config: The bounds.
            records: The bucket of a partition that is owned here.
        """
        self.me = me
        self.bus = bus
        self._directory = directory
        self._partitions = partitions
        self._tag = tag
        self._config = config
        self.checkpoints = Checkpoints(me, bus, tag=tag, here=records)
        self.cluster: Cluster
        self.router: Router

    @property
    def are_all_here(self) -> bool:
        """See ``Sited``."""
        return self._directory.served == self._partitions

    def partition_of(self, connection_id: UUID) -> int:
        """See ``Sited``."""
        return partition_of(connection_id, self._partitions)

    def owner_subject(self, partition: int, verb: str, key: str) -> str:
        """See ``Sited``."""
        return owner_subject(partition, verb, key, self._tag)

    def attach(
        self,
        keeper: Keeper,
        gates: ClientGates,
        *,
        version: str,
        report: Callable[[], dict[str, object]],
        load: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        """Be a member that takes and gives partitions by ``keeper``."""
        hooks = Hooks(
            send=self._send,
            report=report,
            load=load,
            draw=draw,
            changed=self._changed,
            now_s=time.monotonic,
        )
        self.cluster = Cluster(
            self.me,
            version=version,
            partitions=self._partitions,
            keeper=keeper,
            hooks=hooks,
            gates=gates,
            timeout_s=self._config.member_timeout_s,
        )
        self.router = Router(self.cluster.place, held_max=self._config.held_max)

    @contextlib.asynccontextmanager
    async def among_others(self) -> AsyncGenerator[None]:
        """Hear the others from now on, and be heard by them.

        Raises:
            LinkError: The server did not take the subscription.
        """
        await self.checkpoints.listen()
        await self.bus.subscribe(heartbeats(self._tag), self._heard)
        telling = asyncio.create_task(self.cluster.tell())
        try:
            yield
        finally:
            telling.cancel()
            self.cluster.is_gone()

    async def hear(self, take: Callable[[Heard], None], partition: int) -> Callable[[], None]:
        """Have ``take`` given what is for a partition's owner; return how to end that.

        Raises:
            LinkError: The server did not take the subscription.
        """

        def heard(message: Heard) -> None:
            if not self.checkpoints.take(message):
                take(message)

        return await self.bus.subscribe(owner_filter(partition, self._tag), heard)

    def start(self, tasks: TaskGroup) -> None:
        """Take part, and route what is held."""
        tasks.start_soon(self.checkpoints.run)
        tasks.start_soon(self.cluster.run)
        tasks.start_soon(self.router.run)

    async def leave(self, *, within_s: float) -> None:
        """Give everything to the others, if there are any."""
        with anyio.move_on_after(within_s):
            await self.cluster.leave()

    def _send(self, beat: Heartbeat) -> bool:
        subject = heartbeat_subject(self.me, self._tag)
        return self.bus.publish(subject, encode_heartbeat(beat))

    def _heard(self, message: Heard) -> None:
        beat = decode_heartbeat(message.data)
        if beat is not None:
            self.cluster.heard(beat)

    def _changed(self) -> None:
        self.router.go_on()
