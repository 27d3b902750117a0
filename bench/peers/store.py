"""The tables that all peers share, the pool, and the laws that every stretch of load must keep.

Fair: the columns are what a refresh reads and writes. The one index is the primary key, and rows
have room to be rewritten in their page, so that an update touches no index (HOT). Events are plain
columns of an outbox: publishing them is left out, though the daemon does it and its CPU counts it.
asyncpg would reset a connection by a round trip before another caller gets it; it is told not to.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from domain.credentials import Sealed, Secret
from runtime.ledger.sealing import Keyring

Pool = Any
"""asyncpg's; it has no types."""

_SCHEMA = """
CREATE TABLE connection (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    provider_slug text NOT NULL,
    status text NOT NULL,
    generation bigint NOT NULL,
    credential_type text NOT NULL,
    expires_at timestamptz,
    key_id text NOT NULL,
    nonce bytea NOT NULL,
    ciphertext bytea NOT NULL,
    sealed_for bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE TABLE event (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    connection_id uuid NOT NULL,
    type text NOT NULL,
    occurred_at timestamptz NOT NULL,
    user_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    provider_slug text NOT NULL,
    reason text,
    needs_user_action boolean
);
"""
_NEW_VALUES = """credential_type = $2, expires_at = $3, key_id = $4, nonce = $5,
        ciphertext = $6, sealed_for = $7, updated_at = greatest(updated_at, $8)"""
_EVENT = """INSERT INTO event
    (id, connection_id, type, occurred_at, user_id, provider_id, provider_slug)"""

STORE = f"""
WITH changed AS (UPDATE connection SET generation = $7, {_NEW_VALUES} WHERE id = $1)
{_EVENT} VALUES
    ($9, $1, 'ProviderTokenRefreshAttempted', $8, $11, $12, $13),
    ($10, $1, 'ProviderTokenRefreshSucceeded', $8, $11, $12, $13)
"""  # noqa: S608 -- all of it is ours
"""Update the row and insert both events; whoever uses it holds the row's lock.

$1 to $10 are ``handling.to_write``, $11 to $13 user, provider and slug.
"""


def store_if(condition: str, *, generation: str) -> str:
    """Return the statement that does the same only where ``condition`` holds.

    Its status is ``STORED``, or tells that nothing was inserted.
    """
    return f"""
WITH changed AS (
    UPDATE connection SET generation = {generation}, {_NEW_VALUES} WHERE id = $1 AND {condition}
    RETURNING user_id, provider_id, provider_slug
)
{_EVENT}
SELECT told.id, $1, told.type, $8, changed.user_id, changed.provider_id, changed.provider_slug
FROM changed, (VALUES
    (1, $9::uuid, 'ProviderTokenRefreshAttempted'),
    (2, $10::uuid, 'ProviderTokenRefreshSucceeded')
) AS told (place, id, type) ORDER BY told.place
"""  # noqa: S608 -- all of it is ours


STORED = "INSERT 0 2"
READ = """
SELECT user_id, provider_id, provider_slug, status, generation FROM connection WHERE id = $1
"""
STORE_IF_SAME = store_if("generation = $7 - 1", generation="$7")
"""For those who have read the row before, and hold no lock of the database's."""
_INSERT = """
INSERT INTO connection (id, user_id, provider_id, provider_slug, status, generation,
    credential_type, key_id, nonce, ciphertext, sealed_for)
VALUES ($1, $1, $1, 'bench', $2, 1, 'oauth2', $3, $4, $5, 1)
"""
_AUDIT = """
SELECT c.id, c.generation, c.key_id, c.nonce, c.ciphertext, c.sealed_for,
    coalesce(e.told, 0) AS told, coalesce(e.in_order, true) AS in_order
FROM connection c LEFT JOIN (
    SELECT connection_id, count(*) AS told, bool_and(type = CASE place % 2
        WHEN 1 THEN 'ProviderTokenRefreshAttempted' ELSE 'ProviderTokenRefreshSucceeded' END
    ) AS in_order
    FROM (SELECT connection_id, type,
              row_number() OVER (PARTITION BY connection_id ORDER BY seq) AS place
          FROM event) placed
    GROUP BY connection_id
) e ON e.connection_id = c.id
"""


class BrokenLawError(Exception):
    """What a peer has stored is not what it has answered; the text says where."""


class StaleError(Exception):
    """The row has another generation than was read: somebody else has written it."""

    def __init__(self, connection_id: UUID) -> None:
        """Name the connection."""
        super().__init__(f"connection {connection_id} was written by somebody else meanwhile")


async def create_tables(pool: Pool) -> None:
    """Make the tables in an empty database."""
    await pool.execute(_SCHEMA)


@contextlib.asynccontextmanager
async def open_pool(socket: Path, database: str, *, size: int) -> AsyncGenerator[Pool]:
    """Yield so many open connections to a database, and close them afterwards."""
    async with asyncpg.create_pool(
        host=str(socket),
        user="postgres",
        database=database,
        min_size=size,
        max_size=size,
        max_queries=1 << 40,
        max_inactive_connection_lifetime=0,
        reset=_leave_as_it_is,
    ) as pool:
        yield pool


async def add_connections(
    pool: Pool, ids: Sequence[UUID], keyring: Keyring, *, status: str = "active"
) -> None:
    """Store connections of generation 1."""
    rows: list[tuple[Any, ...]] = []
    for one in ids:
        sealed = keyring.seal(Secret(b'{"access_token":"a"}'), connection_id=one, generation=1)
        rows.append((one, status, sealed.key_id, sealed.nonce, sealed.ciphertext))
    await pool.executemany(_INSERT, rows)
    await pool.execute("ANALYZE connection")


async def audit(pool: Pool, keyring: Keyring, *, refreshes: int) -> None:
    """Hold everything that is stored to the laws of the daemon.

    Each success is one generation and two events, Attempted before Succeeded; nothing else is
    told; and what is sealed opens for its connection.

    Args:
        pool: Of the peer's database, whose connections were all added active.
        keyring: What the peer seals by.
        refreshes: How many were answered as done since the connections were added.

    Raises:
        BrokenLawError: One is broken.
        UnsealError: Something does not open.
    """
    rows = await pool.fetch(_AUDIT)
    for row in rows:
        if row["told"] != 2 * (row["generation"] - 1) or not row["in_order"]:
            raise BrokenLawError(
                f"{row['id']}: generation {row['generation']} and {row['told']} events, in order:"
                f" {row['in_order']}"
            )
        sealed = Sealed(key_id=row["key_id"], nonce=row["nonce"], ciphertext=row["ciphertext"])
        keyring.unseal(
            sealed, connection_id=UUID(bytes=row["id"].bytes), generation=row["sealed_for"]
        )
    stored = sum(row["generation"] - 1 for row in rows)
    ids, events = await pool.fetchrow("SELECT count(DISTINCT id), count(*) FROM event")
    if (stored, ids, events) != (refreshes, 2 * refreshes, 2 * refreshes):
        raise BrokenLawError(
            f"{refreshes} refreshes were answered; {stored} generations, {events} events and {ids}"
            " ids of events are stored"
        )


async def _leave_as_it_is(_connection: object) -> None:
    """Reset nothing: no peer sets anything on a connection."""
