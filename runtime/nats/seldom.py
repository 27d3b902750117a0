"""The lines of a log that tell the same again and again while something is away."""

import time
from collections import OrderedDict
from collections.abc import Callable

from runtime.logs import log

_PERIOD_S = 10.0
_CAUSES_MAX = 64


class Seldom:
    """Warns of each cause at once, and then once in ten seconds."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        """Have told nothing."""
        self._now = now
        self._told_s: OrderedDict[str, float] = OrderedDict()

    def warn(self, event: str, cause: str, **fields: object) -> None:
        """Log a warning, if it is due."""
        if self._is_due(cause):
            log.warning(event, cause=cause, **fields)

    def _is_due(self, cause: str) -> bool:
        """Whether ``cause`` is to be told now; if so, it is taken for told."""
        now_s = self._now()
        if now_s < self._told_s.get(cause, -_PERIOD_S) + _PERIOD_S:
            return False
        self._told_s[cause] = now_s
        self._told_s.move_to_end(cause)
        if len(self._told_s) > _CAUSES_MAX:
            self._told_s.popitem(last=False)
        return True
