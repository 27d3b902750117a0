"""Does the time to start depend on how many connections are stored?

The daemon is started as a process with nothing stored and with 100,000 connections, several
times each, until its ready line: once on a server that runs already, which is the daemon's own
part, and once with the embedded server, which has to restore its streams first. The records are
written straight into the buckets, as the daemon would write them.
"""

import asyncio
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench.daemon import running_daemon
from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, CredentialType, Sealed
from domain.record import Record, encode_record
from runtime.ledger.streams import PARTITIONS_DEFAULT
from runtime.ledger.subjects import NO_TAG, partition_of, record_key_subject
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login, NatsLink, open_link
from runtime.world import Uuid7Ids

CONNECTIONS = 100_000
STARTS = 5


async def fill(link: NatsLink, connections: int) -> None:
    """Store so many connections."""
    ids = Uuid7Ids()
    now = datetime.now(UTC)
    payload = Sealed(key_id="bench", nonce=bytes(12), ciphertext=bytes(400))
    credentials = Credentials(credential_type=CredentialType.OAUTH2, payload=payload)
    numbers = iter(range(connections))

    async def writer() -> None:
        for _ in numbers:
            connection = ProviderConnection(
                id=next(ids),
                user_id=next(ids),
                provider_id=next(ids),
                provider_slug="bench",
                status=ConnectionStatus.ACTIVE,
                created_at=now,
                updated_at=now,
                connected_at=now,
                generation=1,
                credentials=credentials,
            )
            record = encode_record(Record(connection=connection))
            partition = partition_of(connection.id, PARTITIONS_DEFAULT)
            subject = record_key_subject(partition, str(connection.id), NO_TAG)
            await link.request(subject, record, timeout_s=30)

    await asyncio.gather(*(writer() for _ in range(256)))


async def measure(folder: Path, connections: int) -> tuple[list[float], list[float]]:
    """Return the seconds that starts took: on a running server, and with the embedded one."""
    with running_daemon(folder):
        pass
    server = EmbeddedNats(folder, server_bin=None, port=None)
    login = await server.start()
    async with open_link(login, name="bench") as link:
        await fill(link, connections)
    external_s = [await asyncio.to_thread(start_once, folder, login) for _ in range(STARTS)]
    await server.stop()
    embedded_s = [await asyncio.to_thread(start_once, folder, None) for _ in range(STARTS)]
    return external_s, embedded_s


def start_once(folder: Path, server: Login | None) -> float:
    """Return the seconds until the ready line."""
    with running_daemon(folder, server=server) as daemon:
        return daemon.start_s


def measured_ratios() -> tuple[float, float]:
    """Print, and return what a start takes with many stored to one with none.

    On a server that runs, and with the embedded one.
    """
    medians: list[tuple[float, float]] = []
    for connections in (0, CONNECTIONS):
        with tempfile.TemporaryDirectory() as folder:
            external_s, embedded_s = asyncio.run(measure(Path(folder), connections))
        medians.append((statistics.median(external_s), statistics.median(embedded_s)))
        print(
            f"{connections:>7,} connections: ready after {medians[-1][0]:.3f} s on a running "
            f"server ({min(external_s):.3f}-{max(external_s):.3f}), {medians[-1][1]:.3f} s with "
            f"the embedded one ({min(embedded_s):.3f}-{max(embedded_s):.3f})"
        )
    (external_none, embedded_none), (external_many, embedded_many) = medians
    ratios = (external_many / external_none, embedded_many / embedded_none)
    print("ratio {:.2f} on a running server, {:.2f} with the embedded one".format(*ratios))
    return ratios


if __name__ == "__main__":
    measured_ratios()
