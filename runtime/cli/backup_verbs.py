"""The verbs that write all connections into one sealed file, and bring them back."""

import contextlib
import getpass
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn

import uvloop
from cyclopts import Parameter

from domain.credentials import Secret
from domain.time_words import instant
from runtime import VERSION
from runtime.backup.age import AgeError, PrivateKeys, PublicKeys, read_private, read_public, seal
from runtime.backup.archive import ArchiveError, End, Head, encode
from runtime.backup.reading import StoredState
from runtime.backup.restoring import NotEmptyError, restore
from runtime.cli.asking import (
    EXIT_CONFLICT,
    EXIT_ERROR,
    EXIT_USAGE,
    Asking,
    CommandError,
    StreamOrFile,
    run_linked,
    show_value,
    to_stderr,
)
from runtime.cli.no_core import leave_no_core
from runtime.cli.tables import show_fields
from runtime.config import Config
from runtime.data_folder import KEYRING_FILE
from runtime.ledger.sealing import open_keyring
from runtime.logs import configure_logs
from runtime.nats.link import NatsLink
from runtime.nats.private_files import sync_folder
from runtime.provider.secret_files import secret_of
from runtime.reaching import DAEMON_INBOX
from runtime.world import Uuid7Ids

_HERE = Asking()
_STANDARD = "-"
_READ_TWICE = "restore reads its file twice: give a plain file, neither - nor a pipe"
_CHECKPOINT_S = 30.0
_GATHERED_BYTES = 64 * 1024

_Many = Annotated[tuple[str, ...], Parameter(negative=())]


def export_command(
    file: StreamOrFile,
    *,
    passphrase_file: Path | None = None,
    recipient: _Many = (),
    asking: Asking = _HERE,
) -> None:
    """Write all connections, with their credentials, into a file that is sealed (age).

    It reads what the daemon has stored, with the daemon's configuration, keyring and NATS login.

    Parameters
    ----------
    file
        It replaces what is there, whole or not at all; - for stdout.
    passphrase_file
        Its text seals the file. Without it and a recipient it is asked for on the terminal.
    recipient
        A public key of age (age1...); may be repeated.
    """
    leave_no_core()
    configure_logs(level="error", as_json=False)
    to = _sealed_to(passphrase_file, recipient)
    settings = asking.settings()
    prefix = settings.service.prefix
    key_file = settings.keys.file or asking.folder() / KEYRING_FILE
    if settings.keys.file is None and not key_file.exists():
        _misuse(f"{key_file} is not there: give the daemon's --data-dir, or its --config")
    keyring = open_keyring(key_file, create=False)
    is_piped = file == _STANDARD
    count = 0
    head = Head(id=next(Uuid7Ids()), made_at=datetime.now(UTC), made_by=VERSION, prefix=prefix)

    async def export(link: NatsLink, _settings: Config) -> StoredState:
        state = StoredState(link, prefix, keyring, patience_s=_CHECKPOINT_S)

        async def lines() -> AsyncGenerator[bytes]:
            nonlocal count
            gathered = [encode(head)]
            async with contextlib.aclosing(state.connections()) as connections:
                async for kept in connections:
                    gathered.append(encode(kept))
                    count += 1
                    if sum(map(len, gathered)) > _GATHERED_BYTES:
                        yield b"".join(gathered)
                        gathered.clear()
            yield b"".join([*gathered, encode(End(connections=count))])

        with _whole_file(file) as out:
            await seal(lines(), to, out)
        return state

    state = run_linked(asking, export, inbox_prefix=DAEMON_INBOX)
    left_sealed = sum(state.unopened.values())
    told = {"connections": count, "file": file, "left_sealed": left_sealed} | _about(head)
    if is_piped:
        to_stderr(f"refreshd: {count} connections, in backup {head.id}")
    else:
        show_value(asking, told, show_fields)
    _complain(state)


