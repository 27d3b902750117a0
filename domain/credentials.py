"""Credentials as they are stored: sealed bytes, what kind they are, until when they hold."""

from datetime import datetime
from enum import StrEnum

import msgspec


class CredentialType(StrEnum):
    """What a provider gave us for a user (seed: provider domain model)."""

    OAUTH2 = "oauth2"
    API_KEY = "api_key"
    LINK_TOKEN = "link_token"  # noqa: S105 -- the name of a kind, not a secret
    CERTIFICATE = "certificate"
    FILE_IMPORT = "file_import"
    CUSTOM = "custom"

    @property
    def is_refreshable(self) -> bool:
        """Whether credentials of this kind can be renewed without the user."""
        return self in (CredentialType.OAUTH2, CredentialType.LINK_TOKEN)


class Sealed(msgspec.Struct, frozen=True, kw_only=True, tag="sealed", gc=False):
    """A secret that this daemon sealed with AES-256-GCM under the key ``key_id``.

    The associated data is the connection's id and the generation it was stored as, so
    a ciphertext moved to another connection or replayed from an older one does not open.
    """

    key_id: str
    nonce: bytes
    ciphertext: bytes

    @property
    def size_bytes(self) -> int:
        """The number of bytes that the secret takes at rest."""
        return len(self.nonce) + len(self.ciphertext)

    def __repr__(self) -> str:
        """Tell the key and the size only."""
        return f"Sealed({self.size_bytes} bytes under {self.key_id!r})"


class Opaque(msgspec.Struct, frozen=True, kw_only=True, tag="opaque", gc=False):
    """Bytes that the caller sealed. Stored as they are; the daemon cannot read them."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """The number of bytes that the caller gave."""
        return len(self.data)

    def __repr__(self) -> str:
        """Tell the size only: a caller may have sealed nothing at all."""
        return f"Opaque({len(self.data)} bytes)"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of a connection's credentials, safe to store."""

    credential_type: CredentialType
    payload: Sealed | Opaque
    expires_at: datetime | None = None
    """When they lapse, aware UTC; None means never."""
    issued_at: datetime | None = None
    """When a provider issued them to us; None where they came from a caller."""
    redated_at: datetime | None = None
    """When our clock was first found to be behind ``issued_at``: they were issued before that."""
    client_id: str | None = None
    """The client that they were last known to belong to."""
    notes: tuple[str, ...] = ()
    """What was odd about the answer that they came in, or about themselves."""
    scope: str | None = None
    """What the provider granted, where that is less than was asked for and not too long."""


class Secret:
    """Plaintext that must not leave the process; it shows as ``***`` wherever it is printed."""

    __slots__ = ("_plaintext",)

    def __init__(self, plaintext: bytes) -> None:
        """Wrap ``plaintext``, the JSON text of the secret object."""
        self._plaintext = plaintext

    def reveal(self) -> bytes:
        """Return the plaintext; only a sealer has business here."""
        return self._plaintext

    def __repr__(self) -> str:
        """Show that there is a secret, and nothing of it."""
        return "***"

    def __reduce__(self) -> str:
        """Refuse to be pickled, or copied out of the process in any other way."""
        raise TypeError("a Secret cannot be pickled")


class Unsealed(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials as a caller gave them, on their way to be sealed."""

    credential_type: CredentialType
    secret: Secret
    expires_at: datetime | None = None

    def sealed_as(
        self, payload: Sealed, *, client_id: str | None = None, notes: tuple[str, ...] = ()
    ) -> Credentials:
        """Return these credentials with ``payload`` in place of the plaintext.

        Args:
            payload: The sealed secret.
            client_id: The client that they belong to, as far as is known.
            notes: What is odd about them.
        """
        return Credentials(
            credential_type=self.credential_type,
            payload=payload,
            expires_at=self.expires_at,
            client_id=client_id,
            notes=notes,
        )
