"""Asks a refreshd daemon for access tokens, and makes and ends connections.

A library of its own: it knows nats-py, msgspec and what the daemon promises on the wire, and no
module of the daemon's. ``RefreshdAuth`` is in ``refreshd_client.httpx2`` and ``.httpx``.
"""

from refreshd_client.client import Refreshd
from refreshd_client.errors import (
    ConnectionNotFoundError,
    DatabaseError,
    InvalidCommandError,
    InvalidCredentialsError,
    InvalidTransitionError,
    LoginRefusedError,
    NoAnswerError,
    NoDaemonError,
    NotActiveError,
    NotAllowedError,
    NotConnectedError,
    NotOwnedByUserError,
    NotRefreshableError,
    OverloadedError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
    ReauthRequiredError,
    RefreshdError,
    RefreshInProgressError,
    ShuttingDownError,
    TimedOutError,
    TooLargeError,
    TryAgainError,
    UnknownProviderError,
)
from refreshd_client.values import AccessToken, Connected, Connection, Credentials, Trouble

__all__ = [
    "AccessToken",
    "Connected",
    "Connection",
    "ConnectionNotFoundError",
    "Credentials",
    "DatabaseError",
    "InvalidCommandError",
    "InvalidCredentialsError",
    "InvalidTransitionError",
    "LoginRefusedError",
    "NoAnswerError",
    "NoDaemonError",
    "NotActiveError",
    "NotAllowedError",
    "NotConnectedError",
    "NotOwnedByUserError",
    "NotRefreshableError",
    "OverloadedError",
    "ProviderMisconfiguredError",
    "ProviderUnavailableError",
    "ReauthRequiredError",
    "RefreshInProgressError",
    "Refreshd",
    "RefreshdError",
    "ShuttingDownError",
    "TimedOutError",
    "TooLargeError",
    "Trouble",
    "TryAgainError",
    "UnknownProviderError",
]
