"""Why a command was not carried out: one class for each code of the daemon, and three of ours.

Nothing here quotes a token: the daemon's messages do not, and ours name subjects alone.
"""

from typing import ClassVar


class RefreshdError(Exception):
    """A command was not carried out, or it is not known whether it was.

    This very class is raised for a code that this version does not know.
    """

    CODE: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        needs_user_action: bool | None = None,
        retry_after_s: float | None = None,
        detail: str | None = None,
    ) -> None:
        """Keep what the daemon told."""
        super().__init__(message)
        self.message = message
        """For people; the words may change."""
        self.code = code or self.CODE
        """The daemon's word; empty where no daemon has answered."""
        self.needs_user_action = needs_user_action
        """Whether nobody but the connection's user can mend it; None where that is no question."""
        self.retry_after_s = retry_after_s
        """When to repeat, seconds from now."""
        self.detail = detail
        """What is wrong in this very case, for people."""
        self.message_id: str | None = None
        """The ``Nats-Msg-Id`` of a command that changes something: give it to the repeat."""
        self.may_be_done = False
        """Whether the command may have been carried out all the same."""

    def __str__(self) -> str:
        """Return code, message and detail in one line."""
        return ": ".join(text for text in (self.code, self.message, self.detail) if text)


class TryAgainError(RefreshdError):
    """It may work later, without anybody's doing: what is repeated within the caller's time."""


class InvalidCommandError(RefreshdError):
    """A field is not what the command takes; the message names it."""

    CODE = "INVALID_COMMAND"


class InvalidCredentialsError(RefreshdError):
    """Credentials are null, empty or of an unknown type."""

    CODE = "INVALID_CREDENTIALS"


class UnknownProviderError(RefreshdError):
    """The token would have to be refreshed, and the daemon has no profile for its provider."""

    CODE = "UNKNOWN_PROVIDER"


class NotOwnedByUserError(RefreshdError):
    """The connection is another user's."""

    CODE = "NOT_OWNED_BY_USER"


class ConnectionNotFoundError(RefreshdError):
    """Nothing is stored under this id."""

    CODE = "CONNECTION_NOT_FOUND"


class NotActiveError(RefreshdError):
    """The connection is revoked, disconnected or otherwise not active."""

    CODE = "NOT_ACTIVE"


class InvalidTransitionError(RefreshdError):
    """The connection's status does not allow it, or it has ended for good."""

    CODE = "INVALID_TRANSITION"


class NotRefreshableError(RefreshdError):
    """There is nothing to refresh with."""

    CODE = "NOT_REFRESHABLE"


class ReauthRequiredError(RefreshdError):
    """The grant is dead: its user must sign in again."""

    CODE = "REAUTH_REQUIRED"


class TooLargeError(RefreshdError):
    """The credentials, or the message, are over the limit."""

    CODE = "TOO_LARGE"


class OverloadedError(TryAgainError):
    """The connection or the daemon has too much to do; not executed."""

    CODE = "OVERLOADED"


class DatabaseError(TryAgainError):
    """The store could not be read or written, or it is not known whether it was."""

    CODE = "DATABASE_ERROR"


class ProviderUnavailableError(TryAgainError):
    """No token now: the provider fails, or must not be asked before ``retry_after_s``."""

    CODE = "PROVIDER_UNAVAILABLE"


class ProviderMisconfiguredError(TryAgainError):
    """No token now: the provider refuses the daemon's client. An operator must mend it."""

    CODE = "PROVIDER_MISCONFIGURED"


class ShuttingDownError(TryAgainError):
    """The daemon ends; not executed."""

    CODE = "SHUTTING_DOWN"


class RefreshInProgressError(TryAgainError):
    """The time is up, and the refresh goes on: ask again."""

    CODE = "REFRESH_IN_PROGRESS"


class TimedOutError(TryAgainError):
    """The time was up before the command was begun; not executed."""

    CODE = "TIMED_OUT"


class NoAnswerError(TryAgainError):
    """It was sent and no answer came in time: whether it was carried out is not known."""


class NoDaemonError(TryAgainError):
    """No daemon listens there, or none that this user may ask; nothing has happened."""


class NotConnectedError(TryAgainError):
    """There is no connection to NATS; nothing was sent."""


class NotAllowedError(RefreshdError):
    """The NATS server refused it: the message names the right that this user lacks."""


class LoginRefusedError(NotAllowedError):
    """The NATS server does not take the user, the password or the key: trying again is no use."""


_BY_CODE = {
    kind.CODE: kind
    for base in (RefreshdError, TryAgainError)
    for kind in base.__subclasses__()
    if kind.CODE
}


def error_of(
    code: str,
    message: str,
    *,
    needs_user_action: bool | None,
    retry_after_s: float | None,
    detail: str | None,
) -> RefreshdError:
    """Return the daemon's failure as the exception that stands for its code."""
    return _BY_CODE.get(code, RefreshdError)(
        message,
        code=code,
        needs_user_action=needs_user_action,
        retry_after_s=retry_after_s,
        detail=detail,
    )
