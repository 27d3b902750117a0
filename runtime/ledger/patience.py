"""How long a start waits for servers that have no leader yet."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.logs import log
from runtime.nats.errors import NoAnswerError
from runtime.nats.jetstream_api import NO_SUITABLE_PEERS, UNAVAILABLE, JetStreamError

_ELECTIONS_S = 30.0
"""An election takes up to ten seconds, and one may follow another."""
_PAUSE_S = 0.5
_PASSING = (UNAVAILABLE, NO_SUITABLE_PEERS)
"""No leader yet; or not as many servers as there are to be replicas, for one is away."""

T = TypeVar("T")


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what ``ask`` returns, which is called again while JetStream gives no answer.

    Raises:
        NoAnswerError, JetStreamError: There was none for half a minute.
        Exception: What else ``ask`` raises.
    """
    until_s = asyncio.get_running_loop().time() + _ELECTIONS_S
    while True:
        try:
            return await ask()
        except (NoAnswerError, JetStreamError) as error:
            is_passing = isinstance(error, NoAnswerError) or error.err_code in _PASSING
            if not is_passing or asyncio.get_running_loop().time() > until_s:
                raise
            log.warning("jetstream_does_not_answer", cause=str(error))
            await asyncio.sleep(_PAUSE_S)
