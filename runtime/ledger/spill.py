"""Outcomes that the ledger did not take, as files; the next start takes them in.

One file an attempt, ``<data-dir>/outcomes/<connection>.<attempt>``: the entry as it would have been
appended, its credentials sealed. It is applied where the ledger still holds that attempt's intent,
or the credentials that were presented, and removed only when the ledger has acknowledged it. One
that does not fit any more is
kept, as ``<name>.aside``, if it holds credentials that are stored nowhere else. Where it cannot be
told now whether it fits, there is no start: the first command would close the intent without it.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec

from actors.entry import Entry
from actors.envelope import Envelope
from actors.ports import Ledger, Outcome, RecordUnreadableError, Stored, StoreUnavailableError
from domain.events import Event
from domain.looks import Look
from domain.record import SCHEMA_VERSION as RECORD_SCHEMA_VERSION
from domain.record import Record, RecordError, decode_record, encode_record
from runtime.data_folder import BALLAST
from runtime.ledger.partition_ledger import RecordTooLargeError
from runtime.logs import log
from runtime.nats.errors import NO_ANSWER_IN_TIME
from runtime.nats.private_files import make_private_folder, replace_private_file, sync_folder

SCHEMA_VERSION = 1
_ASIDE = ".aside"
BALLAST_BYTES = 1024 * 1024
"""Room for some hundred outcomes, given up when the disk is full."""
_TAKE_IN_S = 20.0
"""How long the ledger may take to give a record or to take one, as long as to be taken over."""
_READ_PAUSE_S = 0.2


class SpillError(Exception):
    """An outcome cannot be taken in now; the text names its file, the cause and the mend."""


class LaterVersionError(Exception):
    """An outcome was written by a later version; the text says which."""


class DamagedError(Exception):
    """What should be an outcome is none."""


class _Spilled(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds, in MessagePack. Fields are only ever added."""

    v: int = SCHEMA_VERSION
    connection_id: UUID
    attempt_id: UUID
    generation: int
    """The credentials that were presented."""
    record: bytes
    """As it would have gone into the bucket."""
    events: tuple[Event, ...]


class _Version(msgspec.Struct):
    v: int


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(_Spilled)
_version_decoder = msgspec.msgpack.Decoder(_Version)


class SpillFolder:
    """Implements ``actors.ports.Spill``."""

    def __init__(self, path: Path) -> None:
        """Use a folder; it is made if need be.

        Raises:
            OSError: It cannot be made.
        """
        make_private_folder(path)
        sync_folder(path.parent)
        self._path = path
        self._ballast = path / BALLAST
        if not self._ballast.exists():
            try:
                replace_private_file(self._ballast, bytes(BALLAST_BYTES))
            except OSError as error:
                log.warning("no_ballast", folder=str(path), cause=error.strerror)

    async def keep(self, outcome: Outcome) -> bool:
        """See ``Spill.keep``."""
        connection_id = str(outcome.connection.id)
        try:
            data = encode_outcome(outcome)
            await anyio.to_thread.run_sync(self._write, self._file_of(outcome), data)
        except OSError as error:
            log.error("outcome_not_spilled", connection_id=connection_id, cause=error.strerror)
            return False
        log.warning(
            "outcome_spilled", connection_id=connection_id, file=self._file_of(outcome).name
        )
        return True

    async def forget(self, outcome: Outcome) -> None:
        """See ``Spill.forget``."""
        file = self._file_of(outcome)
        await anyio.to_thread.run_sync(_remove, file)
        log.info("outcome_stored", connection_id=str(outcome.connection.id), file=file.name)

    async def take_in(
        self,
        ledgers: Mapping[int, Ledger],
        partition_of: Callable[[UUID], int],
        *,
        within_s: float = _TAKE_IN_S,
    ) -> list[Outcome]:
        """Append what an earlier daemon could not, before anybody else writes the ledgers.

        A file of a later version is left where it is, and so is one whose connection has a record
        that cannot be trusted: nobody can use that one either. A damaged file is set aside.

        Args:
            ledgers: Of the partitions that are owned here.
            partition_of: Which partition is a connection's.
            within_s: How long a ledger may take to give one record, and to take one.

        Returns:
            What is for others' partitions, and what came when its attempt was taken for unknown.

        Raises:
            OSError: The folder cannot be read.
            PartitionLostError: Another daemon has taken a partition.
            SpillError: A file cannot be read, or its partition's ledger neither read nor written.
        """
        others: list[Outcome] = []
        for file in sorted(self._path.iterdir()):
            if file.name.startswith("."):
                # A draft that a kill left behind: nobody else writes here.
                _remove(file)
            elif file.name != BALLAST and not file.name.endswith(_ASIDE):
                found = _found(file)
                if found is None:
                    continue
                ledger = ledgers.get(partition_of(found.connection.id))
                if ledger is None or not await _take_in(file, found, ledger, within_s=within_s):
                    others.append(found)
        return others

    def _write(self, file: Path, data: bytes) -> None:
        """Write a file; on a full disk into the room that the ballast held.

        Raises:
            OSError: It cannot be written.
        """
        try:
            replace_private_file(file, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._ballast.unlink(missing_ok=True)
            replace_private_file(file, data)

    def _file_of(self, outcome: Outcome) -> Path:
        return self._path / f"{outcome.connection.id}.{outcome.attempt_id}"


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the content of an outcome's file."""
    return _encoder.encode(
        _Spilled(
            connection_id=outcome.connection.id,
            attempt_id=outcome.attempt_id,
            generation=outcome.generation,
            record=encode_record(Record(connection=outcome.connection)),
            events=outcome.events,
        )
    )


def decode_outcome(data: bytes) -> Outcome:
    """Return what ``encode_outcome`` was given.

    Raises:
        LaterVersionError: A later version's.
        DamagedError: It cannot be read.
    """
    try:
        schema = _version_decoder.decode(data).v
        if schema > SCHEMA_VERSION:
            raise LaterVersionError(f"schema {schema}")
        spilled = _decoder.decode(data)
        schema = _version_decoder.decode(spilled.record).v
        if schema > RECORD_SCHEMA_VERSION:
            raise LaterVersionError(f"record schema {schema}")
        connection = decode_record(spilled.record).connection
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RecordError):
        raise DamagedError from None
    return Outcome(spilled.attempt_id, spilled.generation, connection, spilled.events)


