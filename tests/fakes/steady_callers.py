"""Callers that never stop asking, with message ids and retries, and keep books of every answer."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import nats.errors

from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from tests.fakes.daemon_process import CREDENTIALS, Answer, PlainCaller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect

_PAUSE_S = 0.02
_RETRY_S = 0.05
_PATIENCE_S = 3.0
_STALE_S = 5.0
"""For how long a daemon that hears nobody may show what it had in memory."""
_GONE = (nats.errors.Error, TimeoutError)
REFRESHED = ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]


class Gap(NamedTuple):
    """How long one caller waited for one answer that was no error."""

    took_s: float
    subject: str


class SteadyCallers:
    """One caller a connection, and one a rotating grant."""

    def __init__(self, caller: PlainCaller, provider: FakeProvider | None = None) -> None:
        self.caller = caller
        self.provider = provider
        self.acknowledged: Counter[str] = Counter()
        """Refreshes, by connection."""
        self.generations: dict[str, int] = {}
        """What the last token of each grant was told to be."""
        self.grants: dict[str, Issued] = {}
        self.errors: list[str] = []
        """Every answer that was none, or not ok."""
        self.stale: list[str] = []
        """Reads that did not show what was acknowledged before them."""
        self.gap = Gap(0.0, "")
        self.asked = 0
        self._is_over = False

    async def prepare(self, *, connections: int, grants: int = 0) -> None:
        ids = await asyncio.gather(*(self.caller.connect() for _ in range(connections)))
        self.acknowledged.update(dict.fromkeys(ids, 0))
        for _ in range(grants):
            assert self.provider is not None
            one, issued = await connect(self.caller, self.provider, lives_s=3600.0)
            self.grants[one], self.generations[one] = issued, 1

    @contextlib.asynccontextmanager
    async def busy(self) -> AsyncGenerator[None]:
        """Keep everybody asking while the body runs; let them finish afterwards."""
        self._is_over = False
        self.gap = Gap(0.0, "")
        working = [asyncio.create_task(self._refresh_on(one)) for one in self.acknowledged]
        working += [asyncio.create_task(self._rotate_on(one)) for one in self.grants]
        try:
            await self.more(3)
            yield
            await self.more(3)
        finally:
            self._is_over = True
            await asyncio.gather(*working)

    async def more(self, times: int) -> None:
        """Return when so many more were acknowledged, for each."""
        wanted = self.asked + times * (len(self.acknowledged) + len(self.grants))
        await eventually(lambda: self.asked >= wanted, within_s=30)

    async def check(self, *, may_be_stale: bool = False) -> None:
        """Compare what was acknowledged with what is stored, told, and in the provider's book."""
        assert may_be_stale or not self.stale
        stale_s = _STALE_S if may_be_stale else 0.0
        for one, times in self.acknowledged.items():
            await self._check(one, times, stale_s=stale_s)
        for one, issued in self.grants.items():
            assert self.provider is not None
            grant = self.provider.book.get(issued.grant_id)
            assert grant is not None
            assert grant.revoked is None
            assert 1 + grant.generation >= self.generations[one]
            await self._check(one, grant.generation, stale_s=stale_s)
        if self.provider is not None:
            assert self.provider.stats.double_presentations == 0
            assert self.provider.stats.families_revoked == 0

    async def _check(self, one: str, times: int, *, stale_s: float) -> None:
        """Check that a connection was refreshed so often, and that each time was told once."""

        async def is_shown() -> bool:
            answer = await self._until_ok(f"connection.{one}.get")
            return answer.body["ok"]["generation"] == 1 + times

        await eventually(is_shown, within_s=stale_s)
        told: list[dict[str, Any]] = []

        async def is_told() -> bool:
            told[:] = await self.caller.told(one)
            types = Counter(event["type"] for event in told)
            ended = types["ProviderTokenRefreshSucceeded"] + types["ProviderTokenRefreshFailed"]
            is_whole = types["ProviderTokenRefreshAttempted"] == ended
            return is_whole and types["ProviderTokenRefreshSucceeded"] >= times

        await eventually(is_told)
        steps = [event["type"].removeprefix("ProviderTokenRefresh") for event in told][2:]
        assert Counter(steps)["Succeeded"] == times, Counter(steps)
        assert len({event["id"] for event in told}) == len(told)
        under_way = 0
        for step in steps:
            # A command that was refused for an append that was unclear has its two events, too.
            under_way += {"Attempted": 1, "Succeeded": -1, "Failed": -1}[step]
            assert under_way in (0, 1, 2), steps
        assert under_way == 0, steps

    async def _refresh_on(self, one: str) -> None:
        number = 0
        while not self._is_over:
            number += 1
            headers = {"Nats-Msg-Id": f"{one}-{self.acknowledged[one]}-{number}"}
            body = {"credentials": CREDENTIALS}
            await self._until_ok(f"connection.{one}.refresh", body, headers=headers)
            self.acknowledged[one] += 1
            read = await self._until_ok(f"connection.{one}.get")
            if read.body["ok"]["generation"] != 1 + self.acknowledged[one]:
                self.stale.append(one)
            await asyncio.sleep(_PAUSE_S)

    async def _rotate_on(self, one: str) -> None:
        while not self._is_over:
            before = self.generations[one]
            answer = await self._until_ok(f"connection.{one}.token", {"if_generation": before})
            if answer.body["ok"]["generation"] <= before:
                self.stale.append(one)
            self.generations[one] = max(answer.body["ok"]["generation"], before)
            await asyncio.sleep(_PAUSE_S)

    async def _until_ok(self, subject: str, body: object = None, **options: Any) -> Answer:
        """Repeat a request, the same each time, until it is ok."""
        began_s = time.monotonic()
        while True:
            try:
                answer = await self.caller.ask(subject, body, timeout_s=_PATIENCE_S, **options)
            except _GONE as error:
                self.errors.append(f"{subject}: {type(error).__name__}")
            else:
                if answer.code == "ok":
                    self.asked += 1
                    self.gap = max(self.gap, Gap(time.monotonic() - began_s, subject))
                    return answer
                self.errors.append(f"{subject}: {answer.body['error']}")
            await asyncio.sleep(_RETRY_S)
