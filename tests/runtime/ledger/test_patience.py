"""A start waits for a cluster that elects its leaders, and for nothing else."""

from collections.abc import Awaitable, Callable

import pytest

from runtime.ledger import patience
from runtime.ledger.patience import answered
from runtime.nats.errors import NoAnswerError, NotAllowedError
from runtime.nats.jetstream_api import STREAM_NOT_FOUND, UNAVAILABLE, ApiErrorBody, JetStreamError


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """Return what raises these, one after the other, and then answers."""
    left = list(errors)

    async def ask() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return ask


def refused(code: int) -> JetStreamError:
    return JetStreamError(ApiErrorBody(err_code=code))


async def test_servers_that_have_no_leader_are_asked_again():
    ask = failing(NoAnswerError("no answer in time"), refused(UNAVAILABLE))

    assert await answered(ask) == "answer"


@pytest.mark.parametrize("error", [refused(STREAM_NOT_FOUND), NotAllowedError("not allowed")])
async def test_what_no_election_changes_is_told_at_once(error: Exception):
    with pytest.raises(type(error)):
        await answered(failing(error))


async def test_a_cluster_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patience, "_ELECTIONS_S", -1.0)

    with pytest.raises(NoAnswerError, match="the first"):
        await answered(failing(NoAnswerError("the first"), NoAnswerError("the second")))
