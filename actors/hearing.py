"""How well a daemon hears the others: only who hears can tell that somebody is silent.

It knows by its own heartbeats: those that come back could have been others'.
"""

import math

from actors.members import HEARTBEAT_S

_DEAF_S = 2.5 * HEARTBEAT_S
"""Without a heartbeat of its own for so long a daemon does not know who else is there."""
_BACK_S = 2.5 * HEARTBEAT_S
"""So long after it was silent a daemon takes it that the others may not have heard it again."""
_DEAF_TIMEOUTS = 3
"""After so many member time-outs without one it does not wait for that any more."""
_LISTENS_S = 1.5 * HEARTBEAT_S
"""So long it hears its own before it takes what nobody else is heard to own."""


class Hearing:
    """What has come back of a daemon's own heartbeats; all times are monotonic."""

    def __init__(self, timeout_s: float) -> None:
        """Have heard nothing.

        Args:
            timeout_s: After it a member that is not heard is gone.
        """
        self.heard_s = -math.inf
        """When the last heartbeat of ours was sent that has come back."""
        self._timeout_s = timeout_s
        self._began_s = -math.inf
        """When this daemon came; -inf: nobody can have been there before."""
        self._heard_since_s = -math.inf
        """From when on none that was missing let ``timeout_s`` pass."""
        self._back_s = -math.inf
        """Since when it is back that was silent for so long that others took it for gone."""
        self._listens_since_s = -math.inf
        """From when on nobody who is there can have gone unheard."""
        self._unheard = 0
        """How many heartbeats of ours were sent, one a second at most, since one came back: while
        this process stands still none is."""
        self._counted_s = -math.inf

    def begins(self, now_s: float) -> None:
        """Listen from now on, where others may have been before."""
        self._began_s = now_s

    def sent(self, now_s: float) -> None:
        """Know that one more heartbeat is on its way; those out of turn do not count."""
        if now_s - self._counted_s >= HEARTBEAT_S:
            self._unheard, self._counted_s = self._unheard + 1, now_s

    def came_back(self, sent_s: float) -> None:
        """Know when a heartbeat of ours was sent that has come back."""
        if sent_s - self.heard_s > self._timeout_s:
            # Meanwhile we may have been taken for gone: what is ours an append must tell.
            self._heard_since_s = sent_s
            if self.heard_s > -math.inf:
                self._back_s = sent_s
        if -math.inf < self.heard_s < sent_s - _DEAF_S:
            # Who has just come has listened before it took anything.
            self._listens_since_s = sent_s
        self.heard_s, self._unheard = max(self.heard_s, sent_s), 0

    def confirms(self, acknowledged_s: float, now_s: float) -> bool:
        """See ``actors.cluster.Cluster.confirms``."""
        if self.is_deaf:
            return now_s - acknowledged_s <= self._timeout_s
        if now_s - self.heard_s > self._timeout_s or now_s - self._back_s < _BACK_S:
            return False
        since_s = self._heard_since_s - self._timeout_s
        known_s = max(acknowledged_s, self.heard_s) if acknowledged_s >= since_s else acknowledged_s
        return now_s - known_s <= self._timeout_s

    @property
    def is_deaf(self) -> bool:
        """Whether no heartbeat ever comes in, not even ours: then silence tells nothing."""
        return self._unheard * HEARTBEAT_S > _DEAF_TIMEOUTS * self._timeout_s

    def hears(self, now_s: float) -> bool:
        """Whether those who are there would be heard: who was cut off or stopped listens first."""
        hears = now_s - self.heard_s <= _DEAF_S and now_s - self._listens_since_s >= _LISTENS_S
        return hears or self.is_deaf

    def knows_who_is_gone(self, now_s: float) -> bool:
        """Whether it has listened for so long that who was not heard answers nothing any more.

        An owner that was cut off just before answers from memory for ``timeout_s``.
        """
        since_s = max(self._began_s, self._listens_since_s)
        return self.is_deaf or now_s - since_s >= self._timeout_s
