"""One suite, two worlds: streams in memory and a real nats-server, with the same faults before."""

import itertools
from collections.abc import AsyncGenerator

import pytest

from runtime.ledger.streams import ensure_streams
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login, open_link
from tests.fakes.ledger_worlds import LedgerWorld, MemoryWorld, RealWorld
from tests.fakes.stream_settings import settings_of

PARTITIONS = 64
_numbers = itertools.count()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The real streams are asyncio's; module-scoped, as the server is."""
    return "asyncio"


@pytest.fixture(scope="module")
async def nats_login(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Login]:
    """The login of a server that has the streams, and forgets message ids after a second."""
    server = EmbeddedNats(tmp_path_factory.mktemp("server"), server_bin=None, port=None)
    try:
        login = await server.start()
        async with open_link(login, name="contracts") as link:
            settings = settings_of(
                PARTITIONS, event_bytes_max=64 * 1024 * 1024, event_duplicate_window_s=1
            )
            await ensure_streams(link, settings)
        yield login
    finally:
        await server.stop()


@pytest.fixture(params=["memory", "real"])
async def world(request: pytest.FixtureRequest, nats_login: Login) -> AsyncGenerator[LedgerWorld]:
    """A partition that nobody has used yet."""
    if request.param == "memory":
        yield MemoryWorld()
        return
    async with open_link(nats_login, name="contracts") as link:
        yield RealWorld(link, next(_numbers) % PARTITIONS)
