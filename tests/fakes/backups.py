"""Backups of a daemon's state: keys, files, and what is in them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyrage

from tests.fakes.refreshd_command import Ended, refreshd

_age: Any = pyrage
IDENTITY = str(_age.x25519.Identity.generate())
"""A private key."""


class Keys(NamedTuple):
    """A key pair of age's."""

    recipient: str
    identity_file: Path

    def lines(self, file: Path) -> list[dict[str, Any]]:
        """Return what is in a file, as anybody's age would show it."""
        identity = _age.x25519.Identity.from_str(self.identity_file.read_text().splitlines()[1])
        return [json.loads(one) for one in _age.decrypt(file.read_bytes(), [identity]).splitlines()]

    def seal(self, file: Path, text: bytes) -> Path:
        """Write a file that these open."""
        recipient = _age.x25519.Recipient.from_str(self.recipient)
        file.write_bytes(_age.encrypt(text, [recipient]))
        return file


def new_keys(folder: Path) -> Keys:
    """Return keys whose private one is in a file as age-keygen makes it."""
    identity = _age.x25519.Identity.generate()
    file = folder / "identity.txt"
    file.write_text(f"# public key: {identity.to_public()}\n{identity}\n")
    file.chmod(0o600)
    return Keys(str(identity.to_public()), file)


async def exported(file: Path, keys: Keys, *options: str, **environment: str) -> Ended:
    return await refreshd(
        *("export", str(file), "--recipient", keys.recipient, "-o", "json", *options),
        **environment,
    )


async def restored(file: Path, keys: Keys, *options: str, **environment: str) -> Ended:
    return await refreshd(
        *("restore", str(file), "--identity-file", str(keys.identity_file), "-o", "json"),
        *options,
        **environment,
    )
