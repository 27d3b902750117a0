"""How much memory does an idle resident actor take, beyond its sealed payload?

50,000 connections with 600-byte sealed secrets are connected through the directory with real
sealing and a ledger that keeps nothing of what it is given; then the process's
resident set is compared with and without the actors.
"""

import asyncio
import ctypes
import gc
import sys
from pathlib import Path
from uuid import UUID

import anyio

from actors.directory import Directory
from actors.entry import Entry
from actors.envelope import Envelope
from actors.ports import Stored
from actors.world import Limits, World
from domain.commands import Connect
from domain.credentials import CredentialType, Secret, Unsealed
from domain.decision import Reply
from runtime.ledger.sealing import Keyring
from runtime.world import LoggingJournal, SystemClock, Uuid7Ids
from tests.fakes.providers import no_providers
from tests.fakes.world import MemorySpill

ACTORS = 50_000
SECRET_BYTES = 600
_PAGE_BYTES = 4096


class _ForgetfulLedger:
    """Takes any entry and keeps nothing, so that only the actors' memory is measured."""

    has_room = True

    def add(self, entry: Entry) -> bool:
        return True

    async def append(self) -> None:
        return

    def recall(self, connection_id: UUID) -> Stored | None:
        return None

    async def read(self, connection_id: UUID) -> Stored:
        return Stored(None)


def resident_bytes() -> int:
    """Return the process's resident set."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


async def measured_bytes() -> float:
    """Make the actors, print and return what one takes beyond its payload, in bytes."""
    ids = Uuid7Ids()
    world = World(
        sealer=Keyring(primary="k", keys={"k": bytes(32)}),
        clock=SystemClock(),
        ids=ids,
        journal=LoggingJournal(),
        providers=no_providers(),
        spill=MemorySpill(),
    )
    directory = Directory(
        world=world, limits=Limits(), ledgers=[_ForgetfulLedger()], partition_of=lambda _: 0
    )
    before_bytes = after_bytes = idle_tasks = 0
    async with anyio.create_task_group() as tasks:
        await tasks.start(directory.run)
        await _connect(directory, ids, 1000)
        before_bytes = resident_bytes()
        await _connect(directory, ids, ACTORS)
        after_bytes = resident_bytes()
        assert directory.resident_actors == ACTORS + 1000
        assert directory.busy_actors == 0
        idle_tasks = len(asyncio.all_tasks())
        tasks.cancel_scope.cancel()
    payload = SECRET_BYTES + 28
    each = (after_bytes - before_bytes) / ACTORS
    print(f"{ACTORS:,} idle actors, {idle_tasks} tasks in the process")
    print(f"resident set per actor: {each:,.0f} bytes, beyond the payload {each - payload:,.0f}")
    return each - payload


async def _connect(directory: Directory, ids: Uuid7Ids, count: int) -> None:
    """Connect so many new connections, in portions, and wait until all are idle."""
    loop = asyncio.get_running_loop()
    for start in range(0, count, 1000):
        answered = asyncio.Event()
        left = min(1000, count - start)

        def reply(_reply: Reply) -> None:
            nonlocal left
            left -= 1
            if not left:
                answered.set()  # noqa: B023 -- all replies come before the next round

        for _ in range(left):
            command = Connect(
                connection_id=next(ids),
                user_id=next(ids),
                provider_id=next(ids),
                provider_slug=str(next(ids))[:8],
                alias=f"account {next(ids)}",
                credentials=Unsealed(
                    credential_type=CredentialType.OAUTH2, secret=Secret(bytes(SECRET_BYTES))
                ),
            )
            directory.submit(Envelope(command, due_s=loop.time() + 60, reply=reply))
        await answered.wait()


if __name__ == "__main__":
    asyncio.run(measured_bytes())
