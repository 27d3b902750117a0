"""When and why a connection ended: as its command said, or by the provider's word.

Pure. Everybody who tells of it tells the same: ``explain``, ``list --needs-action`` and the page.
"""

from datetime import datetime
from typing import Protocol

from domain.connection import ConnectionStatus, Ended
from domain.profile import FailureClass

_GOING_ON = (ConnectionStatus.ACTIVE, ConnectionStatus.PENDING)


class _Failed(Protocol):
    @property
    def failure_class(self) -> FailureClass: ...
    @property
    def reason(self) -> str: ...
    @property
    def at(self) -> datetime: ...


class Standing(Protocol):
    """What is looked at of a connection."""

    @property
    def status(self) -> ConnectionStatus:
        """Where it stands."""
        ...

    @property
    def updated_at(self) -> datetime:
        """Of its last change."""
        ...

    @property
    def ended(self) -> Ended | None:
        """What the command said that ended it."""
        ...

    @property
    def trouble(self) -> _Failed | None:
        """Why its last refresh failed."""
        ...


def ending(connection: Standing) -> Ended | None:
    """Return when and why a connection ended; None: it has not.

    Of one that an earlier version's command ended no reason is stored: its last change was that.
    """
    if connection.status in _GOING_ON:
        return None
    if is_by_provider(connection):
        assert connection.trouble is not None
        return Ended(at=connection.trouble.at, reason=connection.trouble.reason)
    return connection.ended or Ended(at=connection.updated_at)


def is_by_provider(connection: Standing) -> bool:
    """Whether a connection has ended because its provider refused the grant."""
    trouble = connection.trouble
    return (
        connection.status is ConnectionStatus.EXPIRED
        and connection.ended is None
        and trouble is not None
        and trouble.failure_class is FailureClass.USER
    )
