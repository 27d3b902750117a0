"""(a1) The whole refresh in one statement: what is left when every round trip but one is saved.

The check for ACTIVE is the condition of the UPDATE, the generation counts itself, and the events
are inserted from what the UPDATE returns: one round trip and one commit.

Fair: the generation is not known before, so that the ciphertext is bound to a number drawn for it,
stored beside it. Binding it to an expected generation would have to be tried again on every
conflict. What is not changed is looked at again in a transaction, which tells why.
"""

import secrets

from bench.peers.for_update import ForUpdate
from bench.peers.handling import to_write
from bench.peers.store import STORED, Pool, store_if
from domain.commands import Refresh
from domain.decision import Reply
from domain.result import Success
from runtime.ledger.sealing import Keyring

_STORE_IF_ACTIVE = store_if("status = 'active'", generation="generation + 1")
_NUMBER_BITS = 63


class OneStatement:
    """Implements ``Peer``: the row's lock is held for the commit alone."""

    def __init__(self, pool: Pool, keyring: Keyring) -> None:
        """Use the connections of ``pool``."""
        self._pool = pool
        self._keyring = keyring
        self._in_a_transaction = ForUpdate(pool, keyring)

    async def refresh(self, command: Refresh) -> Reply:
        """Carry out one refresh."""
        if command.credentials is not None:
            number = secrets.randbits(_NUMBER_BITS)
            values = to_write(command, self._keyring, sealed_for=number)
            if await self._pool.execute(_STORE_IF_ACTIVE, *values) == STORED:
                return Success(None)
        return await self._in_a_transaction.refresh(command)
