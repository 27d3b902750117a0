"""Fixtures that every kind of test shares: a real nats-server, and daemons on it."""

import gc
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login, NatsLink, open_link
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS

ROOT = Path(__file__).parent.parent

# Programs that are started here say things in the order that they have on a fresh machine.
os.environ.pop("PYTHONUNBUFFERED", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts into the background so, and programs that are
    # started here would have it from us.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "thorough", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("default", settings.get_profile("thorough"), max_examples=40)
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


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Collect abandoned sockets while their warnings are passed over, not in somebody's test."""
    is_last = nextitem is None or nextitem.path != item.path
    if is_last and ABANDONS_SOCKETS.mark in item.iter_markers("filterwarnings"):
        gc.collect()


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
