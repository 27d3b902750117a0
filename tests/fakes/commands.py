"""Commands as a caller would give them, on a handful of connections of one user."""

from typing import Literal
from uuid import UUID

from domain.commands import (
    ChangeStatus,
    Command,
    Connect,
    Disconnect,
    Get,
    MarkSynced,
    Refresh,
)
from domain.connection import ConnectionStatus
from domain.credentials import CredentialType, Secret, Unsealed

USER = UUID("00000000-0000-7000-8000-0000000000aa")
STRANGER = UUID("00000000-0000-7000-8000-0000000000bb")
PROVIDER = UUID("00000000-0000-7000-8000-0000000000cc")
SLUG = "schwab"

Kind = Literal[
    "connect",
    "connect_pending",
    "refresh",
    "refresh_with_nothing",
    "expire",
    "revoke",
    "fail",
    "sync",
    "disconnect",
    "disconnect_by_stranger",
    "get",
]


def connection_number(number: int) -> UUID:
    """Return the id of the connection that the tests call by a number."""
    return UUID(int=(7 << 76) | (2 << 62) | (0xC0 << 40) | number)


def secret(text: str) -> Unsealed:
    """Return OAuth credentials whose plaintext is ``text``."""
    return Unsealed(credential_type=CredentialType.OAUTH2, secret=Secret(text.encode()))


def connect(connection_id: UUID, text: str = "first", *, pending: bool = False) -> Connect:
    """Return a connect, with credentials unless it is pending."""
    return Connect(
        connection_id=connection_id,
        user_id=USER,
        provider_id=PROVIDER,
        provider_slug=SLUG,
        credentials=None if pending else secret(text),
        pending=pending,
    )


def refresh(connection_id: UUID, text: str = "next") -> Refresh:
    """Return a refresh with new credentials."""
    return Refresh(connection_id=connection_id, credentials=secret(text))


def get(connection_id: UUID) -> Get:
    """Return a read."""
    return Get(connection_id=connection_id)


def command(kind: Kind, connection_id: UUID, text: str) -> Command:
    """Return the command called ``kind``; ``text`` is the secret where it takes one."""
    commands: dict[Kind, Command] = {
        "connect": connect(connection_id, text),
        "connect_pending": connect(connection_id, pending=True),
        "refresh": refresh(connection_id, text),
        "refresh_with_nothing": Refresh(connection_id=connection_id, credentials=None),
        "expire": _change(connection_id, ConnectionStatus.EXPIRED),
        "revoke": _change(connection_id, ConnectionStatus.REVOKED),
        "fail": _change(connection_id, ConnectionStatus.FAILED),
        "sync": MarkSynced(connection_id=connection_id),
        "disconnect": Disconnect(connection_id=connection_id, user_id=USER),
        "disconnect_by_stranger": Disconnect(connection_id=connection_id, user_id=STRANGER),
        "get": get(connection_id),
    }
    return commands[kind]


def _change(connection_id: UUID, status: ConnectionStatus) -> ChangeStatus:
    return ChangeStatus(connection_id=connection_id, to_status=status, reason="for a test")