def _complain(state: StoredState) -> None:
    """Exit with an error where the file lacks something."""
    for key, connections in state.unopened.items():
        to_stderr(
            f"refreshd: {connections} connections are sealed with key {key!r}, which is not in "
            "the keyring: they are in the file as they are, and only that key opens them"
        )
    if state.unreadable:
        to_stderr(f"refreshd: {state.unreadable} records cannot be read, and are not in the file")
    if state.unopened or state.unreadable:
        raise CommandError("the file lacks something", EXIT_ERROR)


def restore_command(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    *,
    passphrase_file: Path | None = None,
    identity_file: Path | None = None,
    asking: Asking = _HERE,
) -> None:
    """Bring the connections of an export back, into a state without any and with no daemon.

    They are sealed with the keyring that is there now, or one that is made. Broken off, the same
    command goes on.

    Parameters
    ----------
    file
        What export has written. It is read twice, so it cannot be standard input.
    passphrase_file
        What seals it. Without it and an identity it is asked for on the terminal.
    identity_file
        Private keys of age, one a line.
    """
    leave_no_core()
    configure_logs(level="error", as_json=False)
    if str(file) == _STANDARD:
        _misuse(_READ_TWICE)
    settings = asking.settings()
    by = _opened_by(passphrase_file, identity_file)
    try:
        with file.open("rb") as opened:
            if not opened.seekable():
                _misuse(_READ_TWICE)
            done = uvloop.run(restore(settings, asking.folder(), opened, by))
    except FileNotFoundError as error:
        if error.filename != str(file):
            raise
        raise CommandError(f"{file}: {error.strerror}", EXIT_USAGE) from None
    except (AgeError, ArchiveError) as error:
        raise CommandError(f"{file}: {error}", EXIT_USAGE) from None
    except NotEmptyError as error:
        raise CommandError(str(error), EXIT_CONFLICT) from None
    show_value(asking, {"connections": done.connections} | _about(done.head), show_fields)


def _about(head: Head) -> dict[str, Any]:
    return {
        "backup": str(head.id),
        "made_at": instant(head.made_at),
        "made_by": head.made_by,
        "prefix": head.prefix,
    }


def _sealed_to(passphrase_file: Path | None, recipients: tuple[str, ...]) -> PublicKeys | Secret:
    if recipients and passphrase_file is not None:
        _misuse("--recipient and --passphrase-file: one of both")
    if not recipients:
        return _passphrase(passphrase_file, "--recipient", is_new=True)
    try:
        return read_public(recipients)
    except AgeError as error:
        _misuse(f"--recipient: {error}")


def _opened_by(passphrase_file: Path | None, identity_file: Path | None) -> PrivateKeys | Secret:
    if identity_file is None:
        return _passphrase(passphrase_file, "--identity-file", is_new=False)
    if passphrase_file is not None:
        _misuse("--identity-file and --passphrase-file: one of both")
    try:
        return read_private(secret_of(identity_file, "--identity-file") or "")
    except AgeError as error:
        _misuse(f"--identity-file: {identity_file}: {error}")


def _passphrase(file: Path | None, other: str, *, is_new: bool) -> Secret:
    """Return the passphrase in a file, or ask for it."""
    text = secret_of(file, "--passphrase-file")
    if file is None:
        if not sys.stdin.isatty():
            _misuse(f"--passphrase-file or {other} is needed where there is no terminal")
        text = getpass.getpass("Passphrase: ")
        if is_new and text != getpass.getpass("Once more: "):
            _misuse("the two are not the same")
    if not text:
        _misuse("the passphrase is empty")
    return Secret(text.encode())


def _misuse(text: str) -> NoReturn:
    raise CommandError(text, EXIT_USAGE)


@contextlib.contextmanager
def _whole_file(file: str | Path) -> Generator[BinaryIO]:
    """Yield what becomes ``file``, for its owner alone, once it is whole and on disk."""
    if file == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", EXIT_USAGE) from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink()
        raise
    sync_folder(path.absolute().parent)
