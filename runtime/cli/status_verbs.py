"""``status``, and the verbs that tell what became of a connection: one request each."""

from typing import Any

from cyclopts import App

from runtime.cli.asking import Asking, as_token, ask, show_done
from runtime.cli.cluster_tables import show_status

_HERE = Asking()


def add_status_verbs(app: App) -> None:
    """Make the verbs known to the command line."""
    for verb in (status, expire, revoke, fail, synced, disconnect):
        app.command(verb)


def status(*, asking: Asking = _HERE) -> None:
    """Show the cluster, and the member that answers; exit 69 where none can be reached."""
    ask(asking, "status", None, show_status)


def expire(connection_id: str, *, reason: str | None = None, asking: Asking = _HERE) -> None:
    """Mark an active connection as expired; its credentials are kept."""
    _tell(asking, connection_id, "expire", {"reason": reason})


def revoke(connection_id: str, *, reason: str | None = None, asking: Asking = _HERE) -> None:
    """Mark an active connection as revoked; its credentials are kept for audit."""
    _tell(asking, connection_id, "revoke", {"reason": reason})


def fail(connection_id: str, *, reason: str | None = None, asking: Asking = _HERE) -> None:
    """Mark a pending connection as failed: its user did not get through."""
    _tell(asking, connection_id, "fail", {"reason": reason})


def synced(connection_id: str, *, asking: Asking = _HERE) -> None:
    """Note that the provider's data were just read through an active connection."""
    _tell(asking, connection_id, "synced", None)


def disconnect(connection_id: str, *, user_id: str, asking: Asking = _HERE) -> None:
    """End a connection for good and clear its credentials.

    Parameters
    ----------
    connection_id
        Its UUID.
    user_id
        The owner's UUID; nobody else may.
    """
    _tell(asking, connection_id, "disconnect", {"user_id": user_id})


def _tell(asking: Asking, connection_id: str, verb: str, body: dict[str, Any] | None) -> None:
    ask(asking, f"connection.{as_token(connection_id)}.{verb}", body, show_done)
