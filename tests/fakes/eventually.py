"""The one way for a test to wait: ask again until it is so, or until time is up."""

from collections.abc import Awaitable, Callable

import anyio

_PAUSE_S = 0.005


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within_s: float = 10.0
) -> float:
    """Return how many seconds it took until ``condition`` was true.

    Raises:
        AssertionError: It was not within ``within_s``.
    """
    started_s = anyio.current_time()
    while True:
        result = condition()
        if result is True or (result is not False and await result):
            return anyio.current_time() - started_s
        assert anyio.current_time() - started_s < within_s, f"not so within {within_s} s"
        await anyio.sleep(_PAUSE_S)
