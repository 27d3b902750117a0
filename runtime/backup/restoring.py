"""Writes a backup into an empty state, as the owner of its ledgers: it takes no commands.

What is restored goes the way of all state: groups appended to ledgers that were claimed, and
views that follow. So a daemon that starts meanwhile, or has been overlooked, and this cannot both
write. No command carries a generation or a time, and none should: whoever may give commands could
set back what is stored.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio
import msgspec

from actors.entry import Entry
from actors.envelope import Envelope
from domain.credentials import Secret
from domain.record import Record
from domain.time_words import instant
from runtime.backup.age import PrivateKeys, unseal
from runtime.backup.archive import ArchiveReader, Head, Kept
from runtime.config import Config
from runtime.data_folder import KEYRING_FILE, make_data_folder, only_daemon_of
from runtime.ledger.key_rotation import open_keyring_of, refuse_another_keyring
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.partition_ledger import PartitionLedger, RecordTooLargeError
from runtime.ledger.restore_mark import note_restoring, restoring
from runtime.ledger.sealing import Keyring
from runtime.ledger.streams import Streams, StreamsError, connections_stored, ensure_streams
from runtime.ledger.subjects import partition_of
from runtime.nats.link import NatsLink
from runtime.reaching import daemon_link, embedded_server, ledgers_of, refuse_others
from runtime.stream_settings import stream_settings

_PAUSE_S = 0.02


def named(head: Head) -> str:
    """Return how a backup is told from others: what ``export`` and ``restore`` print of it."""
    return f"{head.id} of {instant(head.made_at)}"


class NotEmptyError(Exception):
    """Something is stored already."""


class Restored(NamedTuple):
    """What was restored."""

    head: Head
    connections: int


async def restore(
    config: Config, data_dir: Path, file: BinaryIO, by: PrivateKeys | Secret
) -> Restored:
    """Write what a backup holds into an empty state; broken off, it goes on when repeated.

    The whole file is read before anything is written.

    Raises:
        AgeError, ArchiveError: It is not opened, or no whole backup. Nothing was written.
        NotEmptyError: Connections are there, and not by this backup. Nothing was written.
        DataFolderError: And the others of ``run_daemon``.
    """
    head = await _read(file, by, _nowhere)
    make_data_folder(data_dir)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(only_daemon_of(data_dir))
        if config.nats.url is None:
            embedded = embedded_server(config, data_dir)
            stack.push_async_callback(embedded.stop)
            login = await embedded.start()
        else:
            login = config.login()
        link = await stack.enter_async_context(daemon_link(config, login, "restore"))
        await refuse_others(config, link, may_join=False)
        key_file = config.keys.file or data_dir / KEYRING_FILE
        opened = partial(open_keyring_of, key_file, create=config.keys.file is None)
        streams = await ensure_streams(
            link, stream_settings(config), keyring_id=lambda: opened(connections=0).primary
        )
        await _refuse_unless_empty(link, streams, head, streams.connections)
        keyring = opened(connections=streams.connections)
        refuse_another_keyring(streams, keyring, key_file)
        ledgers = ledgers_of(link, config, streams, "restore")
        await ledgers.open(range(streams.partitions))
        # A daemon that was killed has left them in its ledgers alone.
        held = sum(len(ledger.records.held) for ledger in ledgers.partitions.values())
        stored = await connections_stored(link, streams) + held
        await _refuse_unless_empty(link, streams, head, stored)
        await note_restoring(link, streams.tag, named(head))
        for ledger in ledgers.partitions.values():
            # A daemon may have been here, and found that nothing lacked an entry.
            ledger.records.mark.forget_scan()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for ledger in ledgers.partitions.values():
            tasks.start_soon(ledgers.run, ledger)
        file.seek(0)
        writing = _Writing(ledgers, keyring)
        await _read(file, by, writing.take)
        await writing.end()
        await note_restoring(link, streams.tag, None)
        await ledgers.caught_up()
        await ledgers.release()
        connections = await connections_stored(link, streams)
        tasks.cancel_scope.cancel()
    return Restored(head, connections)


async def _read(
    file: BinaryIO, by: PrivateKeys | Secret, take: Callable[[Kept], Awaitable[None]]
) -> Head:
    reader = ArchiveReader()

    async def read_on(data: bytes) -> None:
        for kept in reader.feed(data):
            await take(kept)

    await unseal(file, by, read_on)
    return reader.end()


async def _nowhere(_kept: Kept) -> None:
    """Only look whether it can be read."""


async def _refuse_unless_empty(
    link: NatsLink, streams: Streams, head: Head, connections: int
) -> None:
    """Return where nothing is stored, or only what a restore of the same backup has written."""
    begun = await restoring(link, streams.tag)
    if begun == named(head):
        return
    if begun is not None:
        raise NotEmptyError(
            f"backup {begun} was restored in part: go on with that one, or begin elsewhere, with "
            "another --data-dir, or another service.prefix"
        )
    if connections:
        raise NotEmptyError(
            "connections are stored here: a backup is restored into an empty state; give another "
            "--data-dir, or another service.prefix"
        )


class _Writing:
    """Appends connections to the ledgers, in groups as large as they may be."""

    def __init__(self, ledgers: Ledgers, keyring: Keyring) -> None:
        self._ledgers = ledgers
        self._keyring = keyring
        self._open: set[int] = set()
        """The partitions whose group is not empty."""

    async def take(self, kept: Kept) -> None:
        """Have one connection stored, with the groups of its partition."""
        record = self._sealed(kept)
        connection = record.connection
        entry = Entry(connection.id, _Nobody())
        entry.connection, entry.answers = connection, record.answers
        number = partition_of(connection.id, len(self._ledgers.partitions))
        ledger = self._ledgers.partitions[number]
        try:
            if not ledger.add(entry):
                await self._append(ledger)
                ledger.add(entry)
        except RecordTooLargeError:
            raise StreamsError(
                f"connection {connection.id} is larger than its bucket takes: raise "
                "service.limits.credential_bytes_max, and begin elsewhere, with another "
                "--data-dir, or another service.prefix"
            ) from None
        self._open.add(number)

    async def end(self) -> None:
        """Return when all that was taken is in ledgers and buckets."""
        for number in self._open:
            await self._append(self._ledgers.partitions[number])
        await self._ledgers.checkpointed()

    async def _append(self, ledger: PartitionLedger) -> None:
        while not ledger.has_room:  # noqa: ASYNC110 -- the views tell nobody when there is
            await anyio.sleep(_PAUSE_S)
        await ledger.append()

    def _sealed(self, kept: Kept) -> Record:
        """Return the record with its secret sealed by the keyring that is there now."""
        connection = kept.record.connection
        credentials = connection.credentials
        if kept.secret is None or credentials is None:
            return kept.record
        payload = self._keyring.seal(
            Secret(kept.secret), connection_id=connection.id, generation=connection.generation
        )
        credentials = msgspec.structs.replace(credentials, payload=payload)
        connection = msgspec.structs.replace(connection, credentials=credentials)
        return msgspec.structs.replace(kept.record, connection=connection)


class _Nobody:
    """Waits for no entry."""

    def broke(self, asked: Sequence[Envelope], error: Exception) -> None:
        """See ``actors.entry.Maker``."""

    def settled(self, entry: Entry) -> None:
        """See ``actors.entry.Maker``."""
