"""Of two daemons each shows the whole cluster on its page, and its own part in its metrics."""

import re
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.daemon_process import daemon_process, external_nats, plain_caller
from tests.fakes.eventually import eventually

pytestmark = pytest.mark.anyio
ANYWHERE = {"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
MANY = 24


def summed(texts: list[str], name: str) -> float:
    """Return the sum of a metric's samples."""
    return sum(
        sample.value
        for text in texts
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


async def test_both_pages_show_all_and_the_metrics_of_both_add_up(tmp_path: Path) -> None:
    async with external_nats(tmp_path) as server:
        there = (tmp_path / "data", "--nats", server.url)
        async with (
            daemon_process(*there, environment=ANYWHERE) as one,
            daemon_process(*there, environment=ANYWHERE) as two,
            plain_caller(server.url) as caller,
            httpx2.AsyncClient() as web,
        ):
            for _ in range(MANY):
                await caller.connect()

            async def read(path: str) -> list[str]:
                return [(await web.get(f"{at}{path}")).text for at in (one.http, two.http)]

            async def is_shown() -> bool:
                shown = re.compile(rf"<b>{MANY}</b>active")
                pages = await read("/")
                return all(
                    shown.search(page) is not None
                    and f"{MANY} of schwab are never refreshed" in page
                    and "nobody" not in page
                    and page.count(f"<code>{one.daemon_id}</code>") == 3
                    and page.count(f"<code>{two.daemon_id}</code>") == 3
                    for page in pages
                )

            async def adds_up() -> bool:
                texts = await read("/metrics")
                owned = summed(texts, "refreshd_partition_owned")
                return (owned, summed(texts, "refreshd_connections")) == (4, MANY)

            await eventually(is_shown, within_s=30)
            await eventually(adds_up, within_s=30)
            assert summed(await read("/metrics"), "refreshd_members") == 4
            for at in (one.http, two.http):
                assert (await web.get(f"{at}/readyz")).text == "ok\n"
