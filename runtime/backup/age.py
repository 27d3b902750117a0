"""Files in the age format (age-encryption.org/v1). The one place of pyrage.

To a key a file is a stream. Under a passphrase it is put together in memory, and what age makes
of the passphrase takes a second and 1 GiB by itself.
"""

import io
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, BinaryIO, NamedTuple

import pyrage
from anyio import from_thread, to_thread

from domain.credentials import Secret

_SLICE_BYTES = 256 * 1024
_HEAD_BYTES = 4 * 1024
_INTRO = b"age-encryption.org/v1\n"
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_PAYLOAD_WORDS = "decryption error"
"""What pyrage says where the passphrase has opened the header, and what follows is not genuine."""
_age: Any = pyrage
"""It has no types of its own."""


class AgeError(Exception):
    """It cannot be sealed or opened; the text holds nothing of what is in it."""


class PublicKeys(NamedTuple):
    """Each of them opens by itself what is sealed to them."""

    recipients: Sequence[Any]


class PrivateKeys(NamedTuple):
    """One of them opens it."""

    identities: Sequence[Any]


def read_public(texts: Sequence[str]) -> PublicKeys:
    """Return the keys that a file is to be sealed to.

    Raises:
        AgeError: One is no ``age1...``.
    """
    try:
        return PublicKeys([_age.x25519.Recipient.from_str(text) for text in texts])
    except _age.RecipientError:
        raise AgeError("not a public key of age (age1...)") from None


def read_private(text: str) -> PrivateKeys:
    """Return the private keys of a file as ``age-keygen`` writes it: one a line, and comments.

    Raises:
        AgeError: A line is neither, or there is no key.
    """
    lines = [line.strip() for line in text.splitlines()]
    try:
        identities = [
            _age.x25519.Identity.from_str(line)
            for line in lines
            if line and not line.startswith("#")
        ]
    except _age.IdentityError:
        identities = []
    if not identities:
        raise AgeError("not private keys of age (AGE-SECRET-KEY-1...), one a line")
    return PrivateKeys(identities)


async def seal(chunks: AsyncGenerator[bytes], to: PublicKeys | Secret, out: BinaryIO) -> None:
    """Write what ``chunks`` yields into ``out``, sealed; what they raise leaves no whole file.

    Raises:
        OSError: It cannot be written.
    """
    async with aclosing(chunks):
        if isinstance(to, Secret):
            plain = io.BytesIO()
            async for chunk in chunks:
                plain.write(chunk)
            passphrase = to.reveal().decode()
            out.write(
                await to_thread.run_sync(_age.passphrase.encrypt, plain.getvalue(), passphrase)
            )
            return
        reader, writer = _Reader(chunks), _Writer(out.write)
        try:
            await to_thread.run_sync(_age.encrypt_io, reader, writer, to.recipients)
        except (_age.EncryptError, OSError) as error:
            raise reader.error or writer.error or error from None


async def unseal(
    file: BinaryIO, by: PrivateKeys | Secret, take: Callable[[bytes], Coroutine[Any, Any, None]]
) -> None:
    """Hand what is sealed in ``file`` to ``take``, piece by piece; whatever that raises ends it.

    Each piece is genuine; that they are all of it is told by the return.

    Raises:
        AgeError: It is not opened by this, or damaged, or cut.
        OSError: It cannot be read.
    """
    _check_kind(file, by)
    if isinstance(by, Secret):
        passphrase, sealed = by.reveal().decode(), file.read()
        try:
            plain = await to_thread.run_sync(_age.passphrase.decrypt, sealed, passphrase)
        except _age.DecryptError as error:
            is_opened = str(error) == _PAYLOAD_WORDS
            raise AgeError(
                "damaged, or cut off" if is_opened else "another passphrase, or its head is damaged"
            ) from None
        for start in range(0, len(plain), _SLICE_BYTES):
            await take(plain[start : start + _SLICE_BYTES])
        return
    writer = _Writer(lambda data: from_thread.run(take, data))
    try:
        await to_thread.run_sync(_age.decrypt_io, file, writer, by.identities)
    except (_age.DecryptError, OSError) as error:
        if writer.error is not None:
            raise writer.error from None
        is_closed = isinstance(error, _age.DecryptError)
        raise AgeError(
            "sealed to another key, or its head is damaged" if is_closed else "damaged, or cut off"
        ) from None


def _check_kind(file: BinaryIO, by: PrivateKeys | Secret) -> None:
    """Return where a file may be opened by this, as far as its head tells; it is not moved on.

    Raises:
        AgeError: It is empty, not in the format, or sealed by the other kind.
    """
    begin = file.tell()
    head = file.read(_HEAD_BYTES)
    file.seek(begin)
    if not head:
        raise AgeError("it is empty")
    if head.startswith(_ARMOR):
        return
    if not head.startswith(_INTRO):
        raise AgeError("it is not a file in the age format, as `refreshd export` writes it")
    by_passphrase = head.removeprefix(_INTRO).startswith(b"-> scrypt ")
    if by_passphrase and not isinstance(by, Secret):
        raise AgeError("it is sealed with a passphrase: give --passphrase-file, and no key")
    if not by_passphrase and isinstance(by, Secret):
        raise AgeError("it is sealed to a key: give its private half by --identity-file")


class _Reader:
    """What a thread of pyrage's reads, from the event loop's side."""

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self.error: Exception | None = None
        """What was raised there: pyrage knows its text alone."""

    def read(self, size: int) -> bytes:
        try:
            while not self._rest:
                self._rest = from_thread.run(anext, self._chunks)
        except StopAsyncIteration:
            return b""
        except Exception as error:
            self.error = error
            raise
        read, self._rest = self._rest[:size], self._rest[size:]
        return read


class _Writer:
    """Where a thread of pyrage's writes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.error: Exception | None = None
        """What was raised there: pyrage knows its text alone."""

    def write(self, data: bytes) -> int:
        try:
            self._write(bytes(data))
        except Exception as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""
