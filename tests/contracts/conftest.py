"""One nats-server per module: every test uses connections of its own."""

from collections.abc import AsyncGenerator

import pytest

from runtime.ledger.streams import StreamSettings, ensure_streams
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login
from tests.fakes.faulty_link import FaultyLink

PREFIX = "refreshd.v1"
PARTITIONS = 3
RECORD_BYTES_MAX = 64 * 1024


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The real adapters are asyncio's; module-scoped, as the server is."""
    return "asyncio"


@pytest.fixture(scope="module")
async def nats_login(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Login]:
    """The login of a server that has the streams."""
    server = EmbeddedNats(tmp_path_factory.mktemp("server"), server_bin=None, port=None)
    try:
        login = await server.start()
        link = FaultyLink(login)
        await link.open()
        settings = StreamSettings(
            prefix=PREFIX,
            partitions=PARTITIONS,
            replicas=1,
            record_bytes_max=RECORD_BYTES_MAX,
            event_age_s_max=3600,
            event_bytes_max=64 * 1024 * 1024,
            event_duplicate_window_s=120,
        )
        await ensure_streams(link, settings)
        await link.close()
        yield login
    finally:
        await server.stop()


@pytest.fixture
async def link(nats_login: Login) -> AsyncGenerator[FaultyLink]:
    """A link of this test's own, which passes everything until told otherwise."""
    opened = FaultyLink(nats_login)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def module_link(nats_login: Login) -> AsyncGenerator[FaultyLink]:
    """A link for hypothesis, which runs many examples with the same fixtures."""
    opened = FaultyLink(nats_login)
    await opened.open()
    yield opened
    await opened.close()
