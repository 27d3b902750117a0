"""Fixtures of the fault tests: one cluster of three servers a module."""

from collections.abc import AsyncGenerator

import pytest

from tests.fakes.nats_cluster import NatsCluster, nats_cluster


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As everywhere, but for as long as the module's servers live."""
    return "asyncio"


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[NatsCluster]:
    """Three servers that are one cluster; what a test breaks the next one heals."""
    async with nats_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def cluster(servers: NatsCluster) -> NatsCluster:
    """Those servers, all of them running and up to date."""
    await servers.heal()
    return servers
