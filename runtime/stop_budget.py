"""The time from SIGTERM to the end of the process, shared out."""

import math

import anyio

_ENDING_S_MAX = 4.0
_NATS_S_MAX = 2.0
_ENDING_PART = 1 / 3
_NATS_PART = 1 / 6


class StopBudget:
    """How long each part of a stop may take; all together ``grace_s``.

    Up to ``flights_s`` before the end the providers' answers are waited for, and what is decided is
    stored. Then the views catch up and answers go out. The last ``nats_s`` are for closing the
    connection and ending the embedded server.
    """

    def __init__(self, grace_s: float) -> None:
        """Make a budget that has not begun."""
        self._grace_s = grace_s
        self._ends_s = math.inf
        self._ending_s = min(_ENDING_S_MAX, grace_s * _ENDING_PART)
        self._nats_s = min(_NATS_S_MAX, grace_s * _NATS_PART)

    def begin(self) -> None:
        """Count from now on."""
        self._ends_s = anyio.current_time() + self._grace_s

    @property
    def flights_s(self) -> float:
        """How long flights and appends may still be waited for."""
        return self._left_s(self._ending_s)

    @property
    def ending_s(self) -> float:
        """How long views and answers may still be waited for."""
        return self._left_s(self._nats_s)

    @property
    def all_s(self) -> float:
        """How long until the end; without bound where it has not begun."""
        return self._left_s(0.0)

    def _left_s(self, kept_s: float) -> float:
        return max(self._ends_s - kept_s - anyio.current_time(), 0.0)
