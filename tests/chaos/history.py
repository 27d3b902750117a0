"""What callers sent and were told, and whether what is stored and told agrees with it.

Each connection has one caller, which repeats a command under one message id until the answer is
definite. So of a command that was acknowledged it is known that it took effect once, and the state
in the end is that of the last one.
"""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import nats.errors

from runtime.fake_provider.provider import FakeProvider
from tests.fakes.daemon_process import Answer, PlainCaller
from tests.fakes.eventually import eventually

_CONNECTED = ["ProviderConnectionAttempted", "ProviderConnectionSucceeded"]
_ATTEMPTED, _SUCCEEDED = "ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"
_FAILED = "ProviderTokenRefreshFailed"


class History:
    """One run, over any number of daemons and servers."""

    def __init__(self, provider: FakeProvider) -> None:
        """Know of nothing yet; ``provider`` has the grants."""
        self._provider = provider
        self.ids: list[str] = []
        """Connections whose credentials callers replace."""
        self.grants: dict[str, str] = {}
        """Connections whose tokens the daemon refreshes, and each one's grant."""
        self.acknowledged: Counter[str] = Counter()
        self.last: dict[str, str] = {}
        """Until when the credentials are good that were acknowledged last."""
        self.unanswered: list[str] = []
        """Connections of which a caller has given up: nothing that passes takes so long."""
        self.refused: list[tuple[str, Answer]] = []
        """Answers that no fault explains."""
        self.in_doubt: set[str] = set()
        """Grants whose answer a kill has cut off: their token is kept back (ARCHITECTURE.md)."""
        self.gap_s = 0.0
        """How long the most unlucky caller waited for one command."""

    def acknowledge(self, connection_id: str, expires_at: str, took_s: float) -> None:
        """Note that a command has taken effect, and what it stored."""
        self.acknowledged[connection_id] += 1
        self.last[connection_id] = expires_at
        self.gap_s = max(self.gap_s, took_s)

    async def check(self, caller: PlainCaller, *, cuts_max: int = 0) -> None:
        """Compare with what is stored, what was told, and what the provider has in its book.

        Args:
            caller: Of any daemon.
            cuts_max: How many provider calls a kill may have cut off.
        """
        assert (self.refused, self.unanswered) == ([], [])
        await eventually(lambda: _is_answered(caller), within_s=30)
        stories = await caller.stories()
        await asyncio.gather(
            *(self._check_replaced(caller, one, stories[one]) for one in self.ids),
            *(self._check_grant(caller, one, stories[one]) for one in self.grants),
        )
        stats = self._provider.stats
        assert (stats.double_presentations, stats.reuses_detected, stats.families_revoked) == (
            (0, 0, 0)
        )
        assert len(self.in_doubt) <= cuts_max

    async def _check_replaced(
        self, caller: PlainCaller, connection_id: str, story: list[dict[str, Any]]
    ) -> None:
        stored = await caller.get(connection_id)
        assert (stored["generation"] - 1, connection_id) == (
            (self.acknowledged[connection_id], connection_id)
        )
        if connection_id in self.last:
            assert stored["credentials"]["expires_at"] == self.last[connection_id]
        _check_story(story, stored["generation"])

    async def _check_grant(
        self, caller: PlainCaller, connection_id: str, story: list[dict[str, Any]]
    ) -> None:
        generation = (await caller.get(connection_id))["generation"]
        grant = self._provider.book.get(self.grants[connection_id])
        assert grant is not None
        assert grant.revoked is None
        rotations = grant.generation - (connection_id in self.in_doubt)
        assert rotations <= generation - 1 <= grant.generation, connection_id
        assert generation - 1 >= self.acknowledged[connection_id]
        _check_story(story, generation)


async def _is_answered(caller: PlainCaller) -> bool:
    """Whether a daemon is there; after a fault callers may be connected before it is."""
    with contextlib.suppress(nats.errors.Error, TimeoutError):
        return (await caller.ask("status")).code == "ok"
    return False


def _check_story(story: list[dict[str, Any]], generation: int) -> None:
    """Assert that a connection's events are whole, each there once, and in order."""
    types = [event["type"] for event in story]
    assert types[:2] == _CONNECTED
    assert set(types[2::2]) <= {_ATTEMPTED}
    assert set(types[3::2]) <= {_SUCCEEDED, _FAILED}
    assert len(types) % 2 == 0
    assert types.count(_SUCCEEDED) == generation - 1
    ids = [event["id"] for event in story]
    # Version 7: in the order in which they were made.
    assert ids == sorted(set(ids))
    assert [event["_headers"]["Nats-Msg-Id"] for event in story] == ids
