"""(b) A Redis lock around PostgreSQL, as products that keep OAuth connections do it.

Nango, the most used of them, takes a key for each connection that lives for 10 s, asks again
every 50 ms while another has it, reads the row under it and writes it. So does this, with
redis-py's own lock, whose token and Lua script release no lock but one's own.

Fair: the row is written by one statement that holds both events, and only if its generation is the
one that was read: a lock that ends early costs an error and no credentials. No more than 32
refreshes are under way, since others would only hold locks and ask for them (with 256 it made 608
refreshes/s in place of 662, and 33 in place of 81 on one connection; asking again every 20 or
100 ms was no better). Client and socket are the fastest
there are (hiredis, Unix). Whether Redis syncs each write is ``servers.running_redis``'s to say.
"""

import asyncio
from pathlib import Path

from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection

from bench.peers.handling import Found, refused, tell_failed, to_write
from bench.peers.store import READ, STORE_IF_SAME, STORED, Pool, StaleError
from domain.commands import Refresh
from domain.decision import Reply
from domain.result import Success
from runtime.ledger.sealing import Keyring

_LOCK_LIFE_S = 10.0
_ASK_AGAIN_S = 0.05
_UNDER_WAY_MAX = 32


class RedisLock:
    """Implements ``Peer``: a key in Redis keeps refreshes apart."""

    def __init__(self, pool: Pool, keyring: Keyring, socket: Path) -> None:
        """Use the connections of ``pool``, and the Redis at ``socket``."""
        self._pool = pool
        self._keyring = keyring
        self._under_way = asyncio.Semaphore(_UNDER_WAY_MAX)
        self._redis = Redis(
            connection_pool=BlockingConnectionPool(
                max_connections=_UNDER_WAY_MAX,
                timeout=None,
                connection_class=UnixDomainSocketConnection,
                path=str(socket),
            )
        )

    async def refresh(self, command: Refresh) -> Reply:
        """Carry out one refresh under its connection's lock, however long that takes to get."""
        lock = self._redis.lock(
            f"lock:refresh:{command.connection_id}", timeout=_LOCK_LIFE_S, sleep=_ASK_AGAIN_S
        )
        async with self._under_way, lock, self._pool.acquire() as connection:
            row = await connection.fetchrow(READ, command.connection_id)
            found = None if row is None else Found(*row)
            failure = refused(found, command)
            if failure is not None:
                await tell_failed(connection, found, command, failure)
                return failure
            assert found is not None
            values = to_write(command, self._keyring, sealed_for=found.generation + 1)
            if await connection.execute(STORE_IF_SAME, *values) != STORED:
                raise StaleError(command.connection_id)
        return Success(None)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose(close_connection_pool=True)
