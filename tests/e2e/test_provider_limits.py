"""A provider that limits, fails and comes back: left alone meanwhile, and never asked too often."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from runtime.fake_provider.server import running_fake_provider
from runtime.fake_provider.stats import Stats
from tests.fakes.daemon_process import PlainCaller, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, token, write_config
from tests.fakes.windows import is_kept

pytestmark = pytest.mark.anyio

CONNECTIONS = 40
PER_S, BURST, AT_ONCE = 20.0, 5, 4
COOL_S = 2
_BUNCHED = 3
"""So many requests may come closer to each other than they were sent, on a busy machine."""


class TimedStats(Stats):
    """Notes when each request came."""

    at_s: list[float] = msgspec.field(default_factory=list[float])

    def arrived(self) -> None:
        self.at_s.append(asyncio.get_running_loop().time())
        super().arrived()


async def _until_served(caller: PlainCaller, connection_id: str) -> None:
    async def is_served() -> bool:
        return (await token(caller, connection_id, timeout_ms=3000)).code == "ok"

    await eventually(is_served, within_s=60.0)


async def test_a_provider_that_limits_then_fails_then_is_back_is_asked_nothing_while_it_cools(
    tmp_path: Path,
):
    async with running_fake_provider() as provider:
        provider.stats = stats = TimedStats()
        config = write_config(
            tmp_path,
            provider,
            rate_per_s=str(PER_S),
            burst=str(BURST),
            max_concurrency=str(AT_ONCE),
        )
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            ids = [(await connect(caller, provider))[0] for _ in range(CONNECTIONS)]
            provider.quirks.set(
                {"status": 429, "body": "", "headers": {"Retry-After": str(COOL_S)}}
            )
            waiting = [asyncio.create_task(_until_served(caller, one)) for one in ids]
            await eventually(lambda: stats.calls >= 3)
            now_s = asyncio.get_running_loop().time
            await eventually(lambda: now_s() - stats.at_s[-1] > COOL_S / 2)
            limited, last_s = stats.calls, stats.at_s[-1]
            provider.quirks.set({"status": 503, "headers": {}})
            await eventually(lambda: stats.calls > limited)
            cooled_s = stats.at_s[limited] - last_s

            async def circuits() -> list[dict[str, object]]:
                return (await caller.ask("status")).body["ok"]["circuits"]

            async def is_open() -> bool:
                shown.extend(await circuits())
                return bool(shown)

            shown: list[dict[str, object]] = []
            await eventually(is_open)
            failed = stats.calls
            await asyncio.sleep(3.0)
            probes = stats.calls - failed
            provider.quirks.set({}, replace=True)
            async with asyncio.timeout(20):
                await asyncio.gather(*waiting)
            closed = await circuits()
            said = [line for line in daemon.said if "circuit_changed" in line]

    assert limited <= BURST + AT_ONCE
    assert cooled_s >= COOL_S - 0.1
    assert probes <= 6
    assert shown[0]["provider_slug"] == "fake"
    assert shown[0]["host"] == provider.url.removeprefix("http://")
    assert shown[0]["state"] in ("open", "half_open")
    assert closed == []
    assert len(said) == 2
    assert stats.concurrency_max <= AT_ONCE
    assert stats.successes == CONNECTIONS
    assert is_kept(stats.at_s, per_s=PER_S, burst=BURST + _BUNCHED)
