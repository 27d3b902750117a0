"""Builds the peers in a process of their own, by settings that came over standard input."""

import contextlib
import gc
import sys
from collections.abc import AsyncGenerator
from enum import StrEnum
from pathlib import Path

import msgspec

from bench.peers.actors import Actors
from bench.peers.for_update import ForUpdate
from bench.peers.handling import Peer
from bench.peers.one_statement import OneStatement
from bench.peers.redis_lock import RedisLock
from bench.peers.store import open_pool
from runtime.ledger.sealing import Keyring
from runtime.nats.embedded import NatsContext


class Way(StrEnum):
    """How refreshes are kept apart."""

    FOR_UPDATE = "for_update"
    ONE_STATEMENT = "one_statement"
    REDIS_LOCK = "redis_lock"
    ACTORS = "actors"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a peer's process is told; over a pipe, since there is a key among it."""

    way: Way
    key: bytes
    postgres: str
    """The folder of the socket."""
    database: str
    pool: int
    redis: str | None = None
    """The socket."""
    nats: NatsContext | None = None
    subject: str | None = None
    """``<prefix>.<id>.refresh``, with ``*`` for the id."""


def read_settings() -> Settings:
    """Return the first line of standard input."""
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)


def keyring_of(key: bytes) -> Keyring:
    """Return the keyring that all processes of one measurement seal by."""
    return Keyring(primary="bench", keys={"bench": key})


@contextlib.asynccontextmanager
async def open_peer(settings: Settings) -> AsyncGenerator[Peer]:
    """Yield the peer, with its pool open; the collector is tuned as the daemon's."""
    keyring = keyring_of(settings.key)
    async with (
        open_pool(Path(settings.postgres), settings.database, size=settings.pool) as pool,
        contextlib.AsyncExitStack() as stack,
    ):
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        match settings.way:
            case Way.FOR_UPDATE:
                yield ForUpdate(pool, keyring)
            case Way.ONE_STATEMENT:
                yield OneStatement(pool, keyring)
            case Way.REDIS_LOCK:
                assert settings.redis is not None
                peer = RedisLock(pool, keyring, Path(settings.redis))
                stack.push_async_callback(peer.close)
                yield peer
            case Way.ACTORS:
                actors = Actors(pool, keyring)
                stack.callback(actors.close)
                yield actors
