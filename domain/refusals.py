"""How commands are refused: the seed's messages, and beside them what is wrong in this case."""

from domain.commands import Connect, Refresh
from domain.connection import ProviderConnection
from domain.result import Failure, FailureCode

CONNECTION_NOT_FOUND = "Connection not found"
INVALID_CREDENTIALS = "Invalid or missing credentials"
NOT_ACTIVE = "Connection is not active"
NOT_OWNED_BY_USER = "Connection not owned by user"


def not_found(*, needs_user_action: bool | None = None) -> Failure:
    """Return the answer where nothing is stored under an id."""
    return Failure(
        code=FailureCode.CONNECTION_NOT_FOUND,
        message=CONNECTION_NOT_FOUND,
        needs_user_action=needs_user_action,
    )


def invalid_credentials(command: Connect | Refresh) -> Failure:
    """Return the answer to credentials that cannot be used; it says what is wrong with them."""
    is_pending = isinstance(command, Connect) and command.pending
    return Failure(
        code=FailureCode.INVALID_CREDENTIALS,
        message=INVALID_CREDENTIALS,
        needs_user_action=False,
        detail="the connection is there already" if is_pending else command.unusable,
    )


def not_active(connection: ProviderConnection, *, needs_user_action: bool | None) -> Failure:
    """Return the answer to what only an ACTIVE connection allows; it names the status."""
    return Failure(
        code=FailureCode.NOT_ACTIVE,
        message=NOT_ACTIVE,
        needs_user_action=needs_user_action,
        detail=_status_of(connection),
    )


def not_owned() -> Failure:
    """Return the answer to somebody else than the connection's owner."""
    return Failure(code=FailureCode.NOT_OWNED_BY_USER, message=NOT_OWNED_BY_USER)


def invalid_transition(message: str, connection: ProviderConnection) -> Failure:
    """Return the answer where the state machine has no such step; it names the status."""
    return Failure(
        code=FailureCode.INVALID_TRANSITION, message=message, detail=_status_of(connection)
    )


def _status_of(connection: ProviderConnection) -> str:
    return f"the connection is {connection.status}"
