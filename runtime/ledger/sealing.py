"""Sealing with AES-256-GCM under a keyring of one primary key and any number of older ones.

The associated data binds a ciphertext to its connection and generation. The nonce is 12
random bytes (NIST SP 800-38D section 8.2.2 allows 2^32 of them under one key).
"""

import base64
import contextlib
import os
import secrets
from collections.abc import Set as AbstractSet
from pathlib import Path
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from actors.ports import CannotUnsealError
from domain.credentials import Sealed, Secret
from runtime.nats.private_files import create_private_file
from runtime.private import ExposedError, refuse_unless_private

_KEY_BYTES = 32
_NONCE_BYTES = 12
_NONCES_AT_ONCE = 256


class KeyringError(Exception):
    """The keyring file cannot be used; the text names the file and never holds a key."""


class UnsealError(CannotUnsealError):
    """A ciphertext does not open: unknown key, wrong connection or generation, or damage."""


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    key: bytes
    """32 bytes; base64 in the file."""


class _KeyringFile(msgspec.Struct, forbid_unknown_fields=True):
    primary: str
    keys: list[_Key]


class Keyring:
    """Implements ``actors.ports.Sealer``."""

    def __init__(self, *, primary: str, keys: dict[str, bytes]) -> None:
        """Take keys of 32 bytes each; ``primary`` is the id of the one that seals."""
        self._primary = primary
        self._nonces: list[bytes] = []
        self.ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        """Show key ids only."""
        return f"Keyring(primary={self._primary!r}, keys={sorted(self.ciphers)})"

    def __contains__(self, key_id: str) -> bool:
        """Whether a key is in the ring."""
        return key_id in self.ciphers

    def joined(self, other: "Keyring") -> "Keyring":
        """Return a ring of the keys of both that seals with the other's primary key.

        Raises:
            KeyringError: They have different keys of one id.
        """
        for key_id in self.ids & other.ids:
            nonce = os.urandom(_NONCE_BYTES)
            try:
                self.ciphers[key_id].decrypt(
                    nonce, other.ciphers[key_id].encrypt(nonce, b"", None), None
                )
            except InvalidTag:
                raise KeyringError(
                    f"key {key_id!r} is another one than the daemon has: give a new key a new id"
                ) from None
        ring = Keyring(primary=other.primary, keys={})
        ring.ciphers = {**self.ciphers, **other.ciphers}
        return ring

    def become(self, other: "Keyring") -> None:
        """Seal and open as ``other`` does, for all who hold this ring."""
        self.ciphers, self._primary = other.ciphers, other.primary

    @property
    def ids(self) -> AbstractSet[str]:
        """The ids of all keys."""
        return self.ciphers.keys()

    @property
    def primary(self) -> str:
        """The id of the key that new secrets are sealed with."""
        return self._primary

    def seal(self, secret: Secret, *, connection_id: UUID, generation: int) -> Sealed:
        """Return ``secret`` sealed for exactly this connection and generation."""
        nonce = self._nonce()
        ciphertext = self.ciphers[self._primary].encrypt(
            nonce, secret.reveal(), _associated_data(connection_id, generation)
        )
        return Sealed(key_id=self._primary, nonce=nonce, ciphertext=ciphertext)

    def _nonce(self) -> bytes:
        """Return random bytes. Drawn many at once: a system call costs more than the encryption."""
        try:
            return self._nonces.pop()
        except IndexError:
            drawn = os.urandom(_NONCE_BYTES * _NONCES_AT_ONCE)
            ends = range(2 * _NONCE_BYTES, len(drawn) + 1, _NONCE_BYTES)
            self._nonces += [drawn[end - _NONCE_BYTES : end] for end in ends]
            return drawn[:_NONCE_BYTES]

    def unseal(self, sealed: Sealed, *, connection_id: UUID, generation: int) -> Secret:
        """Return the plaintext.

        Raises:
            UnsealError: Unknown key id, another connection's or generation's, or damaged.
        """
        cipher = self.ciphers.get(sealed.key_id)
        if cipher is None:
            raise UnsealError(f"no key {sealed.key_id!r} in the keyring")
        try:
            plaintext = cipher.decrypt(
                sealed.nonce, sealed.ciphertext, _associated_data(connection_id, generation)
            )
        except (InvalidTag, ValueError):
            raise UnsealError("the sealed secret does not open") from None
        return Secret(plaintext)


def open_keyring(path: Path, *, create: bool) -> Keyring:
    """Return the keyring in ``path``.

    Args:
        path: A JSON file ``{"primary": id, "keys": [{"id": id, "key": base64}]}``, mode 0600.
        create: Make one with a fresh key where there is none.

    Raises:
        KeyringError: Missing, open to others, malformed, or without its primary key.
    """
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                _create(path)
        refuse_unless_private(path)
        text = path.read_bytes()
    except OSError as error:
        raise KeyringError(f"{path}: {error.strerror}") from None
    except ExposedError as error:
        raise KeyringError(str(error)) from None
    try:
        file = msgspec.json.decode(text, type=_KeyringFile)
    except msgspec.MsgspecError as error:
        raise KeyringError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise KeyringError(f"{path}: it is not UTF-8") from None
    keys = {key.id: key.key for key in file.keys}
    if len(keys) != len(file.keys):
        raise KeyringError(f"{path}: two keys have one id")
    for key_id, key in keys.items():
        if len(key) != _KEY_BYTES:
            raise KeyringError(f"{path}: key {key_id!r} has {len(key)} bytes, not {_KEY_BYTES}")
    if file.primary not in keys:
        raise KeyringError(f"{path}: the primary key {file.primary!r} is not among the keys")
    return Keyring(primary=file.primary, keys=keys)


def _create(path: Path) -> None:
    """Write a keyring with one fresh key."""
    key_id = f"k-{secrets.token_hex(4)}"
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    content = msgspec.json.encode({"primary": key_id, "keys": [{"id": key_id, "key": key}]})
    create_private_file(path, msgspec.json.format(content, indent=2) + b"\n")


def _associated_data(connection_id: UUID, generation: int) -> bytes:
    return b"refreshd/1:%s:%d" % (connection_id.bytes, generation)
