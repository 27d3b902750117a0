"""The two ways in which a command can end: a value, or a failure that changed nothing."""

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class FailureCode(StrEnum):
    """Why a command was refused: the wire's code words (DESIGN.md section 3)."""

    INVALID_COMMAND = "INVALID_COMMAND"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    UNKNOWN_PROVIDER = "UNKNOWN_PROVIDER"
    NOT_OWNED_BY_USER = "NOT_OWNED_BY_USER"
    CONNECTION_NOT_FOUND = "CONNECTION_NOT_FOUND"
    NOT_ACTIVE = "NOT_ACTIVE"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    NOT_REFRESHABLE = "NOT_REFRESHABLE"
    REAUTH_REQUIRED = "REAUTH_REQUIRED"
    TOO_LARGE = "TOO_LARGE"
    OVERLOADED = "OVERLOADED"
    DATABASE_ERROR = "DATABASE_ERROR"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_MISCONFIGURED = "PROVIDER_MISCONFIGURED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    REFRESH_IN_PROGRESS = "REFRESH_IN_PROGRESS"
    TIMED_OUT = "TIMED_OUT"

    @property
    def number(self) -> int:
        """The HTTP-like number that goes into ``Nats-Service-Error-Code``."""
        return _NUMBERS[self]


_NUMBERS = {
    FailureCode.INVALID_COMMAND: 400,
    FailureCode.INVALID_CREDENTIALS: 400,
    FailureCode.UNKNOWN_PROVIDER: 400,
    FailureCode.NOT_OWNED_BY_USER: 403,
    FailureCode.CONNECTION_NOT_FOUND: 404,
    FailureCode.NOT_ACTIVE: 409,
    FailureCode.INVALID_TRANSITION: 409,
    FailureCode.NOT_REFRESHABLE: 409,
    FailureCode.REAUTH_REQUIRED: 409,
    FailureCode.TOO_LARGE: 413,
    FailureCode.OVERLOADED: 429,
    FailureCode.DATABASE_ERROR: 503,
    FailureCode.PROVIDER_UNAVAILABLE: 503,
    FailureCode.PROVIDER_MISCONFIGURED: 503,
    FailureCode.SHUTTING_DOWN: 503,
    FailureCode.REFRESH_IN_PROGRESS: 504,
    FailureCode.TIMED_OUT: 504,
}


class Success(msgspec.Struct, Generic[T], frozen=True):
    """The command was carried out and gave ``value``."""

    value: T


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The command was refused; nothing that it asked for has happened.

    The one exception is ``DATABASE_ERROR`` where it was decided and is not known to be stored
    when the caller's time is up: the events then tell what became of it, and so does a repeat
    with the same ``Nats-Msg-Id``.
    """

    code: FailureCode
    message: str
    needs_user_action: bool | None = None
    """Whether only the user can mend it; None where the question does not arise."""
    retry_after_s: float | None = None
    detail: str | None = None
    """What is wrong in this very case, where the message says it in general. Quotes no secret."""


Result = Success[T] | Failure
