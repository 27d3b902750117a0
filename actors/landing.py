"""What a flight is for, and what its callers are told where there is no new token."""

from typing import NamedTuple

import msgspec

from actors.client_gate import Closed
from domain.connection import ProviderConnection, RefreshIntent
from domain.decision import DATABASE_ERROR
from domain.exchange import Verdict
from domain.oauth_secret import OAuthSecret
from domain.profile import FailureClass
from domain.result import Failure, FailureCode
from domain.token_read import misconfigured


class Wish(NamedTuple):
    """What a flight is for: to present a token, or to store that the grant is over."""

    secret: OAuthSecret | None
    dead: Verdict | None
    was_rejected: bool = False
    """Whether a caller said that the present access token was rejected."""


def rebased(
    connection: ProviderConnection | None, intent: RefreshIntent, *, adopts: bool
) -> ProviderConnection | None:
    """Return what an outcome can be stored on, with our intent in it, or None."""
    if connection is None or connection.intent == intent:
        return connection
    if adopts and connection.is_active and connection.generation == intent.generation:
        return msgspec.structs.replace(connection, intent=intent)
    return None


def while_closed(closed: Closed) -> Failure:
    """Return the answer while the client must not ask."""
    left_s = round(closed.left_s, 1)
    if closed.failure_class is FailureClass.OPERATOR:
        return misconfigured(closed.reason, left_s)
    return Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message=closed.reason,
        needs_user_action=False,
        retry_after_s=max(left_s, 0.1),
    )


def database_error(cause: str) -> Failure:
    """Return the answer to a caller whose token could not be read or stored."""
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message=f"{DATABASE_ERROR}: {cause}",
        needs_user_action=False,
        retry_after_s=1.0,
    )
