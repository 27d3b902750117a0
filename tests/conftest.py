"""Fixtures that every kind of test shares: a real nats-server, and daemons on it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login, NatsLink, open_link

ROOT = Path(__file__).parent.parent

settings.register_profile(
    "default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# Few examples, the same in each run, and none made smaller: each mutant costs a run of the tests.
settings.register_profile(
    "mutation",
    settings.get_profile("default"),
    max_examples=20,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("default")


@pytest.fixture
def anyio_backend() -> str:
    """The runtime is asyncio's; tests of the actors choose trio themselves."""
    return "asyncio"


@pytest.fixture
async def nats_login(tmp_path: Path) -> AsyncGenerator[Login]:
    """The login of a fresh nats-server with JetStream, synced on each write."""
    server = EmbeddedNats(tmp_path / "server", server_bin=None, port=None)
    try:
        yield await server.start()
    finally:
        await server.stop()


@pytest.fixture
async def link(nats_login: Login) -> AsyncGenerator[NatsLink]:
    """A connected link to that server."""
    async with open_link(nats_login, name="test") as opened:
        yield opened
