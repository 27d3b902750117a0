"""(a) The seed's handler on PostgreSQL: ``SELECT ... FOR UPDATE``, decide, write, commit.

Fair: four round trips, the fewest that asyncpg can make of a transaction that reads before it
writes: BEGIN; the row, locked; the row and both events in one statement; COMMIT. Statements are
prepared once for each connection. The old ciphertext is not read: a refresh has no use for it.
"""

from bench.peers.handling import Found, refused, tell_failed, to_write
from bench.peers.store import STORE, Pool
from domain.commands import Refresh
from domain.decision import Reply
from domain.result import Success
from runtime.ledger.sealing import Keyring

_LOCK = """
SELECT user_id, provider_id, provider_slug, status, generation
FROM connection WHERE id = $1 FOR UPDATE
"""


class ForUpdate:
    """Implements ``Peer``: the row's lock keeps refreshes apart."""

    def __init__(self, pool: Pool, keyring: Keyring) -> None:
        """Use the connections of ``pool``."""
        self._pool = pool
        self._keyring = keyring

    async def refresh(self, command: Refresh) -> Reply:
        """Carry out one refresh in a transaction of its own."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_LOCK, command.connection_id)
            found = None if row is None else Found(*row)
            failure = refused(found, command)
            if failure is not None:
                await tell_failed(connection, found, command, failure)
                return failure
            assert found is not None
            values = to_write(command, self._keyring, sealed_for=found.generation + 1)
            await connection.execute(STORE, *values, *found[:3])
        return Success(None)