class _Nobody:
    """Makes entries that nobody waits for."""

    def broke(self, asked: Sequence[Envelope], error: Exception) -> None:
        """See ``actors.entry.Maker``."""

    def settled(self, entry: Entry) -> None:
        """See ``Maker``."""


def _found(file: Path) -> Outcome | None:
    """Return what a file holds; None: nothing that this version can take in.

    Raises:
        SpillError: It cannot be read.
    """
    try:
        return decode_outcome(file.read_bytes())
    except OSError as error:
        raise SpillError(
            f"{file}: {error.strerror}: a provider's answer lies here that no ledger holds; let "
            "the daemon's user read it, or move it away to do without it"
        ) from None
    except LaterVersionError as error:
        log.error("outcome_unreadable", file=file.name, error=str(error))
    except DamagedError:
        _set_aside(file, "it is damaged")
    return None


async def _take_in(file: Path, outcome: Outcome, ledger: Ledger, *, within_s: float) -> bool:
    """Append one outcome if its intent is still open, and be done with its file.

    False: it is of use, but its attempt was taken for unknown, and maybe another one has begun:
    see ``actors.brought``.

    Raises:
        PartitionLostError: Another daemon has taken the partition.
        SpillError: It cannot be told whether the intent is open, or the ledger does not take it.
    """
    connection = outcome.connection
    connection_id = str(connection.id)
    try:
        stored = await _stored(file, connection.id, ledger, within_s=within_s)
    except RecordUnreadableError as error:
        log.error("outcome_not_taken_in", connection_id=connection_id, cause=str(error))
        return True
    now = stored.connection
    if outcome.is_awaited_by(now):
        entry = Entry(connection.id, _Nobody())
        entry.connection, entry.answers = connection, stored.answers
        entry.before = now
        # When it is due its policy says; so it is looked at, which is needless only now and then.
        entry.look = Look(connection.updated_at, connection.updated_at)
        entry.is_look_new = True
        entry.events.extend(outcome.events)
        try:
            ledger.add(entry)
        except RecordTooLargeError:
            _set_aside(file, "its record is larger than the bucket takes")
            return True
        with anyio.move_on_after(within_s) as scope:
            await ledger.append()
        if scope.cancelled_caught:
            raise _cannot_be_taken_in(file, "its ledger takes nothing")
        log.warning("outcome_taken_in", connection_id=connection_id, file=file.name)
        _remove(file)
    elif outcome.is_of_use_to(now):
        return False
    elif outcome.is_needless_to(now):
        log.info("outcome_not_needed", connection_id=connection_id, file=file.name)
        _remove(file)
    else:
        _set_aside(file, "the ledger has gone on without it")
    return True


async def _stored(file: Path, connection_id: UUID, ledger: Ledger, *, within_s: float) -> Stored:
    """Return a connection's record, asking for it again and again.

    Raises:
        RecordUnreadableError: It cannot be trusted.
        SpillError: It could not be read in time.
    """
    cause = NO_ANSWER_IN_TIME
    with anyio.move_on_after(within_s):
        while True:
            try:
                return await ledger.read(connection_id)
            except RecordUnreadableError:
                raise
            except StoreUnavailableError as error:
                cause = str(error)
            await anyio.sleep(_READ_PAUSE_S)
    raise _cannot_be_taken_in(file, f"its connection cannot be read: {cause}")


def _cannot_be_taken_in(file: Path, cause: str) -> SpillError:
    return SpillError(
        f"{file}: a provider's answer lies here that no ledger holds, and {cause}; start again "
        "when JetStream answers, or move the file away to do without it"
    )


def _set_aside(file: Path, cause: str) -> None:
    """Keep a file that no start is to look at again."""
    aside = file.with_name(file.name + _ASIDE)
    file.rename(aside)
    connection_id = file.name.partition(".")[0]
    log.error("outcome_set_aside", connection_id=connection_id, file=aside.name, cause=cause)


def _remove(file: Path) -> None:
    """Remove a file; one that cannot be is looked at by the next start, and does no harm."""
    try:
        file.unlink()
    except OSError as error:
        log.warning("outcome_file_left", file=file.name, cause=error.strerror)
