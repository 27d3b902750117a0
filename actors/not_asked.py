"""Why an attempt whose intent was decided ends without a request: nothing that its provider did."""

from typing import NamedTuple

from actors.world import SHUTTING_DOWN, database_error
from domain.result import Failure, FailureCode


class NotAsked(NamedTuple):
    """What is told of such an attempt."""

    reason: str
    """In its Failed."""
    failure: Failure
    """To its callers."""


STORED_TOO_LATE = NotAsked(
    "The provider was not asked: the intent was not stored in time",
    database_error("the refresh was not noted in time, and the provider was not asked"),
)
NO_TURN = NotAsked(
    "The provider was not asked: by rate_per_s its turn did not come in time",
    Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message="The provider was not asked: by rate_per_s its turn did not come in time",
        needs_user_action=False,
        retry_after_s=1.0,
    ),
)
STOPPED = NotAsked("The provider was not asked: the daemon is being stopped", SHUTTING_DOWN)
